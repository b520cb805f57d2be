//! What a key is restricted to, ready to be asked.
//!
//! A key without restrictions may do what its scopes say. Each list that isn't empty narrows that:
//!
//! - **`models` and `routes`** say together which candidates serve its calls. A candidate of a route that `routes` names is
//!   allowed whatever its model: the operator chose it. Any other candidate has to have a model that `models` names: as the
//!   provider is asked for it, by itself or as `provider/model`. So an alias or a route is no way around it.
//! - **`endpoints`** are paths, such as `/v1/chat/completions` or `/v1/messages*`.
//! - **`cidrs`** are the networks that calls come from (RFC 4632, RFC 4291): `10.0.0.0/8`, `2001:db8::/32`, or one address. An
//!   IPv4 address that came over IPv6 counts as IPv4. A call whose address nobody knows isn't allowed.
//!
//! In patterns `*` is any characters, `/` too, and `?` is one. Case counts.

use std::net::IpAddr;

use brokle_expression::matches;
use brokle_storage::sql::api_keys::Restrictions;
use ipnet::IpNet;

/// The most entries of a list.
const MAX_ENTRIES: usize = 100;
/// The longest entry, in bytes.
const MAX_ENTRY: usize = 256;

/// What a key is restricted to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    restrictions: Restrictions,
    networks: Vec<IpNet>,
}

/// An entry that can't be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct BadRestriction {
    /// The list.
    pub field: &'static str,
    /// What is expected.
    pub reason: &'static str,
}

impl Allowed {
    /// Reads what somebody wants.
    ///
    /// # Errors
    /// The first list with an entry that can't be.
    pub fn parse(restrictions: &Restrictions) -> Result<Self, BadRestriction> {
        let Restrictions { models, routes, endpoints, cidrs } = restrictions;
        let lists = [("models", models), ("routes", routes), ("endpoints", endpoints), ("cidrs", cidrs)];
        for (field, list) in lists {
            let fits = |entry: &String| {
                (1..=MAX_ENTRY).contains(&entry.len()) && !entry.chars().any(|c| c.is_control() || c == ' ')
            };
            if list.len() > MAX_ENTRIES || !list.iter().all(fits) {
                let reason = "100 entries at most are expected, of 1 to 256 characters without spaces";
                return Err(BadRestriction { field, reason });
            }
        }
        if !endpoints.iter().all(|path| path.starts_with('/')) {
            let reason = "paths are expected, such as /v1/chat/completions";
            return Err(BadRestriction { field: "endpoints", reason });
        }
        let networks: Option<Vec<IpNet>> = cidrs.iter().map(|text| network(text)).collect();
        let reason = "networks are expected, such as 10.0.0.0/8 or 2001:db8::/32, or addresses";
        let networks = networks.ok_or(BadRestriction { field: "cidrs", reason })?;
        Ok(Self { restrictions: restrictions.clone(), networks })
    }

    /// Of what is stored. A network that can't be read is none: it lets nobody in.
    pub(crate) fn from_stored(restrictions: &Restrictions) -> Self {
        let networks = restrictions.cidrs.iter().filter_map(|text| network(text)).collect();
        Self { restrictions: restrictions.clone(), networks }
    }

    /// As they were written.
    #[must_use]
    pub fn restrictions(&self) -> &Restrictions {
        &self.restrictions
    }

    /// Whether there are none.
    #[must_use]
    pub fn everything(&self) -> bool {
        self.restrictions == Restrictions::default()
    }

    /// Whether all models and routes are allowed.
    #[must_use]
    pub fn every_model(&self) -> bool {
        self.restrictions.models.is_empty() && self.restrictions.routes.is_empty()
    }

    /// Whether calls from this address are.
    #[must_use]
    pub fn address(&self, address: Option<IpAddr>) -> bool {
        self.restrictions.cidrs.is_empty() || address.is_some_and(|address| contains(&self.networks, address))
    }

    /// Whether this path is; none: nobody knows it.
    #[must_use]
    pub fn endpoint(&self, path: Option<&str>) -> bool {
        let endpoints = &self.restrictions.endpoints;
        endpoints.is_empty() || path.is_some_and(|path| any(endpoints, path))
    }

    /// Whether this candidate is: its route, if it is one of a route, its provider and its model.
    #[must_use]
    pub fn candidate(&self, route: Option<&str>, provider: &str, model: &str) -> bool {
        let Restrictions { models, routes, .. } = &self.restrictions;
        self.every_model()
            || route.is_some_and(|route| any(routes, route))
            || any(models, model)
            || (!models.is_empty() && any(models, &format!("{provider}/{model}")))
    }
}

fn any(patterns: &[String], text: &str) -> bool {
    patterns.iter().any(|pattern| matches(pattern, text))
}

/// A network, or an address as the network that it is alone in.
#[must_use]
pub fn network(text: &str) -> Option<IpNet> {
    let whole = || text.parse::<IpAddr>().ok().map(IpNet::from);
    text.parse().ok().or_else(whole)
}

/// Whether an address is in one of the networks.
#[must_use]
pub fn contains(networks: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(list: impl FnOnce(&mut Restrictions, Vec<String>), entries: &[&str]) -> Allowed {
        let mut restrictions = Restrictions::default();
        list(&mut restrictions, entries.iter().map(|entry| (*entry).to_owned()).collect());
        Allowed::parse(&restrictions).unwrap()
    }

    #[test]
    fn nothing_said_allows_everything() {
        let all = Allowed::default();
        assert!(all.address(None) && all.endpoint(None) && all.candidate(None, "openai", "gpt-4o"));
    }

    #[test]
    fn an_address_has_to_be_in_a_network() {
        let some = allowed(|all, list| all.cidrs = list, &["10.1.0.0/16", "192.0.2.7", "2001:db8::/32"]);
        for (address, expected) in [
            ("10.1.255.1", true),
            ("10.2.0.1", false),
            ("::ffff:10.1.0.1", true),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("2001:db8:1::1", true),
            ("2001:db9::1", false),
        ] {
            assert_eq!(some.address(Some(address.parse().unwrap())), expected, "{address}");
        }
        assert!(!some.address(None));
        let broken = Restrictions { cidrs: vec!["nonsense".into()], ..Restrictions::default() };
        assert!(!Allowed::from_stored(&broken).address(Some("10.1.0.1".parse().unwrap())));
    }

    #[test]
    fn paths_and_models_match_patterns() {
        let some = allowed(|all, list| all.endpoints = list, &["/v1/chat/completions", "/v1/responses*"]);
        assert!(some.endpoint(Some("/v1/chat/completions")) && some.endpoint(Some("/v1/responses/resp_1")));
        assert!(!some.endpoint(Some("/v1/embeddings")) && !some.endpoint(None));

        let some = allowed(|all, list| all.models = list, &["gpt-4o*", "anthropic/*"]);
        assert!(some.candidate(None, "azure-openai", "gpt-4o-mini"));
        assert!(some.candidate(Some("smart"), "anthropic", "claude-opus-4"));
        assert!(!some.candidate(Some("smart"), "openai", "o3") && !some.candidate(None, "x", "xgpt-4o"));

        let some = allowed(|all, list| all.routes = list, &["smart"]);
        assert!(some.candidate(Some("smart"), "openai", "o3"));
        assert!(!some.candidate(Some("smarter"), "openai", "o3") && !some.candidate(None, "openai", "smart"));
    }

    #[test]
    fn what_can_not_be_is_named() {
        let bad = |restrictions: Restrictions| Allowed::parse(&restrictions).unwrap_err().field;
        let one = |text: &str| vec![text.to_owned()];
        let none = Restrictions::default;
        assert_eq!(bad(Restrictions { models: one(""), ..none() }), "models");
        assert_eq!(bad(Restrictions { models: one(&"m".repeat(257)), ..none() }), "models");
        assert_eq!(bad(Restrictions { routes: vec!["r".to_owned(); 101], ..none() }), "routes");
        assert_eq!(bad(Restrictions { endpoints: one("v1/chat"), ..none() }), "endpoints");
        for text in ["10.0.0.0/33", "10.0.0", "host.example"] {
            assert_eq!(bad(Restrictions { cidrs: one(text), ..none() }), "cidrs", "{text}");
        }
    }
}
