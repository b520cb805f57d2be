//! The environment: a fixed list of names, each the same as a key of the file; and the secrets, which have no key there.

use brokle_identity::Secret;
use brokle_storage::blobs::Credentials;
use figment::value::{Dict, Map, Value};
use figment::{Metadata, Profile};

/// Each variable and its key.
pub(super) const NAMES: [(&str, &str); 14] = [
    ("BROKLE_LISTEN", "server.listen"),
    ("BROKLE_DATA_DIR", "storage.data_dir"),
    ("DATABASE_URL", "storage.database_url"),
    ("DATABASE_MIGRATE_URL", "storage.migrate_url"),
    ("CLICKHOUSE_URL", "storage.clickhouse_url"),
    ("REDIS_URL", "storage.redis_url"),
    ("BROKLE_S3_BUCKET", "blobs.bucket"),
    ("BROKLE_S3_ENDPOINT", "blobs.endpoint"),
    ("BROKLE_S3_REGION", "blobs.region"),
    ("REDIS_CA_FILE", "storage.redis_ca_file"),
    ("BROKLE_OTLP_GRPC_LISTEN", "telemetry.grpc_listen"),
    ("BROKLE_TRUST_ROOT", "runtime.trust_root"),
    ("BROKLE_LICENSE_FILE", "runtime.license_file"),
    ("BROKLE_ALLOW_PRIVATE_UPSTREAMS", "gateway.allow_private_upstreams"),
];

/// Gives figment the variables that are set; an empty one counts as not set.
pub(super) struct Provider<E>(E);

impl<E: Fn(&str) -> Option<String>> Provider<E> {
    pub(super) fn new(environment: E) -> Self {
        Self(environment)
    }
}

impl<E: Fn(&str) -> Option<String>> figment::Provider for Provider<E> {
    fn metadata(&self) -> Metadata {
        Metadata::named("the environment")
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let mut dict = Dict::new();
        for (name, key) in NAMES {
            let Some(text) = (self.0)(name).filter(|text| !text.is_empty()) else { continue };
            let value = match key {
                "gateway.allow_private_upstreams" => Value::from(
                    flag(&text).ok_or_else(|| format!("{name}: true or false is expected, not {text:?}"))?,
                ),
                _ => Value::from(text),
            };
            let (section, key) = key.split_once('.').unwrap_or(("", key));
            let section = dict.entry(section.to_owned()).or_insert_with(|| Value::from(Dict::new()));
            if let Value::Dict(_, section) = section {
                section.insert(key.to_owned(), value);
            }
        }
        Ok(Map::from([(Profile::Default, dict)]))
    }
}

fn flag(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Some(true),
        "0" | "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// What must not stand in a file that people copy around.
#[derive(Debug, Default)]
pub(crate) struct Secrets {
    /// `BROKLE_ENCRYPTION_KEY`: the key that stored secrets are sealed with; without it a file of the data directory.
    pub(crate) encryption_key: Option<Secret>,
    /// `BROKLE_BOOTSTRAP_API_KEY`: the key that the first start gives to the default tenant.
    pub(crate) bootstrap_api_key: Option<Secret>,
    /// `JWT_SECRET`: signs people's sessions.
    pub(crate) jwt: Option<Secret>,
    /// `BROKLE_S3_ACCESS_KEY_ID`, `BROKLE_S3_SECRET_ACCESS_KEY` and, with keys that end, `BROKLE_S3_SESSION_TOKEN`.
    pub(crate) s3: Option<Credentials>,
}

impl Secrets {
    /// Reads them from the process' environment.
    pub(crate) fn from_env() -> Self {
        let read = |name| std::env::var(name).ok().filter(|text| !text.is_empty()).map(Secret::new);
        Self {
            encryption_key: read("BROKLE_ENCRYPTION_KEY"),
            bootstrap_api_key: read("BROKLE_BOOTSTRAP_API_KEY"),
            jwt: read("JWT_SECRET"),
            s3: read("BROKLE_S3_ACCESS_KEY_ID").zip(read("BROKLE_S3_SECRET_ACCESS_KEY")).map(|(id, key)| {
                Credentials {
                    key_id: id.expose().to_owned(),
                    secret: key.expose().to_owned(),
                    token: read("BROKLE_S3_SESSION_TOKEN").map(|token| token.expose().to_owned()),
                }
            }),
        }
    }

    /// What an operator should know about them.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let is_short = self.jwt.as_ref().is_some_and(|secret| secret.expose().len() < 32);
        let warning = "JWT_SECRET has fewer than 32 characters: whoever guesses it can sign in as anybody";
        is_short.then(|| warning.to_owned()).into_iter().collect()
    }
}
