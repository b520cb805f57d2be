//! The license as it is written: a compact JWS (RFC 7515), `HEADER.CLAIMS.SIGNATURE` in unpadded base64url.
//!
//! The header is `{"alg":"EdDSA","typ":"brokle-license+jwt","kid":"…"}`, these three members and no other: there is no
//! `jwk`, `jku`, `x5u` or `crit` to be led astray by, and no second algorithm to be confused with (RFC 8725). `kid` is a key
//! of the root of trust with the role `license`. The claims are those of [`Claims`]; unknown ones are refused, since `v`
//! says what to expect. At most 16 KiB.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::serde::{ts_seconds, ts_seconds_option};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::tiers::Tier;
use crate::trust::{KeyId, LICENSE_TYPE, PublicKey, SecretKey};

/// The largest license that is read, in bytes.
pub const MAX_LICENSE: usize = 16 << 10;
/// The version of the claims that this host reads.
const VERSION: u32 = 1;
const ALGORITHM: &str = "EdDSA";
const ISSUER: &str = "brokle";
const AUDIENCE: &str = "brokle-host";
/// More days than any license has: sums of dates stay within what a date can show.
const MAX_DAYS: u32 = 36_500;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    typ: String,
    kid: KeyId,
}

/// What a license says. Dates are seconds since the Unix epoch (RFC 7519, `NumericDate`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// 1.
    pub v: u32,
    /// `brokle`.
    pub iss: String,
    /// `brokle-host`.
    pub aud: String,
    /// The customer's id.
    pub sub: String,
    /// The customer's name, for people.
    pub customer: String,
    /// This license's id, by which it can be revoked.
    pub jti: String,
    /// When it was issued.
    #[serde(with = "ts_seconds")]
    pub iat: DateTime<Utc>,
    /// From when on it holds.
    #[serde(with = "ts_seconds")]
    pub nbf: DateTime<Utc>,
    /// When it ends.
    #[serde(with = "ts_seconds")]
    pub exp: DateTime<Utc>,
    /// What was bought.
    pub tier: Tier,
    /// Where it holds.
    #[serde(default)]
    pub bind: Bind,
    /// What is added to the tier (`true`) or taken from it (`false`).
    #[serde(default)]
    pub entitlements: BTreeMap<String, bool>,
    /// Limits that differ from the tier's, `seats` among them: `null` is unlimited, 0 is none.
    #[serde(default)]
    pub limits: BTreeMap<String, Option<u64>>,
    /// How many days all goes on after `exp`.
    #[serde(default = "days_30")]
    pub grace_days: u32,
    /// How many days before `exp` it is told.
    #[serde(default = "days_30")]
    pub warn_days: u32,
    /// How many days after `exp` even older paid components no longer load; never fewer than `grace_days`.
    #[serde(default = "days_60")]
    pub term_days: u32,
    /// Components built until then load, when that is later than `exp`.
    #[serde(default, with = "ts_seconds_option", skip_serializing_if = "Option::is_none")]
    pub updates_until: Option<DateTime<Utc>>,
    /// Not paid for.
    #[serde(default)]
    pub trial: bool,
}

fn days_30() -> u32 {
    30
}

fn days_60() -> u32 {
    60
}

/// Where a license holds. An empty list is anywhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bind {
    /// Ids of installations, as `brokle license show` prints them.
    pub instances: Vec<String>,
    /// Ids of organizations.
    pub organizations: Vec<String>,
}

/// A token taken apart. Its claims are believed once [`Token::holds`] says so.
#[derive(Debug)]
pub struct Token<'a> {
    /// The key that it claims to be signed with.
    pub kid: KeyId,
    /// What it claims.
    pub claims: Claims,
    signed: &'a str,
    signature: [u8; 64],
}

/// Why a text is no license.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MalformedLicense(pub String);

impl<'a> Token<'a> {
    /// Takes a token apart. White space at its ends is forgiven, since files end with a line break.
    ///
    /// # Errors
    /// When it is not exactly of the form above. Never panics, whatever the text is.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, MalformedLicense> {
        let malformed = |text: &str| MalformedLicense(text.to_owned());
        if bytes.len() > MAX_LICENSE {
            return Err(MalformedLicense(format!("{} bytes; {MAX_LICENSE} are the most", bytes.len())));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| malformed("it isn't text"))?.trim_ascii();
        let mut parts = text.split('.');
        let (Some(header), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(malformed("three parts with dots between them are expected"));
        };
        let decode = |part: &str, name: &str| {
            URL_SAFE_NO_PAD.decode(part).map_err(|_| MalformedLicense(format!("the {name} isn't base64url")))
        };
        let header: Header = serde_json::from_slice(&decode(header, "header")?)
            .map_err(|error| MalformedLicense(format!("the header: {error}")))?;
        if header.alg != ALGORITHM {
            return Err(MalformedLicense(format!("'alg' is {:?}; only {ALGORITHM} is taken", header.alg)));
        }
        if header.typ != LICENSE_TYPE {
            return Err(MalformedLicense(format!("'typ' is {:?}; only {LICENSE_TYPE} is taken", header.typ)));
        }
        let signed = text.get(..text.len() - signature.len() - 1).unwrap_or_default();
        let signature = decode(signature, "signature")?;
        let signature = signature.try_into().map_err(|_| malformed("an Ed25519 signature has 64 bytes"))?;
        let claims: Claims = serde_json::from_slice(&decode(claims, "claims")?)
            .map_err(|error| MalformedLicense(format!("the claims: {error}")))?;
        claims.check()?;
        Ok(Self { kid: header.kid, claims, signed, signature })
    }

    /// Whether this key signed it.
    #[must_use]
    pub fn holds(&self, key: &PublicKey) -> bool {
        self.kid == key.id() && key.verifies(self.signed.as_bytes(), &self.signature)
    }
}

impl Claims {
    /// A license with the defaults of each member.
    #[must_use]
    pub fn new(customer: &str, jti: &str, tier: Tier, iat: DateTime<Utc>, exp: DateTime<Utc>) -> Self {
        Self {
            v: VERSION,
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: customer.to_owned(),
            customer: customer.to_owned(),
            jti: jti.to_owned(),
            iat,
            nbf: iat,
            exp,
            tier,
            bind: Bind::default(),
            entitlements: BTreeMap::new(),
            limits: BTreeMap::new(),
            grace_days: days_30(),
            warn_days: days_30(),
            term_days: days_60(),
            updates_until: None,
            trial: false,
        }
    }

    /// Signs it.
    ///
    /// # Errors
    /// When the claims are contradictory.
    pub fn sign(&self, key: &SecretKey) -> Result<String, MalformedLicense> {
        self.check()?;
        let header =
            Header { alg: ALGORITHM.to_owned(), typ: LICENSE_TYPE.to_owned(), kid: key.public().id() };
        let encode = |json: Result<Vec<u8>, serde_json::Error>| {
            json.map(|json| URL_SAFE_NO_PAD.encode(json)).map_err(|error| MalformedLicense(error.to_string()))
        };
        let signed =
            format!("{}.{}", encode(serde_json::to_vec(&header))?, encode(serde_json::to_vec(self))?);
        let signature = URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes()));
        Ok(format!("{signed}.{signature}"))
    }

    fn check(&self) -> Result<(), MalformedLicense> {
        let no = |text: String| Err(MalformedLicense(text));
        if self.v != VERSION {
            return no(format!(
                "it has claims of version {}; this host reads {VERSION}. Use a newer host.",
                self.v
            ));
        }
        if (self.iss.as_str(), self.aud.as_str()) != (ISSUER, AUDIENCE) {
            return no(format!("'iss' is {ISSUER} and 'aud' is {AUDIENCE} in a license"));
        }
        if self.jti.is_empty() || self.sub.is_empty() {
            return no("'jti' and 'sub' must not be empty".to_owned());
        }
        if self.nbf >= self.exp {
            return no("it ends before it starts".to_owned());
        }
        if [self.grace_days, self.warn_days, self.term_days].iter().any(|days| *days > MAX_DAYS) {
            return no(format!("more than {MAX_DAYS} days"));
        }
        // Dates that can't be added to.
        let far = TimeDelta::days(i64::from(MAX_DAYS) * 2);
        if [self.iat, self.nbf, self.exp]
            .iter()
            .any(|date| date.checked_add_signed(far).is_none() || date.checked_sub_signed(far).is_none())
        {
            return no("a date is out of range".to_owned());
        }
        Ok(())
    }

    /// The end after which components no longer load: `exp`, or `updates_until` if that is later.
    #[must_use]
    pub fn updates_end(&self) -> DateTime<Utc> {
        self.updates_until.map_or(self.exp, |until| until.max(self.exp))
    }
}
