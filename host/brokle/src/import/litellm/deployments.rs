//! `model_list`: each entry is a deployment, which becomes a candidate of the route that has its `model_name`; where it is reached
//! and with which credential becomes a connection, which deployments share.

use std::collections::BTreeMap;

use brokle_core::catalogue::{Catalogue, ModelOverride};
use serde_json::{Map, Value, json};

use super::super::section::{Section, whole};
use super::super::{Kind, Notes};
use super::vendors::{self, Vendor};
use crate::config::Connection;

/// Members of a request that a deployment may set for calls that don't.
const PARAMETERS: [&str; 14] = [
    "frequency_penalty",
    "logit_bias",
    "max_completion_tokens",
    "max_tokens",
    "n",
    "parallel_tool_calls",
    "presence_penalty",
    "reasoning_effort",
    "response_format",
    "seed",
    "stop",
    "temperature",
    "top_p",
    "user",
];

/// What `model_info` says for people and dashboards.
const INFORMATION: [&str; 10] = [
    "created_at",
    "created_by",
    "db_model",
    "description",
    "id",
    "litellm_provider",
    "max_input_tokens",
    "max_output_tokens",
    "max_tokens",
    "mode",
];

/// The priority of deployments without an `order`, where others of their name have one.
pub(super) const LAST: i32 = 1_000_000;

/// One way to serve a name.
#[derive(Debug)]
pub(super) struct Deployment {
    /// The place of its entry.
    pub(super) key: String,
    pub(super) name: String,
    pub(super) connection: String,
    pub(super) provider: &'static str,
    pub(super) model: String,
    pub(super) weight: u32,
    /// Lower ones first; those without one come after those that have one.
    pub(super) order: Option<i32>,
    pub(super) first_byte_ms: Option<u64>,
    pub(super) defaults: Map<String, Value>,
}

/// What is read so far.
pub(super) struct Deployments<'a> {
    pub(super) catalogue: &'a Catalogue,
    /// Variables of the environment at the import, for addresses; never for secrets.
    pub(super) variable: &'a dyn Fn(&str) -> Option<String>,
    pub(super) connections: Vec<Connection>,
    pub(super) prices: Vec<ModelOverride>,
    pub(super) found: Vec<Deployment>,
}

/// A credential or an address as LiteLLM writes it.
enum Reference {
    Variable(String),
    Literal(String),
}

fn reference(text: String) -> Reference {
    match text.strip_prefix("os.environ/") {
        Some(name) => Reference::Variable(name.trim().to_owned()),
        None => Reference::Literal(text),
    }
}

impl Deployments<'_> {
    /// Reads an entry; nothing comes of one whose vendor isn't known.
    pub(super) fn read(&mut self, at: usize, entry: Value, notes: &mut Notes) {
        let key = format!("model_list.{at}");
        let mut entry = Section::new(key.clone(), entry, notes);
        let name = entry.text("model_name", notes);
        let mut params = entry.section("litellm_params", notes);
        let mut info = entry.section("model_info", notes);
        let (Some(name), Some(written)) = (name, params.text("model", notes)) else {
            notes.add(Kind::NoEqual, key, "it has no model_name or no litellm_params.model: left out");
            return;
        };
        let prefix = params.text("custom_llm_provider", notes);
        let Some((vendor, model)) = self.vendor(prefix, &written) else {
            let text = "no provider is known by this prefix: left out (a server that speaks OpenAI's API is `openai/…` with api_base)";
            notes.add(Kind::NoEqual, params.key("model"), text);
            return;
        };
        let model = upstream_name(vendor, model, &params, notes);
        let connection = self.connection(vendor, &model, &mut params, notes);
        let weight = self.weight(&mut params, notes);
        let order = params.count("order", notes).map(|order| i32::try_from(order).unwrap_or(LAST).min(LAST));
        let longest = [params.number("timeout", notes), params.number("stream_timeout", notes)];
        let first_byte_ms = longest.into_iter().flatten().reduce(f64::max).map(|s| whole(s * 1e3).max(1));
        let defaults = PARAMETERS.iter().filter_map(|name| Some(((*name).to_owned(), params.take(name)?)));
        let defaults = defaults.collect();
        self.price(vendor, &model, &mut params, &mut info, notes);
        for name in INFORMATION {
            info.take(name);
        }
        if info.take("access_groups").is_some() {
            let text = "restrict keys to models or routes by patterns instead (docs/keys.md)";
            notes.add(Kind::NoEqual, info.key("access_groups"), text);
        }
        for section in [params, info, entry] {
            section.rest(notes);
        }
        let provider = vendor.provider;
        self.found.push(Deployment {
            key,
            name,
            connection,
            provider,
            model,
            weight,
            order,
            first_byte_ms,
            defaults,
        });
    }

    fn vendor(&self, prefix: Option<String>, written: &str) -> Option<(Vendor, String)> {
        if let Some(prefix) = prefix {
            let bare = written.strip_prefix(&format!("{prefix}/")).unwrap_or(written);
            return Some((vendors::by_prefix(&prefix)?, bare.to_owned()));
        }
        if let Some((prefix, model)) = written.split_once('/')
            && let Some(vendor) = vendors::by_prefix(prefix)
        {
            return Some((vendor, model.to_owned()));
        }
        if written == "*" {
            return None;
        }
        // The vendor's own name first: the catalogue doesn't know models that are gone, or not there yet.
        let resolved = || self.catalogue.resolve(written).and_then(|row| vendors::by_provider(&row.provider));
        Some((vendors::by_family(written).or_else(resolved)?, written.to_owned()))
    }

    /// The connection that goes there with this credential: one that is there already, or a new one.
    fn connection(&mut self, vendor: Vendor, model: &str, params: &mut Section, notes: &mut Notes) -> String {
        let mut options = BTreeMap::new();
        let mut base_url = params.text("api_base", notes).or_else(|| params.text("base_url", notes));
        if let Some(text) = base_url.take() {
            base_url = self.address(text, params.key("api_base"), notes);
        }
        let mut secret = params.text("api_key", notes).map(|text| (text, "api_key"));
        let mut key_file = None;
        match vendor.provider {
            "azure" => {
                let version = params.text("api_version", notes);
                let version = version.and_then(|text| self.plain(text, params.key("api_version"), notes));
                options.extend(version.map(|version| ("api_version".to_owned(), json!(version))));
                if base_url.is_none() {
                    notes.add(
                        Kind::Todo,
                        params.key("api_base"),
                        "set the connection's base_url to the resource's endpoint",
                    );
                }
            }
            "openai" => {
                let organization = params.text("organization", notes);
                let organization =
                    organization.and_then(|text| self.plain(text, params.key("organization"), notes));
                options.extend(organization.map(|id| ("organization".to_owned(), json!(id))));
            }
            "bedrock" => {
                let region = params.text("aws_region_name", notes);
                let region = region.and_then(|text| self.plain(text, params.key("aws_region_name"), notes));
                if let Some(region) = region {
                    base_url.get_or_insert(format!("https://bedrock-runtime.{region}.amazonaws.com"));
                    options.insert("region".to_owned(), json!(region));
                } else if base_url.is_none() {
                    notes.add(
                        Kind::Todo,
                        params.key("aws_region_name"),
                        "set the connection's base_url and options.region",
                    );
                }
                let own = ["aws_access_key_id", "aws_secret_access_key", "aws_session_token"];
                let named = own.map(|name| params.take(name).is_some()).contains(&true);
                if named || secret.is_none() {
                    let text = "set BEDROCK_CREDENTIALS to access_key_id:secret_access_key[:session_token]; roles and profiles of AWS aren't looked for";
                    notes.add(Kind::Todo, params.key("aws_access_key_id"), text);
                } else {
                    options.insert("auth".to_owned(), json!("api_key"));
                }
            }
            "vertex" => {
                for (theirs, ours) in [("vertex_project", "project"), ("vertex_location", "location")] {
                    let text = params.text(theirs, notes);
                    let text = text.and_then(|text| self.plain(text, params.key(theirs), notes));
                    if ours == "location"
                        && let Some(place) = text.as_deref().filter(|place| *place != "global")
                    {
                        base_url.get_or_insert(format!("https://{place}-aiplatform.googleapis.com"));
                    }
                    if ours == "project" && text.is_none() {
                        notes.add(Kind::Todo, params.key(theirs), "set the connection's options.project");
                    }
                    options.extend(text.map(|text| (ours.to_owned(), json!(text))));
                }
                match params.text("vertex_credentials", notes) {
                    Some(text) if text.starts_with("os.environ/") => {
                        secret = Some((text, "vertex_credentials"));
                    }
                    Some(text) if !text.trim_start().starts_with('{') => key_file = Some(text.into()),
                    Some(text) => secret = Some((text, "vertex_credentials")),
                    None if secret.is_none() => {
                        let text = "set VERTEX_SERVICE_ACCOUNT to a service account's key file's text, or api_key_file to its path";
                        notes.add(Kind::Todo, params.key("vertex_credentials"), text);
                    }
                    None => {}
                }
            }
            "vllm" => {
                if let Some(url) = base_url.as_mut().filter(|url| !url.ends_with("/v1")) {
                    url.push_str("/v1");
                }
            }
            _ => {}
        }
        let headers = self.headers(params, notes);
        let max_in_flight = params.count("max_parallel_requests", notes).filter(|most| *most > 0);
        let max_in_flight = max_in_flight.and_then(|most| usize::try_from(most).ok());
        let api_key_env = match secret.map(|(text, member)| (reference(text), member)) {
            _ if key_file.is_some() => None,
            Some((Reference::Variable(name), _)) => Some(name),
            // What servers without keys are told.
            Some((Reference::Literal(text), _)) if vendor.variable.is_none() && text.len() < 12 => None,
            Some((Reference::Literal(_), member)) => {
                let name = vendor.variable.unwrap_or("IMPORTED_API_KEY").to_owned();
                let free =
                    |name: &String| self.connections.iter().all(|one| one.api_key_env.as_ref() != Some(name));
                let numbered = (2..).map(|number| format!("{name}_{number}"));
                let name = std::iter::once(name.clone()).chain(numbered).find(free).unwrap_or(name);
                let text =
                    format!("the credential in the file isn't copied: put it into the variable {name}");
                notes.add(Kind::Todo, params.key(member), text);
                Some(name)
            }
            None => vendor.variable.map(str::to_owned),
        };
        let wanted = Connection {
            name: String::new(),
            provider: vendor.provider.to_owned(),
            base_url,
            api_key_env,
            api_key_file: key_file,
            options,
            headers,
            max_in_flight,
            ..Connection::default()
        };
        self.keep(wanted, model)
    }

    fn keep(&mut self, wanted: Connection, model: &str) -> String {
        // A connection with a wildcard serves whatever its provider has.
        let wild = model.contains('*');
        let same = self.connections.iter_mut().find(|one| {
            let bare = Connection { name: String::new(), models: Vec::new(), ..(*one).clone() };
            bare == wanted && one.models.is_empty() == wild
        });
        if let Some(one) = same {
            if !wild && !one.models.iter().any(|known| known == model) {
                one.models.push(model.to_owned());
            }
            return one.name.clone();
        }
        let number = 1 + self.connections.iter().filter(|one| one.provider == wanted.provider).count();
        let name = format!("{}-{number}", wanted.provider);
        let models = if wild { Vec::new() } else { vec![model.to_owned()] };
        self.connections.push(Connection { name: name.clone(), models, ..wanted });
        name
    }

    /// An address, which isn't secret: a variable is looked up now.
    fn address(&self, text: String, key: String, notes: &mut Notes) -> Option<String> {
        let url = self.plain(text, key.clone(), notes)?;
        let url = url.trim_end_matches('/').to_owned();
        if url.starts_with("http://") || url.starts_with("https://") {
            return Some(url);
        }
        notes.add(
            Kind::Todo,
            key,
            "no address that begins with http:// or https://: set the connection's base_url",
        );
        None
    }

    /// A text that isn't secret.
    fn plain(&self, text: String, key: String, notes: &mut Notes) -> Option<String> {
        match reference(text) {
            Reference::Literal(text) => Some(text),
            Reference::Variable(name) => {
                let found = (self.variable)(&name).filter(|text| !text.trim().is_empty());
                if found.is_none() {
                    let text = format!(
                        "the variable {name} isn't set here, and this can't be a variable: write its value into the connection"
                    );
                    notes.add(Kind::Todo, key, text);
                }
                found
            }
        }
    }

    fn headers(&self, params: &mut Section, notes: &mut Notes) -> BTreeMap<String, String> {
        let mut headers = BTreeMap::new();
        for member in ["extra_headers", "headers"] {
            let Some(Value::Object(given)) = params.take(member) else { continue };
            for (name, value) in given {
                let lower = name.to_ascii_lowercase();
                let secret =
                    ["auth", "key", "token", "secret", "cookie"].iter().any(|word| lower.contains(word));
                match value.as_str().filter(|text| !secret && !text.starts_with("os.environ/")) {
                    Some(text) => drop(headers.insert(name, text.to_owned())),
                    None => {
                        let text = "a header that may be a secret isn't copied: headers of connections are no place for them";
                        notes.add(Kind::Todo, format!("{}.{name}", params.key(member)), text);
                    }
                }
            }
        }
        headers
    }

    /// `simple-shuffle` goes by weight, or else by requests or tokens per minute.
    fn weight(&self, params: &mut Section, notes: &mut Notes) -> u32 {
        let weight = params.count("weight", notes);
        let (rpm, tpm) = (params.count("rpm", notes), params.count("tpm", notes));
        if rpm.or(tpm).is_some() {
            let text = "a deployment has no limit of its own: it is the candidate's weight where there is none, and a vendor's 429 sends calls elsewhere";
            notes.add(Kind::Changed, params.key(if rpm.is_some() { "rpm" } else { "tpm" }), text);
        }
        let weight = weight.or(rpm).or_else(|| tpm.map(|tpm| tpm.div_ceil(1_000)));
        u32::try_from(weight.unwrap_or(1).clamp(1, 1_000_000)).unwrap_or(1)
    }

    fn price(
        &mut self,
        vendor: Vendor,
        model: &str,
        params: &mut Section,
        info: &mut Section,
        notes: &mut Notes,
    ) {
        let mut prices = Map::new();
        for (theirs, ours) in [
            ("input_cost_per_token", "input"),
            ("output_cost_per_token", "output"),
            ("cache_read_input_token_cost", "cache_read"),
        ] {
            let price = params.number(theirs, notes).or_else(|| info.number(theirs, notes));
            // Ten digits are more than prices have, and fewer than a double holds.
            let text = price.map(|price| format!("{:.10}", price * 1e6));
            let trimmed = text.map(|text| text.trim_end_matches('0').trim_end_matches('.').to_owned());
            prices.extend(trimmed.map(|text| (ours.to_owned(), json!(text))));
        }
        let base = info.text("base_model", notes);
        let base = base.map(|base| base.rsplit_once('/').map_or(base.clone(), |(_, name)| name.to_owned()));
        let base = base.filter(|base| base != model && self.catalogue.find(vendor.provider, base).is_some());
        let known = self.prices.iter().any(|row| row.provider == vendor.provider && row.name == model);
        if model.contains('*') || known || (prices.is_empty() && base.is_none()) {
            return;
        }
        let row = json!({ "provider": vendor.provider, "name": model, "base": base, "prices": prices });
        match serde_json::from_value(row) {
            Ok(row) => self.prices.push(row),
            Err(_) => notes.add(
                Kind::Todo,
                params.path.clone(),
                "its prices can't be written: add a [[models]] row",
            ),
        }
    }
}

/// The model as the vendor is asked for it.
fn upstream_name(vendor: Vendor, model: String, params: &Section, notes: &mut Notes) -> String {
    let bare = match vendor.provider {
        "bedrock" => {
            ["converse/", "converse_like/", "invoke/"].iter().find_map(|way| model.strip_prefix(way))
        }
        _ => None,
    };
    if let Some(bare) = bare {
        notes.add(Kind::Changed, params.key("model"), "Bedrock is always asked by its Converse API");
        return bare.to_owned();
    }
    model
}
