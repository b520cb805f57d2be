//! A server's first start: it needs a tenant and a key before anybody can ask it for one.
//!
//! Every start runs this. The default organization, project and environment are made if they are missing. A given key
//! (`BROKLE_BOOTSTRAP_API_KEY`) is stored with all scopes, unless it is there already: one that was revoked stays
//! revoked. Without a given key, one is made up if the database holds none at all, and handed back to be printed once.

use brokle_core::clock::Clock;
use brokle_core::ids::{ApiKeyId, EnvironmentId, OrganizationId, ProjectId};
use brokle_core::random::Random;
use brokle_core::tenancy::Tenant;
use brokle_storage::sql::api_keys::NewApiKey;
use brokle_storage::sql::bootstrap::StoreKey;
use brokle_storage::sql::{Database, StorageError};

use crate::api_key::{self, MalformedKey};
use crate::scopes::Scopes;
use crate::secret::Secret;

/// What a start found or made.
#[derive(Debug)]
pub struct Bootstrap {
    /// The default organization, project and environment.
    pub tenant: Tenant,
    /// The first key.
    pub key: BootstrapKey,
}

/// What became of the first key.
#[derive(Debug)]
pub enum BootstrapKey {
    /// The given key was there already, or none was given and there are keys.
    AlreadyThere,
    /// The given key was stored.
    Stored,
    /// A key was made up and stored: print it, it won't be seen again.
    Generated(Secret),
}

/// Why there is nothing to start with.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The given key can't be one.
    #[error("BROKLE_BOOTSTRAP_API_KEY is {0}")]
    Malformed(MalformedKey),
    /// The database said no.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Makes sure that there are a tenant and a key to begin with. Safe to run on every start, and on several servers at
/// once.
///
/// # Errors
/// When the given key is malformed, or the database can't be written; then nothing was done.
pub async fn bootstrap(
    database: &Database,
    clock: &dyn Clock,
    random: &dyn Random,
    key: Option<&str>,
) -> Result<Bootstrap, BootstrapError> {
    let now = clock.now();
    let (secret, when) = match key {
        Some(key) => {
            api_key::parse(key).map_err(BootstrapError::Malformed)?;
            (Secret::new(key.to_owned()), StoreKey::Always)
        }
        None => (api_key::generate(random), StoreKey::IfThereIsNone),
    };
    let fresh = Tenant {
        organization: OrganizationId::generate(clock, random),
        project: ProjectId::generate(clock, random),
        environment: EnvironmentId::generate(clock, random),
    };
    let new = NewApiKey {
        id: ApiKeyId::generate(clock, random),
        name: "bootstrap".to_owned(),
        key_hash: *api_key::hash(&secret).as_bytes(),
        preview: api_key::preview(&secret),
        scopes: Scopes::all().names(),
        requests_per_minute: None,
        restrictions: Default::default(),
        expires_at: None,
        created_at: now,
    };
    let done = database.bootstrap(fresh, &new, when, now).await?;
    let key = match (done.stored, when) {
        (None, _) => BootstrapKey::AlreadyThere,
        (Some(_), StoreKey::Always) => BootstrapKey::Stored,
        (Some(_), StoreKey::IfThereIsNone) => BootstrapKey::Generated(secret),
    };
    Ok(Bootstrap { tenant: done.tenant, key })
}
