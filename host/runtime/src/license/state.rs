//! Where a license stands, and what follows from it. Pure: the same token, time and place give the same answer.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use super::tiers::{ENTITLEMENTS, Tier};
use super::token::{Claims, Token};
use crate::trust::{Refusal, RefusalCode as Code, TrustStore};

/// How far the system's clock may be behind the high-water mark before it is told.
const CLOCK_TOLERANCE: TimeDelta = TimeDelta::days(1);

/// Where a license stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum State {
    /// There is none.
    None,
    /// It holds.
    Valid,
    /// It holds, and ends within `warn_days`.
    Warn,
    /// It ended; all goes on for `grace_days`.
    Grace,
    /// Paid configuration is read-only.
    Limited,
    /// Paid components no longer load; those that run go on until the host restarts.
    Terminated,
    /// There is one, but it doesn't hold here. The same as none, and loud.
    Invalid,
    /// The vendor took it back. The same as LIMITED, at once.
    Revoked,
}

impl State {
    /// `NONE`, `VALID` and so on.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::Valid => "VALID",
            Self::Warn => "WARN",
            Self::Grace => "GRACE",
            Self::Limited => "LIMITED",
            Self::Terminated => "TERMINATED",
            Self::Invalid => "INVALID",
            Self::Revoked => "REVOKED",
        }
    }

    /// Whether all that was bought works.
    #[must_use]
    pub fn is_full(self) -> bool {
        matches!(self, Self::Valid | Self::Warn | Self::Grace)
    }
}

/// What somebody wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// A call through the gateway.
    Traffic,
    /// Spans come in.
    Ingest,
    /// Somebody signs in, by SSO too.
    SignIn,
    /// Existing roles and rules decide.
    EnforceAccess,
    /// Configured redaction runs.
    Redact,
    /// An event goes into the audit log.
    Audit,
    /// Somebody takes their data out.
    Export,
    /// Somebody's data is erased.
    Erase,
    /// Paid settings are read.
    ReadPaidConfig,
    /// Paid settings are changed.
    ConfigurePaid {
        /// The feature.
        entitlement: &'a str,
    },
    /// Paid analytics are looked at.
    ViewPaid {
        /// The feature.
        entitlement: &'a str,
    },
    /// Somebody is invited.
    AddSeat {
        /// How many seats are taken now.
        taken: u64,
    },
    /// A paid component is loaded.
    LoadPaidComponent {
        /// The feature.
        entitlement: &'a str,
        /// When it was built, as its statement says.
        built_at: DateTime<Utc>,
    },
}

impl Action<'_> {
    /// Whether it goes on whatever the license's state is.
    #[must_use]
    pub fn always(self) -> bool {
        match self {
            Self::Traffic
            | Self::Ingest
            | Self::SignIn
            | Self::EnforceAccess
            | Self::Redact
            | Self::Audit
            | Self::Export
            | Self::Erase
            | Self::ReadPaidConfig => true,
            Self::ConfigurePaid { .. }
            | Self::ViewPaid { .. }
            | Self::AddSeat { .. }
            | Self::LoadPaidComponent { .. } => false,
        }
    }
}

/// What the license gives at a moment; an immutable snapshot.
#[derive(Clone, Debug, Serialize)]
pub struct Entitlements {
    /// Where the license stands.
    pub state: State,
    /// The time that it was held against.
    pub evaluated_at: DateTime<Utc>,
    /// What it says; `None` when there is none that could be believed.
    pub claims: Option<Claims>,
    /// Why there is none, or why it doesn't hold here.
    pub refusal: Option<Refusal>,
    /// The features: the tier's, with what the token adds and takes. Empty unless a license holds or has held here.
    pub entitlements: BTreeSet<String>,
    /// The limits: the tier's, with the token's over them; `None` is unlimited.
    pub limits: BTreeMap<String, Option<u64>>,
    /// When components no longer load: the license's end, the end of its updates, or its revocation.
    pub updates_end: Option<DateTime<Utc>>,
    /// What an operator should know, one sentence each.
    pub warnings: Vec<String>,
}

/// Where and when a license is looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) trust: &'a TrustStore,
    pub(super) instance: &'a str,
    pub(super) system: DateTime<Utc>,
    pub(super) built_at: DateTime<Utc>,
    pub(super) high_water_mark: Option<DateTime<Utc>>,
}

impl Entitlements {
    /// Nothing was bought.
    #[must_use]
    pub fn none(now: DateTime<Utc>) -> Self {
        let refusal = Code::LicenseMissing
            .because("there is no license: `brokle license install FILE`, or BROKLE_LICENSE_FILE=FILE");
        Self::without(State::None, refusal, now)
    }

    pub(super) fn invalid(refusal: Refusal, now: DateTime<Utc>) -> Self {
        let mut this = Self::without(State::Invalid, refusal, now);
        this.warnings =
            this.refusal.iter().map(|refusal| format!("the license doesn't hold: {refusal}")).collect();
        this
    }

    fn without(state: State, refusal: Refusal, now: DateTime<Utc>) -> Self {
        Self {
            state,
            evaluated_at: now,
            claims: None,
            refusal: Some(refusal),
            entitlements: BTreeSet::new(),
            limits: Tier::Free.limits(),
            updates_end: None,
            warnings: Vec::new(),
        }
    }

    /// Evaluates a token.
    pub(super) fn evaluate(token: &[u8], place: Place<'_>) -> Self {
        let now = place.system.max(place.built_at).max(place.high_water_mark.unwrap_or(place.system));
        let token = match Token::parse(token) {
            Ok(token) => token,
            Err(error) => return Self::invalid(Code::LicenseInvalid.because(error.to_string()), now),
        };
        let held = place.trust.held();
        let signed = match held.license_key(token.kid, token.claims.iat) {
            Ok(key) if token.holds(key) => Ok(()),
            Ok(_) => Err("its signature doesn't hold".to_owned()),
            Err(detail) => Err(detail),
        };
        if let Err(detail) = signed {
            return Self::invalid(Code::LicenseInvalid.because(detail), now);
        }
        // From here on it is the vendor's word.
        let claims = token.claims;
        let now = now.max(claims.iat);
        let instances = &claims.bind.instances;
        if !instances.is_empty() && !instances.iter().any(|instance| instance == place.instance) {
            let detail = format!(
                "it is for {}; this is instance {}. Ask for a license with that id.",
                instances.join(", "),
                place.instance
            );
            return Self::invalid(Code::LicenseWrongInstance.because(detail), now);
        }
        if now < claims.nbf {
            let detail =
                format!("it holds from {}, and it is {now}: wait, or check this machine's clock", claims.nbf);
            return Self::invalid(Code::LicenseClock.because(detail), now);
        }
        let revoked = held.revocations.as_ref().and_then(|list| list.license(&claims.jti));
        let mut this = Self::of(claims, revoked, now);
        if place.high_water_mark.is_some_and(|mark| place.system + CLOCK_TOLERANCE < mark) {
            let code = Code::LicenseClock;
            this.warnings.push(format!(
                "{code}: this machine's clock shows {}, and it was {now} before",
                place.system
            ));
        }
        this
    }

    /// What a license that was believed gives at a time.
    pub(super) fn of(claims: Claims, revoked: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Self {
        let days = |days: u32| TimeDelta::days(i64::from(days));
        let grace_end = claims.exp + days(claims.grace_days);
        let end = claims.exp + days(claims.term_days.max(claims.grace_days));
        let state = match now {
            _ if revoked.is_some() && now < end => State::Revoked,
            _ if now >= end => State::Terminated,
            _ if now >= grace_end => State::Limited,
            _ if now >= claims.exp => State::Grace,
            _ if now >= claims.exp - days(claims.warn_days) => State::Warn,
            _ => State::Valid,
        };
        let exp = claims.exp.date_naive();
        let warning = match state {
            State::Warn => Some(format!("the license ends on {exp}")),
            State::Grace => Some(format!(
                "the license ended on {exp}; all goes on until {}, then paid configuration becomes read-only",
                grace_end.date_naive()
            )),
            State::Limited => Some(format!("the license ended on {exp}: paid configuration is read-only")),
            State::Terminated => Some(format!("the license ended on {exp}: paid components no longer load")),
            State::Revoked => Some("the license was revoked: paid configuration is read-only".to_owned()),
            State::None | State::Valid | State::Invalid => None,
        };
        let names = ENTITLEMENTS.iter().map(|(name, _)| (*name).to_owned());
        let mut entitlements: BTreeSet<String> = names.filter(|name| claims.tier.has(name)).collect();
        for (name, granted) in &claims.entitlements {
            match granted {
                true => _ = entitlements.insert(name.clone()),
                false => _ = entitlements.remove(name),
            }
        }
        let mut limits = claims.tier.limits();
        limits.extend(claims.limits.clone());
        let updates_end = claims.updates_end();
        Self {
            state,
            evaluated_at: now,
            refusal: None,
            entitlements,
            limits,
            updates_end: Some(revoked.map_or(updates_end, |revoked| revoked.min(updates_end))),
            warnings: warning.into_iter().collect(),
            claims: Some(claims),
        }
    }

    /// Whether a component that needs an entitlement may be loaded.
    ///
    /// # Errors
    /// Why not, with its stable code.
    pub fn require(&self, entitlement: &str, built_at: DateTime<Utc>) -> Result<(), Refusal> {
        self.allows(Action::LoadPaidComponent { entitlement, built_at })
    }

    /// Whether the license covers an organization: one that is bound to some covers no other.
    #[must_use]
    pub fn covers_organization(&self, organization: &str) -> bool {
        let bound = self.claims.as_ref().map(|claims| &claims.bind.organizations);
        bound.is_none_or(|list| list.is_empty() || list.iter().any(|id| id == organization))
    }

    /// Whether somebody may do this now.
    ///
    /// # Errors
    /// Why not, with its stable code.
    pub fn allows(&self, action: Action<'_>) -> Result<(), Refusal> {
        if action.always() {
            return Ok(());
        }
        match action {
            Action::AddSeat { taken } => self.allows_seat(taken),
            Action::ConfigurePaid { entitlement } | Action::ViewPaid { entitlement } => {
                self.entitled(entitlement)?;
                if self.state.is_full() { Ok(()) } else { Err(self.ended("it is read-only")) }
            }
            Action::LoadPaidComponent { entitlement, built_at } => {
                self.entitled(entitlement)?;
                if self.state == State::Terminated {
                    return Err(self.ended("its components no longer load"));
                }
                match self.updates_end.filter(|end| built_at > *end) {
                    Some(end) => Err(self.ended(&format!(
                        "a component built on {} doesn't load; the last that does was built by {}",
                        built_at.date_naive(),
                        end.date_naive()
                    ))),
                    None => Ok(()),
                }
            }
            // Those that always go on.
            _ => Ok(()),
        }
    }

    fn allows_seat(&self, taken: u64) -> Result<(), Refusal> {
        match self.state {
            State::None | State::Invalid => Ok(()),
            State::Limited | State::Terminated | State::Revoked => Err(self.ended("there are no new seats")),
            State::Valid | State::Warn | State::Grace => {
                match self.limits.get("seats").copied().flatten().filter(|seats| taken >= *seats) {
                    Some(seats) => Err(Code::LicenseNotEntitled.because(format!(
                        "the license has {seats} seats and {taken} are taken: remove somebody, or ask for more"
                    ))),
                    None => Ok(()),
                }
            }
        }
    }

    fn entitled(&self, entitlement: &str) -> Result<(), Refusal> {
        if let Some(refusal) = &self.refusal {
            return Err(refusal.clone());
        }
        if self.entitlements.contains(entitlement) {
            return Ok(());
        }
        let tier = self.claims.as_ref().map_or(Tier::Free, |claims| claims.tier);
        let first = ENTITLEMENTS.iter().find(|(name, _)| *name == entitlement);
        let hint = first.map(|(_, tier)| format!("; {} has it", tier.as_str())).unwrap_or_default();
        Err(Code::LicenseNotEntitled
            .because(format!("the license ({}) doesn't cover '{entitlement}'{hint}", tier.as_str())))
    }

    fn ended(&self, what: &str) -> Refusal {
        let (code, word) = match self.state {
            State::Revoked => (Code::LicenseRevoked, "was revoked"),
            _ => (Code::LicenseExpired, "has ended"),
        };
        code.because(format!("the license {word}: {what}"))
    }
}
