//! Requests to the upstreams that the manifest names.
//!
//! ```no_run
//! use brokle_plugin::host::http;
//!
//! # fn checked() -> Result<bool, http::Error> {
//! let response = http::Request::post("checker", "/v1/check")
//!     .header("content-type", "application/json")
//!     .bearer("token")
//!     .body(br#"{"text":"hello"}"#)
//!     .send()?;
//! # Ok(response.status == 200) }
//! ```

use crate::bindings::capabilities::brokle::host::http;
use crate::prelude::*;
pub use http::{BasicCredential, Credential, Error, Header, HeaderCredential, Request, Response};

impl Request {
    /// A request to an upstream of the manifest, with a path that begins with `/`.
    pub fn new(method: &str, upstream: &str, path: &str) -> Self {
        Self {
            upstream: upstream.to_owned(),
            host: None,
            method: method.to_owned(),
            path: path.to_owned(),
            headers: Vec::new(),
            credential: Credential::None,
            body: Vec::new(),
        }
    }

    /// `GET`
    pub fn get(upstream: &str, path: &str) -> Self {
        Self::new("GET", upstream, path)
    }

    /// `POST`
    pub fn post(upstream: &str, path: &str) -> Self {
        Self::new("POST", upstream, path)
    }

    /// One of the upstream's hosts, where it has several.
    #[must_use]
    pub fn host(mut self, host: &str) -> Self {
        self.host = Some(host.to_owned());
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push(Header { name: name.to_owned(), value: value.to_owned() });
        self
    }

    /// Has the host put a secret in as a bearer token.
    #[must_use]
    pub fn bearer(mut self, secret: &str) -> Self {
        self.credential = Credential::Bearer(secret.to_owned());
        self
    }

    /// Has the host put a secret in as it should be.
    #[must_use]
    pub fn credential(mut self, credential: Credential) -> Self {
        self.credential = credential;
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self
    }

    /// Sends it and waits for the whole response.
    ///
    /// # Errors
    /// Not granted, or there is no response. A status of 400 and more is a response.
    pub fn send(&self) -> Result<Response, Error> {
        http::send(self)
    }
}
