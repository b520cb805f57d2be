//! The opening handshake (RFC 6455, section 4), at both ends.
//!
//! Browsers can't set headers, so OpenAI's clients send the key there as one of the subprotocols they offer:
//! `openai-insecure-api-key.KEY`. It is read here, and neither answered nor passed on; no more are the ones that name an
//! account (`openai-organization.`, `openai-project.`), which is the connection's business. Of the others the provider
//! chooses, and the caller is answered that; `realtime` if the provider chose none.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use brokle_core::random::Random;
use http::header::{
    CONNECTION, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::refusal::Refusal;

const KEY: &str = "openai-insecure-api-key.";
/// What is for us, and not for the provider.
const OURS: [&str; 3] = [KEY, "openai-organization.", "openai-project."];
/// What OpenAI's service answers.
const USUAL: &str = "realtime";
/// The most subprotocols that are looked at.
const MAX_PROTOCOLS: usize = 16;

/// The key among the subprotocols that a caller offers.
#[must_use]
pub fn key_in_protocols(headers: &HeaderMap) -> Option<&str> {
    offered(headers).find_map(|protocol| protocol.strip_prefix(KEY))
}

fn offered(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(SEC_WEBSOCKET_PROTOCOL).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|one| !one.is_empty()).take(MAX_PROTOCOLS)
}

/// The connection isn't one that can be upgraded, or the request doesn't ask for it.
pub(super) fn no_upgrade() -> Refusal {
    let message = "Sessions are opened by a WebSocket handshake: Upgrade: websocket, version 13.";
    Refusal::client(426, "upgrade_required", message)
}

/// What an answer of 426 says beside.
pub(super) fn wants_upgrade() -> HeaderMap {
    HeaderMap::from_iter([
        (UPGRADE, HeaderValue::from_static("websocket")),
        (CONNECTION, HeaderValue::from_static("upgrade")),
        (SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13")),
    ])
}

/// What a caller asks with.
pub(super) struct Offer {
    accept: String,
    protocols: Vec<String>,
}

impl Offer {
    /// Reads a caller's handshake.
    ///
    /// # Errors
    /// 426 when it isn't one, of this version.
    pub(super) fn read(headers: &HeaderMap) -> Result<Self, Refusal> {
        let has = |name, wanted: &str| {
            let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
            lines.flat_map(|line| line.split(',')).any(|token| token.trim().eq_ignore_ascii_case(wanted))
        };
        let key = headers.get(SEC_WEBSOCKET_KEY).and_then(|key| key.to_str().ok()).unwrap_or_default().trim();
        let is_key = BASE64.decode(key).is_ok_and(|nonce| nonce.len() == 16);
        if !has(UPGRADE, "websocket")
            || !has(CONNECTION, "upgrade")
            || !has(SEC_WEBSOCKET_VERSION, "13")
            || !is_key
        {
            return Err(no_upgrade());
        }
        let passed = |one: &&str| !OURS.iter().any(|ours| one.starts_with(ours));
        let protocols = offered(headers).filter(passed).map(str::to_owned).collect();
        Ok(Self { accept: derive_accept_key(key.as_bytes()), protocols })
    }

    /// The answer's headers.
    pub(super) fn accept(&self, chosen: Option<&str>) -> HeaderMap {
        let mut headers = wants_upgrade();
        headers.remove(SEC_WEBSOCKET_VERSION);
        headers.extend(HeaderValue::from_str(&self.accept).ok().map(|value| (SEC_WEBSOCKET_ACCEPT, value)));
        let usual = || self.protocols.iter().map(String::as_str).find(|one| *one == USUAL);
        if let Some(protocol) =
            chosen.or_else(usual).and_then(|protocol| HeaderValue::from_str(protocol).ok())
        {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        headers
    }
}

/// What we ask a provider with.
pub(super) struct Asking<'a> {
    offer: &'a Offer,
    key: String,
}

impl<'a> Asking<'a> {
    pub(super) fn new(offer: &'a Offer, random: &dyn Random) -> Self {
        let mut nonce = [0; 16];
        random.fill(&mut nonce);
        Self { offer, key: BASE64.encode(nonce) }
    }

    pub(super) fn write(&self, headers: &mut HeaderMap) {
        headers.extend(wants_upgrade());
        headers.extend(HeaderValue::from_str(&self.key).ok().map(|value| (SEC_WEBSOCKET_KEY, value)));
        if !self.offer.protocols.is_empty()
            && let Ok(value) = HeaderValue::from_str(&self.offer.protocols.join(", "))
        {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, value);
        }
    }

    /// Checks a provider's answer; the subprotocol that it chose.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<Option<String>, &'static str> {
        let accepted = headers.get(SEC_WEBSOCKET_ACCEPT).and_then(|value| value.to_str().ok());
        if accepted != Some(derive_accept_key(self.key.as_bytes()).as_str()) {
            return Err("its Sec-WebSocket-Accept isn't the request's");
        }
        let Some(chosen) = headers.get(SEC_WEBSOCKET_PROTOCOL) else { return Ok(None) };
        let known = chosen.to_str().ok().filter(|one| self.offer.protocols.iter().any(|known| known == one));
        known.map(|one| Some(one.to_owned())).ok_or("it chose a subprotocol that wasn't offered")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(protocols: &[&str]) -> HeaderMap {
        let mut headers = wants_upgrade();
        // RFC 6455, section 1.3.
        headers.insert(SEC_WEBSOCKET_KEY, HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="));
        for protocol in protocols {
            headers.append(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_str(protocol).unwrap());
        }
        headers
    }

    #[test]
    fn the_key_is_read_and_goes_nowhere() {
        let asked = headers(&[
            "realtime, openai-insecure-api-key.bk_a",
            "openai-project.p",
            "openai-beta.realtime-v1",
        ]);
        assert_eq!(key_in_protocols(&asked), Some("bk_a"));
        let offer = Offer::read(&asked).unwrap();
        assert_eq!(offer.protocols, ["realtime", "openai-beta.realtime-v1"]);
        let answered = offer.accept(None);
        assert_eq!(answered[SEC_WEBSOCKET_PROTOCOL], "realtime");
        assert_eq!(answered[SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let asking = Asking::new(&offer, &brokle_core::random::SystemRandom);
        let mut written = HeaderMap::new();
        asking.write(&mut written);
        assert!(!format!("{written:?}{answered:?}").contains("bk_a"));
        assert!(asking.check(&answered).is_err(), "the answer to another's key");
    }

    #[test]
    fn what_isnt_a_handshake_is_told_how_to_make_one() {
        assert!(Offer::read(&headers(&[])).is_ok());
        for name in [UPGRADE, CONNECTION, SEC_WEBSOCKET_VERSION, SEC_WEBSOCKET_KEY] {
            let mut less = headers(&[]);
            less.remove(&name);
            assert_eq!(Offer::read(&less).err().map(|refusal| refusal.status), Some(426), "{name}");
        }
        let mut short = headers(&[]);
        short.insert(SEC_WEBSOCKET_KEY, HeaderValue::from_static("dGhl"));
        assert!(Offer::read(&short).is_err());
    }
}
