//! `docs/providers.md`: what each provider offers, from the components' own descriptions and fixtures.
//!
//! The test fails when the file says something else; `make docs` (or `BROKLE_BLESS=1` with this test) writes it anew.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::{Path, PathBuf};

use brokle_runtime::{Preset, ProviderPlugin, Runtime, RuntimeConfig};
use serde_json::Value;

type Failure = Box<dyn Error>;

/// Columns of the table of chat features: what a component calls it, what people do.
const CHAT: [(&str, &str); 10] = [
    ("stream", "streams"),
    ("tools", "tools"),
    ("parallel_tool_calls", "parallel tools"),
    ("vision", "images"),
    ("pdf", "documents"),
    ("audio", "audio"),
    ("json_schema", "JSON Schema"),
    ("reasoning", "reasoning"),
    ("prompt_caching", "prompt cache"),
    ("logprobs", "logprobs"),
];

/// Columns of the table of operations.
const OPERATIONS: [(&str, &str); 8] = [
    ("chat.completions", "chat"),
    ("completions", "completions"),
    ("embeddings", "embeddings"),
    ("rerank", "rerank"),
    ("realtime", "realtime"),
    ("batches", "batches"),
    ("models", "models"),
    ("raw", "raw"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What a component says of itself, and what its fixtures show.
struct Provider {
    package: String,
    plugin: ProviderPlugin,
    shown: BTreeSet<(String, &'static str)>,
}

impl Provider {
    fn offers(&self, operation: &str, feature: Option<&str>) -> bool {
        let operations = self.plugin.description().and_then(|all| all.get("operations"));
        let Some(features) = operations.and_then(|all| all.get(operation)) else { return false };
        feature
            .is_none_or(|feature| features.as_array().is_some_and(|all| all.iter().any(|one| one == feature)))
    }

    /// `●` where a fixture shows it, `○` where the component only says so.
    fn mark(&self, operation: &str, feature: Option<&'static str>) -> &'static str {
        match self.offers(operation, feature) {
            false => "",
            true if self.shown.contains(&(operation.to_owned(), feature.unwrap_or(""))) => "●",
            true => "○",
        }
    }
}

fn read(path: &Path) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// What one fixture shows of its operation.
fn shown_by(folder: &Path, shown: &mut BTreeSet<(String, &'static str)>) {
    let Some(case) = read(&folder.join("case.json")) else { return };
    let problem = folder.join("expected-problem.json").exists();
    let sent = folder.join("expected-upstream.json").exists() || folder.join("expected.json").exists();
    // What a setting drops isn't offered.
    let drops = case.pointer("/options/unsupported_parameters").is_some_and(|setting| setting == "drop");
    if problem || drops || !sent {
        return;
    }
    let operation = case.get("operation").and_then(Value::as_str).unwrap_or_default();
    // Those about batches are described as one.
    let operation = if operation.starts_with("batches.") { "batches" } else { operation }.to_owned();
    let request = read(&folder.join("request.json")).unwrap_or_default();
    let text = request.to_string();
    let answer = read(&folder.join("expected.json")).unwrap_or_default().to_string();
    let usage = read(&folder.join("expected-usage.json")).unwrap_or_default();
    let calls = answer.matches("\"type\":\"function\"").count();
    let format = request.pointer("/response_format/type").and_then(Value::as_str).unwrap_or_default();
    let features = [
        ("", true),
        ("stream", case.get("streaming") == Some(&Value::Bool(true))),
        ("tools", calls > 0 || request.get("tools").is_some()),
        ("parallel_tool_calls", calls > 1),
        ("vision", text.contains("\"image_url\"")),
        ("pdf", text.contains("application/pdf")),
        ("audio", text.contains("\"input_audio\"")),
        ("json_schema", format == "json_schema"),
        ("reasoning", answer.contains("\"reasoning_content\"") || request.get("reasoning_effort").is_some()),
        ("prompt_caching", usage.get("cached_read").is_some() || usage.get("cache_write").is_some()),
        ("logprobs", request.get("logprobs").is_some()),
    ];
    shown.extend(features.into_iter().filter(|(_, is)| *is).map(|(name, _)| (operation.clone(), name)));
}

async fn providers() -> Result<Vec<Provider>, Failure> {
    let scratch = tempfile::tempdir()?;
    let runtime = Runtime::start(
        RuntimeConfig { max_instances: 4, ..RuntimeConfig::default() },
        scratch.path(),
        [0; 32],
    )?;
    let mut packages: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(root().join("plugins"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        packages.extend(Some(name).filter(|name| name.starts_with("provider-")));
    }
    packages.sort();
    let mut providers = Vec::new();
    for package in packages {
        let bytes = std::fs::read(brokle_testkit::built(&package)?)?;
        let plugin = ProviderPlugin::load(&runtime, &bytes).await?;
        let mut shown = BTreeSet::new();
        for entry in std::fs::read_dir(root().join("plugins").join(&package).join("fixtures"))? {
            shown_by(&entry?.path(), &mut shown);
        }
        providers.push(Provider { package, plugin, shown });
    }
    Ok(providers)
}

fn row(cells: impl IntoIterator<Item = String>) -> String {
    format!("| {} |\n", cells.into_iter().collect::<Vec<_>>().join(" | "))
}

fn table(page: &mut String, head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
    page.push_str(&row(head.iter().map(|cell| (*cell).to_owned())));
    page.push_str(&row(head.iter().map(|_| "---".to_owned())));
    rows.into_iter().for_each(|cells| page.push_str(&row(cells)));
    page.push('\n');
}

fn code(text: Option<&str>) -> String {
    text.map(|text| format!("`{text}`")).unwrap_or_default()
}

fn page(providers: &[Provider]) -> String {
    let mut page = String::from(
        "# Providers\n\nWritten by `make docs` from the components' own descriptions, manifests and fixtures; a test fails \
         when it is out of date.\n\n`●`: the component offers it, and a fixture shows it. `○`: it offers it, untouched on \
         its way to a vendor that may have it. Empty: refused with the name of what is missing.\n\n## Operations\n\n",
    );
    let link = |one: &Provider| {
        let manifest = one.plugin.manifest();
        format!("[{}](../plugins/{})", manifest.title, one.package)
    };
    let name = |one: &Provider| code(Some(&one.plugin.manifest().name));
    let head: Vec<&str> = ["provider", "name", "key", "base URL"]
        .into_iter()
        .chain(OPERATIONS.map(|(_, shown)| shown))
        .collect();
    table(
        &mut page,
        &head,
        providers.iter().map(|one| {
            let connection = one.plugin.connection();
            let variable = |name: &Option<String>| code(name.as_deref());
            let first =
                [link(one), name(one), variable(&connection.api_key_env), variable(&connection.base_url_env)];
            first
                .into_iter()
                .chain(OPERATIONS.map(|(operation, _)| one.mark(operation, None).to_owned()))
                .collect()
        }),
    );
    page.push_str("## Chat\n\n");
    let head: Vec<&str> = ["provider"].into_iter().chain(CHAT.map(|(_, shown)| shown)).collect();
    let chat = providers.iter().filter(|one| one.offers("chat.completions", None));
    table(
        &mut page,
        &head,
        chat.map(|one| {
            let marks = CHAT.map(|(feature, _)| one.mark("chat.completions", Some(feature)).to_owned());
            [link(one)].into_iter().chain(marks).collect()
        }),
    );
    for one in providers.iter().filter(|one| !one.plugin.connection().presets.is_empty()) {
        page.push_str(&format!(
            "## Presets of {}\n\nEach is a name for requests (`NAME/model`) and connections (`provider = \"NAME\"`). What \
             isn't said is as at OpenAI, but for `max_tokens` and the role `system` \
             ([options](../plugins/{}/README.md)).\n\n",
            one.plugin.manifest().name, one.package
        ));
        let presets = &one.plugin.connection().presets;
        let head = ["vendor or server", "name", "key", "base URL", "operations", "otherwise"];
        table(&mut page, &head, presets.iter().map(|(name, preset)| preset_row(name, preset)));
    }
    page.truncate(page.trim_end().len());
    page.push('\n');
    page
}

fn preset_row(name: &str, preset: &Preset) -> Vec<String> {
    let options: BTreeMap<&str, &Value> =
        preset.options.iter().map(|(name, value)| (name.as_str(), value)).collect();
    let list = |value: &Value| {
        let texts: Vec<_> = value.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        texts.join(", ")
    };
    let operations = options.get("operations").map_or_else(|| "all".to_owned(), |value| list(value));
    let otherwise =
        options.iter().filter(|(name, _)| **name != "operations").map(|(name, value)| match value {
            Value::Array(_) => format!("{name}: {}", list(value)),
            Value::Object(_) => format!("{name}: `{value}`"),
            other => format!("{name}: {}", other.to_string().trim_matches('"')),
        });
    let mut key = code(preset.api_key_env.as_deref());
    for variable in preset.options_env.values() {
        key.push_str(&format!(", `{variable}`"));
    }
    vec![
        format!("[{}]({})", preset.title, preset.docs),
        format!("`{name}`"),
        key,
        preset
            .base_url
            .as_deref()
            .map_or_else(|| code(preset.base_url_env.as_deref()), |url| format!("`{url}`")),
        operations.replace("chat.completions", "chat"),
        otherwise.collect::<Vec<_>>().join("; "),
    ]
}

#[test]
fn the_table_of_providers_is_true() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let providers = runtime.block_on(providers())?;
    // A component that translates shows what it claims: only relays may leave it to the vendor.
    for one in providers.iter().filter(|one| {
        !["provider-openai", "provider-azure-openai", "provider-openai-compatible"]
            .contains(&one.package.as_str())
    }) {
        for (feature, _) in CHAT {
            assert_ne!(
                one.mark("chat.completions", Some(feature)),
                "○",
                "{}: no fixture shows {feature}",
                one.package
            );
        }
    }
    let made = page(&providers);
    let path = root().join("docs/providers.md");
    if std::env::var_os("BROKLE_BLESS").is_some() {
        std::fs::write(&path, &made)?;
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == made, "docs/providers.md is out of date: run `make docs`");
    Ok(())
}
