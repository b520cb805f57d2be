//! AWS Signature Version 4, over the request that is really sent ("Create a signed AWS API request", AWS IAM User Guide).
//!
//! Written here rather than taken from the `aws-sigv4` crate: that one brings AWS's runtime, type and credential crates
//! with it for some hundred lines of text and HMAC, and `ring` is here already. It is held to AWS's published suite.
//!
//! Signed are `host`, `content-type` and every `x-amz-` header; other headers may be touched by a proxy. The path is
//! normalized and encoded once more, and the query sorted, as every service but S3 wants it: S3's own variant isn't
//! offered. `x-amz-date` and `x-amz-security-token` are set here, whatever was there.

use chrono::{DateTime, Utc};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use http::{Request, Uri};
use ring::{digest, hmac};

use super::Segments;
use super::encode::{decoded, percent};
use crate::credentials::AwsCredential;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

/// Who signs, and for what.
pub(super) struct Signer<'a> {
    pub(super) credential: &'a AwsCredential,
    pub(super) region: &'a str,
    pub(super) service: &'a str,
    pub(super) now: DateTime<Utc>,
}

/// Whether a header is part of the signature wherever it comes from, so that only we may say what is in it.
pub(super) fn is_amz(name: &HeaderName) -> bool {
    name.as_str().starts_with("x-amz-")
}

impl Signer<'_> {
    /// Signs. Nothing of the request may change afterwards.
    ///
    /// # Errors
    /// What can't be put into a header; never a part of the credential.
    pub(super) fn sign(&self, request: &mut Request<Segments>) -> Result<(), &'static str> {
        let host = host_header(request.uri()).ok_or("the host can't be sent")?;
        let timestamp = self.timestamp();
        let date = HeaderValue::from_str(&timestamp).map_err(|_| "the time can't be sent")?;
        let headers = request.headers_mut();
        headers.insert(HOST, host);
        headers.insert(DATE, date);
        headers.remove(SECURITY_TOKEN);
        if let Some(token) = &self.credential.session_token {
            let mut token =
                HeaderValue::from_str(token.expose()).map_err(|_| "no header can hold its session token")?;
            token.set_sensitive(true);
            headers.insert(SECURITY_TOKEN, token);
        }
        let headers = request.headers();
        let mut signed: Vec<(&str, Vec<u8>)> = Vec::new();
        for name in headers.keys().filter(|name| *name == HOST || *name == CONTENT_TYPE || is_amz(name)) {
            let values: Vec<Vec<u8>> =
                headers.get_all(name).iter().map(|value| canonical_value(value.as_bytes())).collect();
            signed.push((name.as_str(), values.join(&b","[..])));
        }
        let mut payload = digest::Context::new(&digest::SHA256);
        request.body().parts().for_each(|part| payload.update(part));
        let uri = request.uri();
        let canonical = Canonical {
            method: request.method().as_str(),
            path: uri.path(),
            query: uri.query().unwrap_or_default(),
            headers: signed,
            payload: &hex(payload.finish().as_ref()),
        };
        let mut value = HeaderValue::from_str(&self.authorization(canonical))
            .map_err(|_| "no header can hold its access key")?;
        value.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, value);
        Ok(())
    }

    fn timestamp(&self) -> String {
        self.now.format("%Y%m%dT%H%M%SZ").to_string()
    }

    /// The value of `Authorization`.
    fn authorization(&self, canonical: Canonical<'_>) -> String {
        let timestamp = self.timestamp();
        let (date, _) = timestamp.split_once('T').unwrap_or_default();
        let scope = format!("{date}/{}/{}/aws4_request", self.region, self.service);
        let (request, names) = canonical.text();
        let request = hex(digest::digest(&digest::SHA256, &request).as_ref());
        let to_sign = format!("{ALGORITHM}\n{timestamp}\n{scope}\n{request}");
        let first = zeroize::Zeroizing::new(format!("AWS4{}", self.credential.secret_access_key.expose()));
        let mut key = keyed(first.as_bytes(), date);
        for part in [self.region, self.service, "aws4_request"] {
            key = keyed(key.as_ref(), part);
        }
        let signature = hex(keyed(key.as_ref(), &to_sign).as_ref());
        let id = &self.credential.access_key_id;
        format!("{ALGORITHM} Credential={id}/{scope}, SignedHeaders={names}, Signature={signature}")
    }
}

/// What is signed of a request.
struct Canonical<'a> {
    method: &'a str,
    path: &'a str,
    query: &'a str,
    /// Names in lower case, with their canonical values.
    headers: Vec<(&'a str, Vec<u8>)>,
    /// The body's SHA-256, in hex.
    payload: &'a str,
}

impl Canonical<'_> {
    /// The canonical request, and the names of its headers.
    fn text(mut self) -> (Vec<u8>, String) {
        self.headers.sort();
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| *name).collect();
        let names = names.join(";");
        let mut text =
            format!("{}\n{}\n{}\n", self.method, canonical_path(self.path), canonical_query(self.query))
                .into_bytes();
        for (name, value) in &self.headers {
            text.extend_from_slice(name.as_bytes());
            text.push(b':');
            text.extend_from_slice(value);
            text.push(b'\n');
        }
        text.extend_from_slice(format!("\n{names}\n{}", self.payload).as_bytes());
        (text, names)
    }
}

/// Without empty and dotted segments, each of the others encoded.
fn canonical_path(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            segment => segments.push(segment),
        }
    }
    let mut text = String::with_capacity(path.len() + 8);
    for segment in &segments {
        text.push('/');
        percent(&mut text, segment.as_bytes());
    }
    let open = matches!(path.rsplit('/').next(), Some("" | "." | ".."));
    if open || segments.is_empty() {
        text.push('/');
    }
    text
}

/// Names and values encoded in one way, sorted by name, then value.
fn canonical_query(query: &str) -> String {
    let encoded = |part: &str| {
        let mut text = String::with_capacity(part.len());
        percent(&mut text, &decoded(part));
        text
    };
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let mut pairs: Vec<(String, String)> =
        pairs.map(|(name, value)| (encoded(name), encoded(value))).collect();
    pairs.sort();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

/// Without space around it, and one space where there were several.
fn canonical_value(value: &[u8]) -> Vec<u8> {
    let mut text: Vec<u8> = Vec::with_capacity(value.len());
    for &byte in value.trim_ascii() {
        if byte != b' ' || text.last() != Some(&b' ') {
            text.push(byte);
        }
    }
    text
}

/// As the client would send it: with the port where it isn't the scheme's own.
fn host_header(uri: &Uri) -> Option<HeaderValue> {
    let host = uri.host()?;
    let usual = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    match uri.port_u16().filter(|port| *port != usual) {
        Some(port) => HeaderValue::from_str(&format!("{host}:{port}")).ok(),
        None => HeaderValue::from_str(host).ok(),
    }
}

fn keyed(key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
