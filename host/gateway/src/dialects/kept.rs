//! Objects that vendors keep: who made them, and where.
//!
//! A vendor's account is the connection's, which several projects may share; the vendor would show any of them what
//! another one made. So the gateway remembers which project made an object through which connection, and asks for it
//! there and for nobody else. What isn't remembered isn't there.
//!
//! Remembered in memory: the latest 100,000, each for 30 days (as long as OpenAI keeps responses). After a restart, and
//! on another server, an object can't be asked for by this way.

use std::sync::Arc;
use std::time::Duration;

use brokle_core::ids::ProjectId;
use brokle_core::tenancy::Tenant;

/// How many.
const MOST: u64 = 100_000;
/// For how long.
const LIFE: Duration = Duration::from_secs(30 * 24 * 3600);
/// The longest id.
const LONGEST: usize = 256;

/// What is remembered.
#[derive(Debug, Clone)]
pub(crate) struct Kept(moka::sync::Cache<(ProjectId, Box<str>), Arc<str>>);

impl Kept {
    pub(crate) fn new() -> Self {
        Self(moka::sync::Cache::builder().max_capacity(MOST).time_to_live(LIFE).build())
    }

    /// The project's call through this connection has made it.
    pub(crate) fn remember(&self, tenant: Tenant, id: &str, connection: &Arc<str>) {
        if !id.is_empty() && id.len() <= LONGEST {
            self.0.insert((tenant.project, id.into()), Arc::clone(connection));
        }
    }

    /// The connection that has it, for this project.
    pub(crate) fn find(&self, tenant: Tenant, id: &str) -> Option<Arc<str>> {
        self.0.get(&(tenant.project, Box::from(id)))
    }

    /// It is gone.
    pub(crate) fn forget(&self, tenant: Tenant, id: &str) {
        self.0.invalidate(&(tenant.project, Box::from(id)));
    }
}
