//! The one decision: does this host run these bytes?
//!
//! In this order, and the first no is the answer:
//! 1. the bytes are those that were inspected (`PLUGIN_HASH_MISMATCH`);
//! 2. this very file wasn't revoked (`PLUGIN_REVOKED`), whatever else speaks for it;
//! 3. a component of the binary itself is as trusted as the binary;
//! 4. a component without an envelope runs when it is pinned by digest, or in development (`PLUGIN_UNSIGNED`). Pinned, it
//!    may not bear a vendor's id. An envelope that is there must hold, also for a pinned component;
//! 5. the envelope's form, type and signatures (`PLUGIN_SIG_INVALID`), and whether anybody who is believed signed it
//!    (`PLUGIN_KEY_UNKNOWN`);
//! 6. the signers' dates and revocations (`PLUGIN_KEY_REVOKED`), and whether they may sign for this id;
//! 7. the statement is about these bytes and this manifest (`PLUGIN_HASH_MISMATCH`);
//! 8. the version isn't revoked; release and epoch are high enough (`PLUGIN_DOWNGRADE`);
//! 9. it imports no more than the statement has (`PLUGIN_CAPABILITY`), and was made for this host (`PLUGIN_ABI`).
//!
//! The license is asked afterwards, with the verdict's entitlements and date.

use std::collections::{BTreeSet, HashSet};

use chrono::{DateTime, TimeDelta, Utc};
use semver::Version;
use serde::Serialize;

use super::dsse::Envelope;
use super::keys::{KeyId, PublicKey};
use super::refusal::RefusalCode as Code;
use super::store::Held;
use super::{Refusal, Role, STATEMENT_TYPE, Statement, is_vendor_id, sha256};
use crate::load::Inspection;

/// How far a statement's date may lie ahead: clocks differ.
const AHEAD: TimeDelta = TimeDelta::days(1);

/// Who vouches for a component, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The vendor: a part of the binary, or signed by enough of the root's own publisher keys.
    Vendor,
    /// A publisher that the root names, within its prefixes.
    Verified,
    /// A publisher that the operator added, within its prefix.
    Private,
    /// Nobody: pinned by digest, or in development.
    Unsigned,
}

/// What the operator allows, for one decision.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Development: unsigned components run. A signature that doesn't hold is refused even so.
    pub dev: bool,
    /// SHA-256 of unsigned components that the operator has pinned.
    pub pinned: HashSet<[u8; 32]>,
    /// The highest `release_seq` of this id that the caller has seen; the store's own memory counts too.
    pub highest_release_seq: Option<u64>,
    /// Take an older release than the highest seen, just this once. What the vendor's list forbids stays forbidden.
    pub allow_downgrade: bool,
}

/// A yes, with what is known about the component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Who vouches for it.
    pub level: Level,
    /// What was signed; `None` for parts of the binary and for unsigned ones.
    pub statement: Option<Statement>,
    /// The keys that signed, and that counted.
    pub signers: Vec<KeyId>,
}

/// Whom a key stands for.
enum Standing<'a> {
    Vendor,
    Verified(&'a super::root::RootKey),
    Private(&'a super::Publisher),
}

pub(super) fn verify(
    held: &Held,
    host: &Version,
    component: &[u8],
    envelope: Option<&[u8]>,
    inspection: &Inspection,
    rules: &Rules,
    now: DateTime<Utc>,
) -> Result<Verdict, Refusal> {
    let digest = sha256(component);
    if digest != inspection.digest || component.len() != inspection.size {
        return Err(Code::PluginHashMismatch.because("these aren't the bytes that were inspected"));
    }
    let manifest = &inspection.manifest;
    if let Some(entry) = held.revocations.as_ref().and_then(|list| list.file(&inspection.sha256)) {
        return Err(revoked(&manifest.label(), &entry.reason));
    }
    if held.builtins.contains(&digest) {
        return Ok(Verdict { level: Level::Vendor, statement: None, signers: Vec::new() });
    }
    let Some(envelope) = envelope else {
        let claims_vendor = is_vendor_id(&manifest.id) || !manifest.entitlements.is_empty();
        if rules.dev || (rules.pinned.contains(&digest) && !claims_vendor) {
            return Ok(Verdict { level: Level::Unsigned, statement: None, signers: Vec::new() });
        }
        return Err(Code::PluginUnsigned.because(format!(
            "{} has no signature. Put its publisher's .dsse.json beside it, or sign it with `brokle plugin sign`; {}",
            manifest.label(),
            match claims_vendor {
                true => "its id or its entitlements are the vendor's, so pinning doesn't help".to_owned(),
                false => format!("or pin sha256:{}", inspection.sha256),
            }
        )));
    };
    let envelope =
        Envelope::parse(envelope).map_err(|error| Code::PluginSigInvalid.because(error.to_string()))?;
    if envelope.payload_type != STATEMENT_TYPE {
        return Err(Code::PluginSigInvalid
            .because(format!("the envelope's type is {:?}, not {STATEMENT_TYPE:?}", envelope.payload_type)));
    }
    let signers = signers(held, &envelope)?;
    let statement: Statement = serde_json::from_slice(&envelope.payload)
        .map_err(|error| Code::PluginSigInvalid.because(format!("the statement is malformed: {error}")))?;
    if statement.built_at > now + AHEAD {
        return Err(Code::PluginSigInvalid.because(format!(
            "it says that it was built on {}: check this machine's clock",
            statement.built_at
        )));
    }
    let (level, signers) = stand(held, signers, &statement)?;
    same(&statement, inspection)?;
    recent(held, level, &statement, rules)?;
    within(&statement, inspection, host)?;
    Ok(Verdict { level, statement: Some(statement), signers })
}

fn revoked(label: &str, reason: &str) -> Refusal {
    let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    Code::PluginRevoked.because(format!("{label} was revoked{reason}. Install a newer version."))
}

/// The keys that are believed and signed this. One signature that doesn't hold spoils the envelope.
fn signers<'a>(held: &'a Held, envelope: &Envelope) -> Result<Vec<(KeyId, Standing<'a>)>, Refusal> {
    let message = envelope.message();
    let mut signers = Vec::new();
    let mut strangers = Vec::new();
    for signature in &envelope.signatures {
        let id = signature.keyid;
        let Some((key, standing)) = find(held, id) else {
            strangers.push(match held.root.as_ref().and_then(|root| root.keys.get(&id)) {
                Some(key) => format!("{id} has the role {}, which doesn't sign plugins", key.role.as_str()),
                None => format!("{id} isn't known here"),
            });
            continue;
        };
        if !Envelope::holds(&message, signature, key) {
            return Err(Code::PluginSigInvalid.because(format!("the signature by {id} doesn't hold")));
        }
        signers.push((id, standing));
    }
    if signers.is_empty() {
        return Err(Code::PluginKeyUnknown.because(format!(
            "{}. If you believe its publisher: `brokle trust add-publisher --key KEY.pub.pem --prefix ID.`",
            strangers.join("; ")
        )));
    }
    Ok(signers)
}

fn find(held: &Held, id: KeyId) -> Option<(&PublicKey, Standing<'_>)> {
    let of_root = held.root.as_ref().and_then(|root| root.keys.get(&id));
    if let Some(key) = of_root.filter(|key| key.role == Role::Publisher) {
        let standing = if key.prefixes.is_empty() { Standing::Vendor } else { Standing::Verified(key) };
        return Some((&key.public, standing));
    }
    // A key that the root has for something else isn't a publisher's, also if an operator says so.
    if of_root.is_some() {
        return None;
    }
    let publisher = held.publishers.iter().find(|publisher| publisher.public.id() == id)?;
    Some((&publisher.public, Standing::Private(publisher)))
}

/// The level that the signers reach for this statement, and the keys that counted.
fn stand(
    held: &Held,
    signers: Vec<(KeyId, Standing<'_>)>,
    statement: &Statement,
) -> Result<(Level, Vec<KeyId>), Refusal> {
    let (mut vendor, mut verified, mut private) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut no = None;
    let dated = statement.built_at;
    let paid = !statement.entitlements.is_empty();
    for (id, standing) in signers {
        let list = held.revocations.as_ref();
        if let Some(entry) = list.and_then(|list| list.key(id, dated, &statement.sha256)) {
            let from = entry.from.map_or_else(|| "altogether".to_owned(), |from| format!("from {from}"));
            no = Some(Code::PluginKeyRevoked.because(format!("{id} was revoked {from}; {}", entry.reason)));
            continue;
        }
        let root_key = held.root.as_ref().and_then(|root| root.keys.get(&id).map(|key| (root, key)));
        if let Some((root, key)) = root_key
            && !(key.covers(dated) && dated <= root.expires)
        {
            no = no.or_else(|| {
                Some(Code::PluginKeyUnknown.because(format!("{id} may not sign what is dated {dated}")))
            });
            continue;
        }
        let signs_for = |covers: bool| covers && !paid;
        match standing {
            Standing::Vendor => _ = vendor.insert(id),
            Standing::Verified(key) if signs_for(key.prefixes.iter().any(|p| p.covers(&statement.id))) => {
                verified.insert(id);
            }
            Standing::Private(publisher) if signs_for(publisher.prefix.covers(&statement.id)) => {
                private.insert(id);
            }
            Standing::Verified(_) | Standing::Private(_) => {
                let why = match paid {
                    true => "anything that needs an entitlement; only the vendor does".to_owned(),
                    false => format!("'{}'", statement.id),
                };
                no = no
                    .or_else(|| Some(Code::PluginKeyUnknown.because(format!("{id} may not sign for {why}"))));
            }
        }
    }
    let needed = held.root.as_ref().map_or(1, |root| root.threshold(Role::Publisher)).max(1);
    if vendor.len() >= needed {
        return Ok((Level::Vendor, vendor.into_iter().collect()));
    }
    if !verified.is_empty() {
        return Ok((Level::Verified, verified.into_iter().collect()));
    }
    if !private.is_empty() {
        return Ok((Level::Private, private.into_iter().collect()));
    }
    Err(no.unwrap_or_else(|| {
        Code::PluginSigInvalid.because(format!("{} of {needed} publisher keys signed it", vendor.len()))
    }))
}

/// Whether the statement is about these bytes, which describe themselves.
fn same(statement: &Statement, inspection: &Inspection) -> Result<(), Refusal> {
    let manifest = &inspection.manifest;
    let mismatch = |what: &str, signed: &str, found: &str| {
        Err(Code::PluginHashMismatch
            .because(format!("{}: the signed {what} is {signed}, the file's is {found}", statement.label())))
    };
    if statement.sha256 != inspection.sha256 {
        return mismatch("SHA-256", &statement.sha256, &inspection.sha256);
    }
    if statement.size != inspection.size as u64 {
        return mismatch("size", &statement.size.to_string(), &inspection.size.to_string());
    }
    if (&statement.id, &statement.version) != (&manifest.id, &manifest.version) {
        return mismatch("id and version", &statement.label(), &manifest.label());
    }
    if statement.wit != manifest.wit {
        return mismatch("contract", &statement.wit, &manifest.wit);
    }
    let signed: BTreeSet<&String> = statement.entitlements.iter().collect();
    let asked: BTreeSet<&String> = manifest.entitlements.iter().collect();
    // More may be demanded than the file says, never less.
    if !asked.is_subset(&signed) {
        let list = |set: &BTreeSet<&String>| format!("{set:?}");
        return mismatch("list of entitlements", &list(&signed), &list(&asked));
    }
    Ok(())
}

/// Whether the release is one that still runs.
fn recent(held: &Held, level: Level, statement: &Statement, rules: &Rules) -> Result<(), Refusal> {
    let (label, seq) = (statement.label(), statement.release_seq);
    if let Some(list) = &held.revocations {
        if let Some(entry) = list.version(&statement.id, &statement.version) {
            return Err(revoked(&label, &entry.reason));
        }
        if let Some(least) = list.min_release_seq.get(&statement.id).filter(|least| seq < **least) {
            return Err(Code::PluginDowngrade
                .because(format!("{label} is release {seq}; the vendor allows {least} and later")));
        }
        if level == Level::Vendor && statement.security_epoch < list.min_security_epoch {
            return Err(Code::PluginDowngrade.because(format!(
                "{label} is of security epoch {}; the vendor allows {} and later",
                statement.security_epoch, list.min_security_epoch
            )));
        }
    }
    let highest = held.release_seqs.get(&statement.id).copied().max(rules.highest_release_seq);
    match highest.filter(|highest| seq < *highest && !rules.allow_downgrade) {
        Some(highest) => Err(Code::PluginDowngrade.because(format!(
            "{label} is release {seq}, and {highest} was here before. Say --allow-downgrade if you mean it."
        ))),
        None => Ok(()),
    }
}

/// Whether it stays within what was signed, and fits this host.
fn within(statement: &Statement, inspection: &Inspection, host: &Version) -> Result<(), Refusal> {
    let beyond: Vec<&str> = inspection
        .imports
        .iter()
        .filter(|import| !statement.capabilities.contains(import))
        .map(String::as_str)
        .collect();
    if !beyond.is_empty() {
        return Err(Code::PluginCapability.because(format!(
            "{} imports what its publisher didn't sign for: {}",
            statement.label(),
            beyond.join(", ")
        )));
    }
    // A pre-release of the host counts as the release that it leads up to.
    let release = Version { pre: semver::Prerelease::EMPTY, ..host.clone() };
    if !statement.host.matches(&release) {
        return Err(Code::PluginAbi.because(format!(
            "{} was made for hosts {}; this is {host}",
            statement.label(),
            statement.host
        )));
    }
    Ok(())
}
