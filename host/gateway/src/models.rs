//! The models that a caller can ask for.

use serde::Serialize;

use crate::connections::Connection;
use brokle_core::catalogue::Catalogue;
use brokle_identity::Principal;
use std::collections::BTreeMap;
use std::sync::Arc;

/// One entry of `GET /v1/models`, in OpenAI's form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ModelObject {
    /// What to put into `model`.
    pub id: String,
    /// `model`
    pub object: &'static str,
    /// Seconds since the Unix epoch; 0, since the catalogue doesn't know.
    pub created: u64,
    /// The provider; `brokle` for a route.
    pub owned_by: String,
}

/// What can be asked for with these connections, by name: routes, the catalogue's models and the listed ones. A route has
/// the name to itself, as when it is called.
pub(crate) fn list<'a>(
    connections: &[Arc<Connection>],
    routes: impl Iterator<Item = &'a str>,
    catalogue: &Catalogue,
    caller: &Principal,
) -> Vec<ModelObject> {
    let mut models = BTreeMap::new();
    let mut add = |id: &str, owner: &str| {
        models.entry(id.to_owned()).or_insert_with(|| owner.to_owned());
    };
    for route in routes {
        add(route, "brokle");
    }
    for connection in connections {
        let provider = &*connection.provider;
        let mut add = |id: &str| {
            if caller.allowed.candidate(None, provider, id) {
                add(id, provider);
            }
        };
        for listed in &connection.models {
            add(listed);
        }
        if !connection.models.is_empty() {
            continue;
        }
        for row in catalogue.models().filter(|row| row.provider == connection.catalogue) {
            add(&row.name);
            for alias in &row.aliases {
                add(alias);
            }
        }
    }
    let object = |(id, owned_by)| ModelObject { id, object: "model", created: 0, owned_by };
    models.into_iter().map(object).collect()
}
