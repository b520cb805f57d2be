//! A LiteLLM proxy's `config.yaml`, as its documentation describes it.
//!
//! | theirs | ours |
//! |---|---|
//! | `model_list` | a connection for each vendor, address and credential; a route for each `model_name`, with a candidate for each deployment |
//! | `model_group_alias`, `model_alias_map` | the route's `aliases` |
//! | `fallbacks`, `context_window_fallbacks`, `content_policy_fallbacks`, `default_fallbacks` | the route's `fallbacks` |
//! | `routing_strategy`, `num_retries`, timeouts, `allowed_fails`, `cooldown_time` | `[gateway]` |
//! | `default_key_generate_params`, `max_budget` and the like | `[[limits]]`, `[[budgets]]` |
//! | `cache` | `[cache]` |
//!
//! A connection serves the models that the file names, and no other, so that nobody may more than before. What a mapping says
//! that isn't understood is reported by its key; so is everything that works otherwise.

mod deployments;
mod rules;
mod vendors;

use std::collections::HashMap;

use brokle_core::catalogue::Catalogue;
use brokle_gateway::routing::definition::{Candidate, Definition, Fallbacks, Timeouts};
use serde_json::Value;

use self::deployments::{Deployment, Deployments, LAST};
use super::section::Section;
use super::{Gateway, Imported, Kind, Notes, Written};

/// The largest file that is read, in bytes.
pub(crate) const MAX_FILE: u64 = 4 << 20;

/// Reads a configuration. `variable` looks up the variables that addresses come from.
///
/// # Errors
/// When it is no YAML, or no mapping.
pub(crate) fn import(
    yaml: &[u8],
    catalogue: &Catalogue,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Imported, String> {
    let whole: Value = serde_yaml_ng::from_slice(yaml).map_err(|error| match error.location() {
        // Not the library's words: they may repeat a value.
        Some(at) => format!("line {}, column {}: this is no YAML that can be read", at.line(), at.column()),
        None => "this is no YAML that can be read".to_owned(),
    })?;
    if !whole.is_object() {
        return Err("a mapping with model_list and the like is expected".to_owned());
    }
    let mut notes = Notes::default();
    let mut file = Section::new("", whole, &mut notes);
    let mut deployments =
        Deployments { catalogue, variable, connections: Vec::new(), prices: Vec::new(), found: Vec::new() };
    for (at, entry) in file.list("model_list", &mut notes).into_iter().enumerate() {
        deployments.read(at, entry, &mut notes);
    }
    let Deployments { connections, prices, found, .. } = deployments;
    let mut routes = routes(found, &mut notes);
    let mut written = Written { models: prices, ..Written::default() };
    written.gateway = Gateway { connections, ..Gateway::default() };
    let mut router = file.section("router_settings", &mut notes);
    let mut settings = file.section("litellm_settings", &mut notes);
    let mut general = file.section("general_settings", &mut notes);
    rules::gateway(&mut router, &mut settings, &mut general, &mut written, &mut notes);
    rules::limits(&mut settings, &mut general, &mut written, &mut notes);
    rules::cache(&mut router, &mut settings, &mut written, &mut notes);
    for (section, member) in [(&mut router, "model_group_alias"), (&mut settings, "model_alias_map")] {
        let aliases = section.section(member, &mut notes);
        alias(&mut routes, aliases, &mut notes);
    }
    for section in [&mut settings, &mut router] {
        fallbacks(&mut routes, section, &mut notes);
    }
    rules::secrets(&mut file, &mut general, &mut notes);
    for section in [router, settings, general, file] {
        section.rest(&mut notes);
    }
    written.routes = routes.list;
    Ok(Imported { written, notes: notes.sorted() })
}

/// Routes, and where each of their names is.
#[derive(Default)]
struct Routes {
    list: Vec<Definition>,
    by_name: HashMap<String, usize>,
}

impl Routes {
    fn named(&mut self, name: &str) -> Option<&mut Definition> {
        self.list.get_mut(*self.by_name.get(name)?)
    }
}

/// A name of a route: what others can't be in it becomes a hyphen.
fn route_name(name: &str, taken: &[Definition]) -> String {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
    let name: String = name.chars().map(|c| if fine(c) { c } else { '-' }).take(60).collect();
    let name = if name.is_empty() { "route".to_owned() } else { name };
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    let free = |name: &String| taken.iter().all(|route| route.name != *name);
    std::iter::once(name.clone()).chain(numbered).find(free).unwrap_or(name)
}

fn routes(found: Vec<Deployment>, notes: &mut Notes) -> Routes {
    let mut routes = Routes::default();
    for deployment in found {
        let wild = deployment.model.contains('*');
        if wild && (deployment.name == "*" || deployment.name.ends_with("/*")) {
            let prefix = deployment.name.strip_suffix("/*").unwrap_or_default();
            if prefix != deployment.provider {
                let text = format!("callers write `{}/MODEL`, or a model's name alone", deployment.provider);
                notes.add(Kind::Changed, format!("{}.model_name", deployment.key), text);
            }
            continue;
        }
        let at = routes.by_name.get(&deployment.name).copied().unwrap_or_else(|| {
            let name = route_name(&deployment.name, &routes.list);
            let aliases = if name == deployment.name { Vec::new() } else { vec![deployment.name.clone()] };
            routes.by_name.insert(deployment.name.clone(), routes.list.len());
            routes.list.push(Definition { name, aliases, ..Definition::default() });
            routes.list.len() - 1
        });
        let Some(route) = routes.list.get_mut(at) else { continue };
        for (member, value) in deployment.defaults {
            match route.defaults.get(&member) {
                Some(other) if *other != value => {
                    let text =
                        "deployments of one name have different values: the first one's is the route's";
                    notes.add(Kind::Changed, format!("{}.litellm_params.{member}", deployment.key), text);
                }
                _ => drop(route.defaults.insert(member, value)),
            }
        }
        if let Some(ms) = deployment.first_byte_ms {
            let timeouts = route.timeouts.get_or_insert_with(Timeouts::default);
            timeouts.first_byte_ms = Some(timeouts.first_byte_ms.unwrap_or(0).max(ms));
        }
        route.candidates.push(Candidate {
            connection: Some(deployment.connection),
            provider: None,
            model: if wild { "*".to_owned() } else { deployment.model },
            when: None,
            priority: deployment.order.unwrap_or(LAST),
            weight: deployment.weight,
        });
    }
    for route in &mut routes.list {
        if route.candidates.iter().all(|candidate| candidate.priority == LAST) {
            route.candidates.iter_mut().for_each(|candidate| candidate.priority = 0);
        }
    }
    routes
}

fn alias(routes: &mut Routes, aliases: Section, notes: &mut Notes) {
    let path = aliases.path.clone();
    for (name, target) in aliases.into_members() {
        let key = format!("{path}.{name}");
        // Or a mapping, `{model, hidden}`.
        let target = target.get("model").unwrap_or(&target).as_str().unwrap_or_default();
        match routes.named(target) {
            Some(route) if !route.aliases.contains(&name) && route.name != name => route.aliases.push(name),
            Some(_) => {}
            None => notes.add(Kind::NoEqual, key, "what it stands for isn't in model_list: left out"),
        }
    }
}

/// Fills fallbacks by kind of failure.
fn fallbacks(routes: &mut Routes, section: &mut Section, notes: &mut Notes) {
    type Place = fn(&mut Fallbacks) -> &mut Vec<Candidate>;
    let kinds: [(&str, Place); 3] = [
        ("context_window_fallbacks", |all| &mut all.context_length),
        ("content_policy_fallbacks", |all| &mut all.content_policy),
        ("fallbacks", |all| &mut all.general),
    ];
    let mut for_all: Vec<(String, Vec<Value>, Place)> = Vec::new();
    for (member, place) in kinds {
        let key = section.key(member);
        for (at, entry) in section.list(member, notes).into_iter().enumerate() {
            let Value::Object(entry) = entry else { continue };
            for (name, targets) in entry {
                let key = format!("{key}.{at}.{name}");
                let Value::Array(targets) = targets else { continue };
                if name == "*" {
                    for_all.push((key, targets, place));
                } else if routes.by_name.contains_key(&name) {
                    add(routes, &name, &targets, place, &key, notes);
                } else {
                    notes.add(Kind::NoEqual, key, "this name isn't in model_list: left out");
                }
            }
        }
    }
    let default = section.list("default_fallbacks", notes);
    if !default.is_empty() {
        for_all.push((section.key("default_fallbacks"), default, |all| &mut all.general));
    }
    for (key, targets, place) in for_all {
        let mut names: Vec<String> = routes.by_name.keys().cloned().collect();
        names.sort_unstable();
        for name in names {
            let has_own = routes.named(&name).is_some_and(|route| !place(&mut route.fallbacks).is_empty());
            if !has_own {
                add(routes, &name, &targets, place, &key, notes);
            }
        }
    }
}

fn add(
    routes: &mut Routes,
    name: &str,
    targets: &[Value],
    place: fn(&mut Fallbacks) -> &mut Vec<Candidate>,
    key: &str,
    notes: &mut Notes,
) {
    let mut found = Vec::new();
    for (order, target) in (0_i32..).zip(targets) {
        let target = target.as_str().unwrap_or_default();
        if target == name {
            continue;
        }
        match routes.named(target) {
            // Those of one name are asked before those of the next one.
            Some(route) => {
                found.extend(route.candidates.iter().map(|one| Candidate { priority: order, ..one.clone() }));
            }
            None => notes.add(Kind::NoEqual, key, "one of its fallbacks isn't in model_list: left out"),
        }
    }
    if let Some(route) = routes.named(name) {
        let list = place(&mut route.fallbacks);
        if list.is_empty() {
            *list = found;
        }
    }
}
