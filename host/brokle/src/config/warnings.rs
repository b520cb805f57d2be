//! Values that are allowed and yet hardly meant.

use super::{CacheStore, Config, VectorStore};

pub(super) fn of(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut warn_if = |is_odd: bool, text: &str| {
        if is_odd {
            warnings.push(text.to_owned());
        }
    };
    let (gateway, server) = (&config.gateway, &config.server);
    warn_if(
        gateway.first_byte_ms > gateway.total_ms || gateway.idle_ms > gateway.total_ms,
        "gateway.total_ms is shorter than first_byte_ms or idle_ms, which therefore never count",
    );
    warn_if(
        gateway.connect_ms > gateway.first_byte_ms,
        "gateway.connect_ms is longer than first_byte_ms, which includes it",
    );
    warn_if(
        gateway.allow_private_upstreams && !server.listen.ip().is_loopback(),
        "gateway.allow_private_upstreams is on and the server listens beyond this machine: whoever may add connections \
         reaches the private network",
    );
    warn_if(
        config.plugins.dev && !server.listen.ip().is_loopback(),
        "plugins.dev is on and the server listens beyond this machine: unsigned plugins run",
    );
    warn_if(
        config.cache.semantic.model.is_some() && !config.cache.enabled,
        "cache.semantic.model is set and cache.enabled isn't: the answers are those of the exact cache, so that none is found",
    );
    warn_if(
        config.cache.semantic.store != VectorStore::Memory && config.cache.store == CacheStore::Memory,
        "cache.semantic.store keeps what questions mean beyond this server's memory, and cache.store keeps no answer that they could lead to",
    );
    for (index, connection) in gateway.connections.iter().enumerate() {
        let one = connection.api_key_env.iter().map(|variable| ("api_key_env", variable));
        let several = connection.api_keys_env.iter().map(|variable| ("api_keys_env", variable));
        for (key, _) in one.chain(several).filter(|(_, variable)| std::env::var_os(variable).is_none()) {
            let name = &connection.name;
            warnings.push(format!("gateway.connections[{index}] ({name}): a variable of {key} isn't set"));
        }
    }
    warnings
}
