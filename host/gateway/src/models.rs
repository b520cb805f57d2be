//! The models that a caller can ask for.

use serde::Serialize;

use crate::connections::Connection;
use brokle_core::catalogue::Catalogue;
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
    /// The provider.
    pub owned_by: String,
}

/// The models of these connections, by name: the catalogue's and the listed ones.
pub(crate) fn list(connections: &[Arc<Connection>], catalogue: &Catalogue) -> Vec<ModelObject> {
    let mut models = BTreeMap::new();
    let mut add = |id: &str, owner: &str| {
        models.entry(id.to_owned()).or_insert_with(|| owner.to_owned());
    };
    for connection in connections {
        for listed in &connection.models {
            add(listed, &connection.provider);
        }
        if !connection.models.is_empty() {
            continue;
        }
        for row in catalogue.models().filter(|row| row.provider == connection.catalogue) {
            add(&row.name, &connection.provider);
            for alias in &row.aliases {
                add(alias, &connection.provider);
            }
        }
    }
    let object = |(id, owned_by)| ModelObject { id, object: "model", created: 0, owned_by };
    models.into_iter().map(object).collect()
}
