//! Who a request comes from, once its key is known.

use brokle_core::ids::ApiKeyId;
use brokle_core::tenancy::{Capture, Tenant};
use brokle_storage::sql::api_keys::KeyOwner;
use chrono::{DateTime, Utc};

use crate::allowed::Allowed;
use crate::scopes::Scopes;

/// The holder of a valid key: everything that the hot path asks about a caller, so that it asks the database nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The key's id, for limits and records; never the key.
    pub key_id: ApiKeyId,
    /// The key's name.
    pub name: String,
    /// Whom the call is made for.
    pub tenant: Tenant,
    /// What the key may do.
    pub scopes: Scopes,
    /// What the project keeps of its calls' content.
    pub capture: Capture,
    /// The key's own limit; `None` leaves it to the tenant's.
    pub requests_per_minute: Option<u32>,
    /// What the key is restricted to.
    pub allowed: Allowed,
    /// From when on what was presented is refused.
    pub expires_at: Option<DateTime<Utc>>,
}

impl From<&KeyOwner> for Principal {
    fn from(owner: &KeyOwner) -> Self {
        let key = &owner.key;
        Self {
            key_id: key.id,
            name: key.name.clone(),
            tenant: key.tenant,
            scopes: Scopes::from_stored(&key.scopes),
            capture: owner.capture,
            requests_per_minute: key.requests_per_minute,
            allowed: Allowed::from_stored(&key.restrictions),
            expires_at: owner.valid_until,
        }
    }
}
