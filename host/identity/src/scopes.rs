//! What a key may do. The table below is the whole list; nothing else grants anything.

use std::fmt;

use serde::{Serialize, Serializer};

macro_rules! scopes {
    ($($(#[doc = $doc:literal])+ $scope:ident = $name:literal;)+) => {
        /// One permission of a key.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Scope {
            $($(#[doc = $doc])+ $scope,)+
        }

        impl Scope {
            /// Every scope, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$scope,)+];

            /// Its name in keys, requests and the database.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$scope => $name,)+
                }
            }

            /// What it grants, in a sentence.
            #[must_use]
            pub const fn description(self) -> &'static str {
                match self {
                    $(Self::$scope => concat!($($doc),+).trim_ascii(),)+
                }
            }
        }
    };
}

scopes! {
    /// Calls models and whatever else is under /v1.
    Gateway = "gateway";
    /// Calls providers' own APIs as they are, with their connections' credentials.
    ProvidersRelay = "providers:relay";
    /// Reads traces, observations and scores.
    TracesRead = "traces:read";
    /// Sends traces, metrics, logs and scores.
    TracesWrite = "traces:write";
    /// Lists API keys.
    KeysRead = "keys:read";
    /// Creates, rotates and revokes API keys.
    KeysWrite = "keys:write";
    /// Lists connections, without their secrets.
    ConnectionsRead = "connections:read";
    /// Creates, changes and deletes connections.
    ConnectionsWrite = "connections:write";
    /// Lists routes, and their versions.
    RoutesRead = "routes:read";
    /// Creates, changes, rolls back and deletes routes.
    RoutesWrite = "routes:write";
    /// Sees components, their versions, configuration and events.
    PluginsRead = "plugins:read";
    /// Installs, enables, configures, grants and rolls back components.
    PluginsWrite = "plugins:write";
    /// Sees what of the telemetry queue can't be stored.
    QueueRead = "queue:read";
    /// Tries again or deletes what of the telemetry queue can't be stored.
    QueueWrite = "queue:write";
    /// Everything in the organization: implies every other scope.
    Admin = "admin";
}

impl Scope {
    const fn bit(self) -> u16 {
        1 << self as u16
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|scope| scope.as_str() == name)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// A set of scopes. As JSON it is an array of names, in the order of the table.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Scopes(u16);

/// A name that isn't in the table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown scope \"{name}\": {} are known", known())]
pub struct UnknownScope {
    /// The name.
    pub name: String,
}

fn known() -> String {
    Scope::ALL.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(", ")
}

impl Scopes {
    /// All of them.
    #[must_use]
    pub fn all() -> Self {
        Scope::ALL.iter().copied().collect()
    }

    /// Reads names that somebody asks for.
    ///
    /// # Errors
    /// For the first name that isn't in the table.
    pub fn parse<S: AsRef<str>>(names: &[S]) -> Result<Self, UnknownScope> {
        names
            .iter()
            .map(|name| {
                Scope::named(name.as_ref()).ok_or_else(|| UnknownScope { name: name.as_ref().to_owned() })
            })
            .collect()
    }

    /// Reads stored names. One that isn't in the table, from a newer version for instance, grants nothing.
    pub(crate) fn from_stored(names: &[String]) -> Self {
        names.iter().filter_map(|name| Scope::named(name)).collect()
    }

    /// Is the scope granted, by its name or by `admin`?
    #[must_use]
    pub const fn allows(self, scope: Scope) -> bool {
        self.0 & (scope.bit() | Scope::Admin.bit()) != 0
    }

    /// Is every scope of `other` granted? What a key that makes keys must be asked.
    #[must_use]
    pub fn allows_all(self, other: Self) -> bool {
        other.iter().all(|scope| self.allows(scope))
    }

    /// Does it grant nothing?
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The scopes that it names.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.iter().copied().filter(move |scope| self.0 & scope.bit() != 0)
    }

    /// The names, for storing.
    pub(crate) fn names(self) -> Vec<String> {
        self.iter().map(|scope| scope.as_str().to_owned()).collect()
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | scope.bit()))
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.iter().map(Scope::as_str)).finish()
    }
}

impl Serialize for Scopes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(Scope::as_str))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_grants_itself_and_admin_everything() {
        let some = Scopes::parse(&["traces:read", "gateway"]).unwrap();
        assert!(some.allows(Scope::Gateway) && some.allows(Scope::TracesRead));
        assert!(!some.allows(Scope::TracesWrite) && !some.allows(Scope::Admin));
        assert_eq!(serde_json::to_string(&some).unwrap(), r#"["gateway","traces:read"]"#);

        let admin = Scopes::parse(&["admin"]).unwrap();
        assert!(Scope::ALL.iter().all(|scope| admin.allows(*scope)));
        assert!(admin.allows_all(Scopes::all()) && Scopes::all().allows_all(admin));
        assert!(!some.allows_all(admin));
        assert!(
            Scopes::default().is_empty() && !Scope::ALL.iter().any(|scope| Scopes::default().allows(*scope))
        );
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_list() {
        let error = Scopes::parse(&["gateway", "Gateway"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown scope \"Gateway\": gateway, providers:relay, traces:read, traces:write, keys:read, keys:write, \
             connections:read, connections:write, routes:read, routes:write, plugins:read, plugins:write, \
             queue:read, queue:write, admin are known"
        );
    }

    #[test]
    fn an_unknown_stored_name_grants_nothing() {
        let stored = Scopes::from_stored(&["gateway".to_owned(), "time-travel".to_owned()]);
        assert_eq!(stored, Scopes::parse(&["gateway"]).unwrap());
        assert_eq!(Scopes::from_stored(&Scopes::all().names()), Scopes::all());
    }

    #[test]
    fn every_scope_says_what_it_grants() {
        assert_eq!(Scope::Gateway.description(), "Calls models and whatever else is under /v1.");
    }
}
