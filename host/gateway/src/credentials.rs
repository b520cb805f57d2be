//! Credentials that are more than a word: what a connection's secret holds for each scheme, and the tokens that are
//! bought with them.
//!
//! | scheme | the secret |
//! |---|---|
//! | `sigv4` | `access_key_id:secret_access_key[:session_token]`, or JSON with these members (AWS's own `AccessKeyId`, … too) and `region` |
//! | `client-credentials` | `client_id:client_secret`, or JSON with these members, `token_url` and `token_endpoint_auth_method` (`client_secret_basic`, the default, or `client_secret_post`) |
//! | `service-account` | the key file as it is downloaded: JSON with `client_email`, `private_key` (PEM, RSA of 2,048 bits or more), `private_key_id`, `token_uri` |
//!
//! What can't be read is told by its place and never by its content.

mod aws;
mod oauth;
mod service_account;
mod tokens;

pub(crate) use aws::AwsCredential;
pub(crate) use tokens::Tokens;

/// The secret's JSON form, if it has one. The reason says nothing of what is in it.
fn json<T: serde::de::DeserializeOwned>(secret: &str, what: &'static str) -> Option<Result<T, &'static str>> {
    let text = secret.trim();
    text.starts_with('{').then(|| serde_json::from_str(text).map_err(|_| what))
}
