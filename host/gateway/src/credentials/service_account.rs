//! A service account's key, and the assertion that is signed with it (RFC 7523, section 3; RFC 7519; RS256 of RFC 7518).

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use brokle_identity::Secret;
use chrono::{DateTime, TimeDelta, Utc};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};

/// How long an assertion is good: what Google takes at most.
const LIFE: TimeDelta = TimeDelta::hours(1);

/// A key file, read.
#[derive(Debug)]
pub(super) struct ServiceAccount {
    client_email: String,
    private_key: Secret,
    private_key_id: Option<String>,
    /// Where tokens are bought, if the file says so.
    pub(super) token_uri: Option<String>,
}

#[derive(Deserialize)]
struct Written {
    #[serde(rename = "type")]
    kind: Option<String>,
    client_email: String,
    private_key: String,
    private_key_id: Option<String>,
    #[serde(alias = "token_url")]
    token_uri: Option<String>,
}

/// The assertion's header (RFC 7515).
#[derive(Serialize)]
struct Header<'a> {
    alg: &'static str,
    typ: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<&'a str>,
}

/// What it says (RFC 7523, section 3; the scope is Google's).
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'a str>,
    iat: i64,
    exp: i64,
}

const EXPECTED: &str = "a service account's key file (JSON with client_email and private_key) is expected";
const KEY: &str = "its private_key is no RSA key of 2,048 bits or more, in PEM";

impl ServiceAccount {
    /// Reads a connection's secret.
    ///
    /// # Errors
    /// What is expected; nothing of what is there.
    pub(super) fn parse(secret: &str) -> Result<Self, &'static str> {
        let written = super::json::<Written>(secret, EXPECTED).ok_or(EXPECTED)??;
        let kind = written.kind.as_deref();
        if kind.is_some_and(|kind| kind != "service_account") || written.client_email.is_empty() {
            return Err(EXPECTED);
        }
        Ok(Self {
            client_email: written.client_email,
            private_key: Secret::new(written.private_key),
            private_key_id: written.private_key_id,
            token_uri: written.token_uri.filter(|url| !url.is_empty()),
        })
    }

    /// The request's form: the grant, and the assertion that this account wants this scope.
    ///
    /// # Errors
    /// The key can't sign.
    pub(super) fn request(
        &self,
        scope: &str,
        audience: &str,
        now: DateTime<Utc>,
    ) -> Result<String, &'static str> {
        let assertion = self.assertion(scope, audience, now)?;
        Ok(format!("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion={assertion}"))
    }

    fn assertion(&self, scope: &str, audience: &str, now: DateTime<Utc>) -> Result<String, &'static str> {
        let header = Header { alg: "RS256", typ: "JWT", kid: self.private_key_id.as_deref() };
        let claims = Claims {
            iss: &self.client_email,
            aud: audience,
            scope: Some(scope).filter(|scope| !scope.is_empty()),
            iat: now.timestamp(),
            exp: (now + LIFE).timestamp(),
        };
        // Neither has anything that JSON can't hold.
        let part = |json: serde_json::Result<Vec<u8>>| {
            json.map(|json| BASE64_URL_SAFE_NO_PAD.encode(json)).map_err(|_| EXPECTED)
        };
        let text = format!("{}.{}", part(serde_json::to_vec(&header))?, part(serde_json::to_vec(&claims))?);
        let key = self.key()?;
        let mut signature = vec![0; key.public().modulus_len()];
        let signed = key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature);
        signed.map_err(|_| "its private_key can't sign")?;
        Ok(format!("{text}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)))
    }

    fn key(&self) -> Result<RsaKeyPair, &'static str> {
        match PrivateKeyDer::from_pem_slice(self.private_key.expose().as_bytes()).map_err(|_| KEY)? {
            PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).map_err(|_| KEY),
            PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()).map_err(|_| KEY),
            _ => Err(KEY),
        }
    }
}

#[cfg(test)]
mod tests {
    use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
    use serde_json::json;

    use super::*;

    /// Of the tests of `brokle:host/crypto`.
    const PEM: &str = include_str!("../../../runtime/tests/capabilities/keys/rsa-2048.pem");

    fn account(more: &serde_json::Value) -> Result<ServiceAccount, &'static str> {
        let mut file = json!({"type": "service_account", "client_email": "a@b.example", "private_key": PEM, "private_key_id": "k1"});
        for (name, value) in more.as_object().unwrap() {
            file[name] = value.clone();
        }
        ServiceAccount::parse(&serde_json::to_string_pretty(&file).unwrap())
    }

    #[test]
    fn an_assertion_is_signed_by_the_key() {
        let account = account(&json!({"token_uri": "https://t.example/token"})).unwrap();
        assert_eq!(account.token_uri.as_deref(), Some("https://t.example/token"));
        let now = "2026-03-01T10:00:00Z".parse().unwrap();
        let form = account.request("scope a", "https://aud.example/", now).unwrap();
        let assertion = form
            .strip_prefix("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=")
            .unwrap();
        let parts: Vec<Vec<u8>> =
            assertion.split('.').map(|part| BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).collect();
        let read = |part: &[u8]| serde_json::from_slice::<serde_json::Value>(part).unwrap();
        assert_eq!(read(&parts[0]), json!({"alg": "RS256", "typ": "JWT", "kid": "k1"}));
        let begun = now.timestamp();
        let claims = json!({"iss": "a@b.example", "aud": "https://aud.example/", "scope": "scope a", "iat": begun, "exp": begun + 3_600});
        assert_eq!(read(&parts[1]), claims);
        let key = account.key().unwrap();
        let public = RsaPublicKeyComponents::<Vec<u8>>::from(key.public());
        let (signed, _) = assertion.rsplit_once('.').unwrap();
        public.verify(&RSA_PKCS1_2048_8192_SHA256, signed.as_bytes(), &parts[2]).unwrap();
        assert!(!format!("{account:?}").contains("PRIVATE"));
    }

    #[test]
    fn what_is_none_is_told_without_its_content() {
        for text in ["", "hunter2", "{}", r#"{"client_email":"a","private_key":["hunter2"]}"#] {
            assert_eq!(ServiceAccount::parse(text).unwrap_err(), EXPECTED, "{text}");
        }
        assert_eq!(account(&json!({"type": "authorized_user"})).unwrap_err(), EXPECTED);
        for key in ["hunter2", "-----BEGIN PRIVATE KEY-----\nMTIz\n-----END PRIVATE KEY-----\n"] {
            let account = account(&json!({"private_key": key})).unwrap();
            assert_eq!(account.request("", "", DateTime::UNIX_EPOCH).unwrap_err(), KEY);
        }
    }
}
