//! A client's id and secret (RFC 6749, section 2.3.1).

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use brokle_identity::Secret;
use http::HeaderValue;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::egress::form_value;

/// What an access token is bought with.
#[derive(Debug)]
pub(super) struct ClientCredential {
    client_id: String,
    client_secret: Secret,
    /// Where, if the credential names it.
    pub(super) token_url: Option<String>,
    method: Method,
}

/// How a client shows who it is, by the names of OpenID Connect Discovery.
#[derive(Debug, Default, Clone, Copy, Deserialize)]
enum Method {
    #[default]
    #[serde(rename = "client_secret_basic")]
    Basic,
    #[serde(rename = "client_secret_post")]
    Post,
}

#[derive(Deserialize)]
struct Written {
    client_id: String,
    client_secret: String,
    #[serde(alias = "token_uri")]
    token_url: Option<String>,
    #[serde(default)]
    token_endpoint_auth_method: Method,
}

const EXPECTED: &str = "'client_id:client_secret' or JSON with these members is expected";

impl ClientCredential {
    /// Reads a connection's secret.
    ///
    /// # Errors
    /// What is expected; nothing of what is there.
    pub(super) fn parse(secret: &str) -> Result<Self, &'static str> {
        let written = match super::json::<Written>(secret, EXPECTED) {
            Some(written) => written?,
            None => {
                let (client_id, client_secret) = secret.trim().split_once(':').ok_or(EXPECTED)?;
                Written {
                    client_id: client_id.to_owned(),
                    client_secret: client_secret.to_owned(),
                    token_url: None,
                    token_endpoint_auth_method: Method::Basic,
                }
            }
        };
        if written.client_id.is_empty() || written.client_secret.is_empty() {
            return Err(EXPECTED);
        }
        Ok(Self {
            client_id: written.client_id,
            client_secret: Secret::new(written.client_secret),
            token_url: written.token_url.filter(|url| !url.is_empty()),
            method: written.token_endpoint_auth_method,
        })
    }

    /// The request for a token (section 4.4.2): its `Authorization`, where there is one, and its form.
    pub(super) fn request(&self, scope: &str) -> (Option<HeaderValue>, String) {
        let mut form = "grant_type=client_credentials".to_owned();
        if !scope.is_empty() {
            form.push_str("&scope=");
            form.push_str(&form_value(scope));
        }
        let (id, secret) =
            (form_value(&self.client_id), Zeroizing::new(form_value(self.client_secret.expose())));
        match self.method {
            Method::Basic => {
                let pair = Zeroizing::new(format!("{id}:{}", *secret));
                let value = Zeroizing::new(format!("Basic {}", BASE64_STANDARD.encode(pair.as_bytes())));
                // Base64 is always a header's value.
                let mut value = HeaderValue::from_str(&value).ok();
                value.iter_mut().for_each(|value| value.set_sensitive(true));
                (value, form)
            }
            Method::Post => (None, format!("{form}&client_id={id}&client_secret={}", *secret)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_shows_itself_as_it_is_told_to() {
        let basic = ClientCredential::parse("my id:s:e/c").unwrap();
        let (header, form) = basic.request("https://example.com/.default a");
        assert_eq!(form, "grant_type=client_credentials&scope=https%3A%2F%2Fexample.com%2F.default%20a");
        let header = header.unwrap();
        assert_eq!(
            header.to_str().unwrap(),
            format!("Basic {}", BASE64_STANDARD.encode("my%20id:s%3Ae%2Fc"))
        );
        assert!(header.is_sensitive());

        let post = r#"{"client_id":"a","client_secret":"b&","token_url":"https://x/","token_endpoint_auth_method":"client_secret_post"}"#;
        let post = ClientCredential::parse(post).unwrap();
        assert_eq!(post.token_url.as_deref(), Some("https://x/"));
        let (header, form) = post.request("");
        assert_eq!(
            (header, form.as_str()),
            (None, "grant_type=client_credentials&client_id=a&client_secret=b%26")
        );
    }

    #[test]
    fn what_is_none_is_told_without_its_content() {
        let method = r#"{"client_id":"a","client_secret":"b","token_endpoint_auth_method":"hunter2"}"#;
        for text in ["", "hunter2", ":hunter2", "a:", r#"{"client_id":"hunter2"}"#, method] {
            assert_eq!(ClientCredential::parse(text).unwrap_err(), EXPECTED, "{text}");
        }
        assert!(!format!("{:?}", ClientCredential::parse("a:hunter2").unwrap()).contains("hunter2"));
    }
}
