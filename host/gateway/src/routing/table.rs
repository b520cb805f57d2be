//! All routes that a call may be for, in memory: the project's own, then its organization's, then the configuration's.
//!
//! A name that several of them define is the narrowest one's: what a project says of `smart` counts for it, whatever
//! organization and configuration say. A model's name is looked for among the routes' names, then among their aliases, then
//! among the aliases with `*` and `?`: there too the narrowest route's goes first, and of one owner's the one that spells the
//! most characters. The header `x-brokle-route` takes a route's own name only.
//!
//! Stored routes are read once and kept until the `revisions` row moves; a call asks the database only when its project isn't
//! in memory, or something was changed. While the database is away, what is in memory stays, also what was to be read anew; a
//! project that isn't there has the configured routes.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use brokle_core::ids::{OrganizationId, ProjectId};
use brokle_core::tenancy::Tenant;
use brokle_expression::matches;
use brokle_identity::Principal;
use brokle_storage::sql::revisions::Revision;
use brokle_storage::sql::{Database, routes as stored};
use http::HeaderMap;
use moka::sync::Cache;

use super::definition::Definition;
use super::routes::{ChosenPolicy, Fault, Origin, ROUTE_HEADER, Route, Routing};
use crate::connections::Connection;
use crate::gateway::Timeouts;
use crate::refusal::Refusal;
use crate::single::Single;

/// What makes an alias a pattern.
const WILD: [char; 2] = ['*', '?'];

/// Routes by name.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// The narrowest first; what a narrower one hides isn't there.
    routes: Vec<Arc<Route>>,
    /// Aliases too, but for patterns.
    names: HashMap<String, Arc<Route>>,
    /// The narrowest first, and of these the one that spells the most.
    patterns: Vec<(String, Arc<Route>)>,
    keeps_back: bool,
}

impl Table {
    /// Of routes that are in their order: the narrowest first.
    fn new(routes: impl IntoIterator<Item = Arc<Route>>) -> Self {
        let mut table = Self::default();
        for route in routes {
            if table.routes.iter().any(|narrower| narrower.name == route.name) {
                continue;
            }
            for alias in &route.aliases {
                match alias.contains(WILD) {
                    true => table.patterns.push((alias.clone(), Arc::clone(&route))),
                    false => drop(table.names.entry(alias.clone()).or_insert_with(|| Arc::clone(&route))),
                }
            }
            let rules = route.rules.as_deref();
            table.keeps_back |=
                rules.is_some_and(|rules| rules.capture.is_some() || !rules.guardrails.is_empty());
            table.routes.push(route);
        }
        // A route's own name goes before others' aliases.
        for route in &table.routes {
            table.names.insert(route.name.clone(), Arc::clone(route));
        }
        let spelled = |pattern: &str| pattern.chars().filter(|c| !WILD.contains(c)).count();
        table.patterns.sort_by_key(|(pattern, route)| (route.origin, Reverse(spelled(pattern))));
        table
    }

    /// Whether what a call leaves behind may depend on its route, so that nothing is kept until that is known.
    pub(crate) fn keeps_back(&self) -> bool {
        self.keeps_back
    }

    fn named(&self, name: &str) -> Option<&Arc<Route>> {
        let matching = || self.patterns.iter().find(|(pattern, _)| matches(pattern, name));
        self.names.get(name).or_else(|| matching().map(|(_, route)| route))
    }

    /// The names of those that a key with these connections can call.
    pub(crate) fn there<'a>(
        &'a self,
        connections: &'a [Arc<Connection>],
        principal: &'a Principal,
    ) -> impl Iterator<Item = &'a str> {
        let there = self.routes.iter().filter(|route| route.is_there(connections, principal));
        let aliases = |route: &'a Arc<Route>| route.aliases.iter().filter(|alias| !alias.contains(WILD));
        there.flat_map(move |route| std::iter::once(&route.name).chain(aliases(route))).map(String::as_str)
    }
}

/// The route that a call is for, by header or by model; none: its model is one.
///
/// # Errors
/// 404 when the header names none that there is.
pub(crate) fn find(table: &Table, headers: &HeaderMap, model: &str) -> Result<Option<Arc<Route>>, Refusal> {
    match headers.get(ROUTE_HEADER) {
        Some(value) => {
            let name = value.to_str().unwrap_or_default().trim();
            let named = table.routes.iter().find(|route| route.name == name);
            named.cloned().map(Some).ok_or_else(|| Route::not_there(name))
        }
        None => Ok(table.named(model).cloned()),
    }
}

/// The revision before the database was asked for one, and after it failed.
const AWAY: i64 = -1;

/// A project's table, as of a revision.
#[derive(Debug, Clone)]
struct Opened {
    revision: i64,
    table: Arc<Table>,
}

/// Everybody's tables.
#[derive(Debug)]
pub(crate) struct Book {
    fixed: Arc<Table>,
    policy: ChosenPolicy,
    usual: Timeouts,
    pub(super) stored: Option<Database>,
    opened: Cache<(OrganizationId, ProjectId), Opened>,
    /// Reading them, as of a revision.
    reading: Single<(OrganizationId, ProjectId, i64), Arc<Table>>,
    revision: AtomicI64,
}

impl Book {
    /// The configured routes, and the database with the others.
    pub(crate) fn new(routing: &Routing, stored: Option<Database>, usual: Timeouts) -> Self {
        Self {
            fixed: Arc::new(Table::new(routing.routes.iter().cloned().map(Arc::new))),
            policy: routing.policy.clone(),
            usual,
            stored,
            opened: Cache::new(10_000),
            reading: Single::default(),
            revision: AtomicI64::new(AWAY),
        }
    }

    /// The tenant's table.
    pub(crate) async fn of(&self, tenant: Tenant) -> Arc<Table> {
        let Some(database) = &self.stored else { return Arc::clone(&self.fixed) };
        let whose = (tenant.organization, tenant.project);
        let revision = self.revision.load(Ordering::SeqCst);
        match self.opened.get(&whose) {
            Some(opened) if opened.revision == revision => opened.table,
            // In a box, as all that is rare: a query's future is 15 KB.
            opened => {
                let read = || self.open(database, whose, revision, opened);
                Box::pin(self.reading.run((whose.0, whose.1, revision), read)).await
            }
        }
    }

    /// Reads a project's routes. What is read now is no newer than `revision`, so that the next change is seen.
    async fn open(
        &self,
        database: &Database,
        whose: (OrganizationId, ProjectId),
        revision: i64,
        known: Option<Opened>,
    ) -> Arc<Table> {
        let opened = match database.routes().serving(whose.0, whose.1).await {
            Ok(stored) if stored.is_empty() => Opened { revision, table: Arc::clone(&self.fixed) },
            Ok(stored) => {
                let own = stored.into_iter().filter_map(|one| self.read(one));
                Opened { revision, table: Arc::new(Table::new(own.chain(self.fixed.routes.iter().cloned()))) }
            }
            Err(error) => {
                tracing::warn!(%error, project = %whose.1, "the project's routes can't be read");
                let Some(known) = known else { return Arc::clone(&self.fixed) };
                // Nobody else waits for the database until it was there again: the next poll that succeeds moves on.
                self.revision.store(AWAY, Ordering::SeqCst);
                Opened { revision: AWAY, ..known }
            }
        };
        let table = Arc::clone(&opened.table);
        self.opened.insert(whose, opened);
        table
    }

    /// A stored route; none if it can't be read, as one that a newer version wrote.
    fn read(&self, stored: stored::Route) -> Option<Arc<Route>> {
        let (name, project) = (stored.name.clone(), stored.project);
        let route = Definition::read(stored.definition).and_then(|definition| self.route(&definition));
        match route {
            Ok(route) => {
                let origin = if project.is_some() { Origin::Project } else { Origin::Organization };
                Some(Arc::new(Route { origin, version: Some(stored.version), ..route }))
            }
            Err(fault) => {
                tracing::warn!(%fault, route = name, organization = %stored.organization, "a route can't be used");
                None
            }
        }
    }

    /// A route as it is defined. What its policy is told isn't checked here: it was when the route was saved.
    pub(super) fn route(&self, definition: &Definition) -> Result<Route, Fault> {
        let mut policy =
            definition.policy.as_deref().map_or_else(|| self.policy.clone(), ChosenPolicy::named);
        if let Some(config) = &definition.config {
            policy.config = serde_json::to_vec(config).ok().map(Into::into);
        }
        definition.to_route(policy, self.usual)
    }

    /// Asks whether a stored route was changed; if so, what is open is read anew. While the database is away, it stays.
    pub(crate) async fn poll_revision(&self) {
        let Some(database) = &self.stored else { return };
        match database.revision(Revision::Routes).await {
            Ok(revision) => self.revision.store(revision, Ordering::SeqCst),
            Err(error) => tracing::debug!(%error, "the routes' revision can't be read"),
        }
    }
}
