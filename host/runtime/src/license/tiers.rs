//! What each tier has. A license names a tier and says only what differs, so that a feature added to a tier reaches those
//! who hold one already.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What was bought. Each tier has what the ones before it have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// The open-source host, and nothing more.
    Free,
    /// A team.
    Pro,
    /// A company.
    Business,
    /// A company with auditors.
    Enterprise,
}

impl Tier {
    /// All of them, least first.
    pub const ALL: [Self; 4] = [Self::Free, Self::Pro, Self::Business, Self::Enterprise];

    /// `free`, `pro`, `business`, `enterprise`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Pro => "pro",
            Self::Business => "business",
            Self::Enterprise => "enterprise",
        }
    }

    /// Whether an entitlement is in this tier.
    #[must_use]
    pub fn has(self, entitlement: &str) -> bool {
        ENTITLEMENTS.iter().any(|(name, from)| *name == entitlement && *from <= self)
    }

    /// The tier's limits: `None` is unlimited.
    #[must_use]
    pub fn limits(self) -> BTreeMap<String, Option<u64>> {
        let seats = match self {
            Self::Pro => Some(10),
            Self::Business => Some(100),
            // The open-source host counts nobody.
            Self::Free | Self::Enterprise => None,
        };
        BTreeMap::from([("seats".to_owned(), seats)])
    }
}

/// Every entitlement that this host knows, and the first tier that has it. A license may name others, for components of a
/// later day.
pub const ENTITLEMENTS: [(&str, Tier); 14] = [
    ("sso.oidc", Tier::Pro),
    ("pii.redaction", Tier::Pro),
    ("analytics.forecast", Tier::Pro),
    ("sso.saml", Tier::Business),
    ("rbac.custom_roles", Tier::Business),
    ("audit.export", Tier::Business),
    ("retention.custom", Tier::Business),
    ("analytics.anomalies", Tier::Business),
    ("analytics.reports", Tier::Business),
    ("scim", Tier::Enterprise),
    ("audit.siem", Tier::Enterprise),
    ("compliance.reports", Tier::Enterprise),
    ("legal_hold", Tier::Enterprise),
    ("residency", Tier::Enterprise),
];
