//! An access key of AWS.

use brokle_identity::Secret;
use serde::Deserialize;

/// What requests are signed with.
#[derive(Debug)]
pub(crate) struct AwsCredential {
    pub(crate) access_key_id: String,
    pub(crate) secret_access_key: Secret,
    /// Of temporary credentials.
    pub(crate) session_token: Option<Secret>,
    /// Where neither plugin nor connection names one.
    pub(crate) region: Option<String>,
}

#[derive(Deserialize)]
struct Written {
    #[serde(alias = "AccessKeyId", alias = "aws_access_key_id")]
    access_key_id: String,
    #[serde(alias = "SecretAccessKey", alias = "aws_secret_access_key")]
    secret_access_key: String,
    #[serde(alias = "SessionToken", alias = "aws_session_token")]
    session_token: Option<String>,
    region: Option<String>,
}

const EXPECTED: &str =
    "'access_key_id:secret_access_key[:session_token]' or JSON with these members is expected";

impl AwsCredential {
    /// Reads a connection's secret.
    ///
    /// # Errors
    /// What is expected; nothing of what is there.
    pub(crate) fn parse(secret: &str) -> Result<Self, &'static str> {
        let written = match super::json::<Written>(secret, EXPECTED) {
            Some(written) => written?,
            None => {
                let mut parts = secret.trim().splitn(3, ':').map(str::to_owned);
                let (Some(access_key_id), Some(secret_access_key)) = (parts.next(), parts.next()) else {
                    return Err(EXPECTED);
                };
                Written { access_key_id, secret_access_key, session_token: parts.next(), region: None }
            }
        };
        let visible = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        let session_token = written.session_token.filter(|token| !token.is_empty());
        if !written.access_key_id.bytes().all(|byte| byte.is_ascii_alphanumeric())
            || !visible(&written.access_key_id)
            || !visible(&written.secret_access_key)
            || session_token.as_deref().is_some_and(|token| !visible(token))
        {
            return Err(EXPECTED);
        }
        Ok(Self {
            access_key_id: written.access_key_id,
            secret_access_key: Secret::new(written.secret_access_key),
            session_token: session_token.map(Secret::new),
            region: written.region.filter(|region| !region.is_empty()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        let read = |text: &str| {
            let one = AwsCredential::parse(text).unwrap();
            let token = one.session_token.as_ref().map(|token| token.expose().to_owned());
            (one.access_key_id, one.secret_access_key.expose().to_owned(), token, one.region)
        };
        let plain = ("AKID".to_owned(), "se/c+ret=".to_owned(), None, None);
        assert_eq!(read(" AKID:se/c+ret=\n"), plain);
        assert_eq!(read(r#"{"access_key_id":"AKID","secret_access_key":"se/c+ret="}"#), plain);
        let token = Some("tok/en==".to_owned());
        assert_eq!(read("AKID:se/c+ret=:tok/en=="), (plain.0.clone(), plain.1.clone(), token.clone(), None));
        let json = r#"{"AccessKeyId":"AKID","SecretAccessKey":"se/c+ret=","SessionToken":"tok/en==","Expiration":"x","region":"eu-west-1"}"#;
        assert_eq!(read(json), (plain.0, plain.1, token, Some("eu-west-1".to_owned())));
    }

    #[test]
    fn what_is_none_is_told_without_its_content() {
        for text in [
            "",
            "AKID",
            "AKID:",
            ":secret",
            "AK ID:hunter2",
            "AKID:hun\nter2",
            r#"{"access_key_id":"hunter2"}"#,
            r#"{"access_key_id":["hunter2"],"secret_access_key":"x"}"#,
            "{hunter2",
        ] {
            let error = AwsCredential::parse(text).unwrap_err();
            assert!(!error.contains("hunter2"), "{text}");
        }
        let one = AwsCredential::parse("AKID:hunter2").unwrap();
        assert!(!format!("{one:?}").contains("hunter2"));
    }
}
