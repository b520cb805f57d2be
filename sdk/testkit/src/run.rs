//! Loading a component and playing its fixtures; providers' fixtures are played here.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use brokle_runtime::exchange::{Call, ErrorOutcome, NextRequest, Preparation, ResponseHead, ResponsePlan};
use brokle_runtime::{
    Body, CallContext, DialectPlugin, ExporterPlugin, Framer, GuardrailPlugin, Kind, LoadError, Observer,
    PluginError, PolicyPlugin, ProviderInstance, ProviderPlugin, Runtime, RuntimeConfig, inspect,
};
use serde_json::{Value, json};

use crate::case::{self, Case};
use crate::coverage::Heard;
use crate::diff::diff;
use crate::outcome::{self, Outcome};
use crate::report::{Fixture, Report};
use crate::{Error, assemble, dialect, exporter, fixture, guardrail, policy};

/// Loads the component as a gateway would, and plays its fixtures.
pub(crate) async fn all(component: &Path, fixtures: &Path) -> Result<Report, Error> {
    let load = |error: &dyn std::fmt::Display| Error::Load(error.to_string());
    let scratch = tempfile::tempdir().map_err(|error| load(&error))?;
    let config = RuntimeConfig { max_instances: 4, ..RuntimeConfig::default() };
    let runtime = Runtime::start(config, scratch.path(), [0; 32]).map_err(|error| load(&error))?;
    let bytes = case::bytes(component)?;
    let manifest = inspect(&bytes).map_err(|error| load(&error))?.manifest;
    let plugin = Plugin::load(&runtime, manifest.kind, &bytes).await.map_err(|error| load(&error))?;
    let paths = match manifest.kind {
        Kind::Provider | Kind::Dialect => folders(fixtures)?,
        Kind::RoutingPolicy | Kind::Guardrail | Kind::Exporter => fixture::files(fixtures)?,
    };
    if paths.is_empty() {
        return Err(Error::File { path: fixtures.to_owned(), detail: "there is no fixture in it".into() });
    }
    let heard = Arc::new(Heard::default());
    let observer: Arc<dyn Observer> = heard.clone();
    let mut played = Vec::new();
    for path in &paths {
        let (plays, differences) = match &plugin {
            Plugin::Provider(plugin) => play(plugin, path, &observer).await?,
            Plugin::Policy(plugin) => policy::play(plugin, path, &observer).await?,
            Plugin::Guardrail(plugin) => guardrail::play(plugin, path, &observer).await?,
            Plugin::Dialect(plugin) => dialect::play(plugin, path, &observer).await?,
            Plugin::Exporter(plugin) => exporter::play(plugin, path, &observer).await?,
        };
        let name = path.file_stem().filter(|_| path.is_file()).or(path.file_name()).unwrap_or_default();
        played.push(Fixture { name: name.to_string_lossy().into_owned(), plays, differences });
    }
    // Providers' and dialects' fixtures have no configuration to check.
    let configs = if matches!(manifest.kind, Kind::Provider | Kind::Dialect) { 0 } else { paths.len() };
    let coverage = heard.coverage(manifest.kind, u64::try_from(configs).unwrap_or(u64::MAX));
    Ok(Report { plugin: manifest.label(), fixtures: played, coverage })
}

/// A component, by its role.
enum Plugin {
    Provider(ProviderPlugin),
    Policy(PolicyPlugin),
    Guardrail(GuardrailPlugin),
    Dialect(DialectPlugin),
    Exporter(ExporterPlugin),
}

impl Plugin {
    async fn load(runtime: &Runtime, kind: Kind, bytes: &[u8]) -> Result<Self, LoadError> {
        Ok(match kind {
            Kind::Provider => Self::Provider(ProviderPlugin::load(runtime, bytes).await?),
            Kind::RoutingPolicy => Self::Policy(PolicyPlugin::load(runtime, bytes).await?),
            Kind::Guardrail => Self::Guardrail(GuardrailPlugin::load(runtime, bytes).await?),
            Kind::Dialect => Self::Dialect(DialectPlugin::load(runtime, bytes).await?),
            Kind::Exporter => Self::Exporter(ExporterPlugin::load(runtime, bytes).await?),
        })
    }
}

/// The folders of a provider's fixtures.
fn folders(fixtures: &Path) -> Result<Vec<PathBuf>, Error> {
    let unreadable =
        |error: std::io::Error| Error::File { path: fixtures.to_owned(), detail: error.to_string() };
    let entries = std::fs::read_dir(fixtures).map_err(unreadable)?;
    let mut folders = Vec::new();
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        if path.join("case.json").exists() {
            folders.push(path);
        }
    }
    folders.sort();
    Ok(folders)
}

/// Plays one fixture of a provider; how often, and what differs.
async fn play(
    plugin: &ProviderPlugin,
    folder: &Path,
    heard: &Arc<dyn Observer>,
) -> Result<(usize, Vec<String>), Error> {
    let case: Case = case::required(&folder.join("case.json"))?;
    let request = case::request(&case, folder)?;
    let (response, further) = (case::response(folder)?, case::further(folder)?);
    let player = Player { plugin, heard, call: case.call(), request, response, further };

    let mut differences = Vec::new();
    let outcome = match player.outcome(Cut::Whole).await {
        Ok(outcome) => outcome,
        Err(failure) => return Ok((1, vec![failure])),
    };
    let mut plays = 1;
    let length = player.response.as_ref().map_or(0, |(_, body)| body.len());
    let streams = ["response.sse", "response.ndjson", "response.eventstream"];
    if streams.iter().any(|name| folder.join(name).exists()) {
        for cut in (1..length).map(Cut::Two).chain([Cut::Bytes]) {
            plays += 1;
            match player.outcome(cut).await {
                Ok(again) if again == outcome => {}
                Ok(_) => differences.push(format!("{cut}, the answer gives other outputs")),
                Err(failure) => differences.push(format!("{cut}: {failure}")),
            }
        }
    }
    for (name, made) in outcome.files(case.streaming) {
        differences.extend(compare(&folder.join(name), made)?);
    }
    if let Some(other) = &case.same_as {
        let whole: Value = case::required(&folder.with_file_name(other).join("expected.json"))?;
        let (streamed, whole) = (assemble::joined(&outcome.chunks), assemble::of_whole(&whole));
        let lines = diff(&whole, &streamed);
        if !lines.is_empty() {
            differences.push(format!("joined, it isn't the answer of {other}:\n  {}", lines.join("\n  ")));
        }
    }
    Ok((plays, differences))
}

/// Compares with a file, or writes it when blessing.
pub(crate) fn compare(path: &Path, made: Option<Value>) -> Result<Option<String>, Error> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if std::env::var_os("BROKLE_BLESS").is_some() {
        let written = match made {
            Some(value) => std::fs::write(path, format!("{value:#}\n")),
            None if path.exists() => std::fs::remove_file(path),
            None => Ok(()),
        };
        written.map_err(|error| Error::File { path: path.to_owned(), detail: error.to_string() })?;
        return Ok(None);
    }
    let expected: Option<Value> = case::optional(path)?;
    Ok(match (expected, made) {
        (expected, made) if expected == made => None,
        (None, Some(made)) => Some(format!("{name} is missing, and this came:\n  {made}")),
        (Some(_), None) => Some(format!("{name} is there, and nothing came")),
        (expected, made) => {
            let [expected, made] = [expected, made].map(Option::unwrap_or_default);
            Some(format!("{name} differs:\n  {}", diff(&expected, &made).join("\n  ")))
        }
    })
}

/// How an answer's bytes come.
#[derive(Clone, Copy)]
enum Cut {
    /// In one read.
    Whole,
    /// In two that meet there.
    Two(usize),
    /// Byte by byte.
    Bytes,
}

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Whole => f.write_str("uncut"),
            Self::Two(at) => write!(f, "split at byte {at}"),
            Self::Bytes => f.write_str("byte by byte"),
        }
    }
}

impl Cut {
    fn reads(self, body: &[u8]) -> Vec<&[u8]> {
        match self {
            Self::Whole => vec![body],
            Self::Two(at) => {
                body.split_at_checked(at).map_or(vec![body], |(first, second)| vec![first, second])
            }
            Self::Bytes => body.chunks(1).collect(),
        }
    }
}

/// One answer, and what its decoder begins with.
struct Answer<'a> {
    head: &'a ResponseHead,
    framing: &'a str,
    reads: Vec<&'a [u8]>,
    state: Vec<u8>,
}

struct Player<'a> {
    plugin: &'a ProviderPlugin,
    heard: &'a Arc<dyn Observer>,
    call: Call,
    request: Body,
    response: Option<(ResponseHead, Vec<u8>)>,
    /// The answers to further requests.
    further: Vec<(ResponseHead, Vec<u8>)>,
}

impl Player<'_> {
    /// One playing, in a fresh instance.
    async fn outcome(&self, cut: Cut) -> Result<Outcome, String> {
        let failed = |error: PluginError| error.to_string();
        let mut outcome = Outcome::default();
        let context = CallContext { observer: Some(self.heard.clone()), ..CallContext::default() };
        let mut instance = self.plugin.open(context).await.map_err(failed)?;
        let request = match instance.prepare(&self.call, self.request.clone()).await.map_err(failed)? {
            Err(problem) => {
                outcome.problem = Some(outcome::problem(&problem));
                return Ok(outcome);
            }
            Ok(Preparation::Answer(outputs)) => {
                outcome.extend(&outputs);
                return Ok(outcome);
            }
            Ok(Preparation::Request(request)) => request,
        };
        outcome.upstream = Some(outcome::upstream(&request, &self.request)?);
        let Some((head, body)) = &self.response else { return Ok(outcome) };
        if !(200..300).contains(&head.status) {
            match instance.map_error(&self.call, head, body.clone()).await.map_err(failed)? {
                ErrorOutcome::Problem(problem) => outcome.problem = Some(outcome::problem(&problem)),
                ErrorOutcome::Next(next) => {
                    return Err(format!("it asks again at {}, which has no fixture", next.request.path));
                }
            }
        } else if let ResponsePlan::Decoded(framing) = &request.response {
            let first = Answer { head, framing, reads: cut.reads(body), state: Vec::new() };
            let mut next = self.decode(&mut instance, first, &mut outcome).await?;
            let mut further = self.further.iter();
            while let Some(step) = next.take() {
                outcome.next.push(json!({
                    "after_ms": step.delay_ms,
                    "request": outcome::upstream(&step.request, &self.request)?,
                }));
                let Some((head, body)) = further.next() else { break };
                if !(200..300).contains(&head.status) {
                    match instance.map_error(&self.call, head, body.clone()).await.map_err(failed)? {
                        ErrorOutcome::Problem(problem) => outcome.problem = Some(outcome::problem(&problem)),
                        ErrorOutcome::Next(step) => next = Some(step),
                    }
                    continue;
                }
                let framing = match &step.request.response {
                    ResponsePlan::Decoded(framing) => framing.as_str(),
                    ResponsePlan::Native | ResponsePlan::Opaque => "whole",
                };
                let answer = Answer { head, framing, reads: vec![body.as_slice()], state: step.state };
                next = self.decode(&mut instance, answer, &mut outcome).await?;
            }
        }
        Ok(outcome)
    }

    /// Decodes one answer; the further request that it needs, if any.
    async fn decode(
        &self,
        instance: &mut ProviderInstance,
        answer: Answer<'_>,
        outcome: &mut Outcome,
    ) -> Result<Option<NextRequest>, String> {
        let failed = |error: PluginError| error.to_string();
        let Answer { head, framing, reads, state } = answer;
        let mut framer =
            Framer::new(framing).ok_or_else(|| format!("answers framed as '{framing}' have no fixtures"))?;
        instance.begin_decoding(&self.call, head, &state).await.map_err(failed)?;
        let mut batches = Vec::new();
        for read in reads {
            batches.push(framer.push(read).map_err(|error| error.to_string())?);
        }
        batches.push(framer.finish().map_err(|error| error.to_string())?.into_iter().collect());
        for batch in batches.iter().filter(|batch| !batch.is_empty()) {
            match instance.push(batch).await.map_err(failed)? {
                Ok(outputs) => outcome.extend(&outputs),
                Err(problem) => {
                    outcome.problem = Some(outcome::problem(&problem));
                    return Ok(None);
                }
            }
            if outcome.problem.is_some() {
                return Ok(None);
            }
        }
        match instance.finish().await.map_err(failed)? {
            Ok(ending) => {
                outcome.extend(&ending.outputs);
                Ok(ending.next)
            }
            Err(problem) => {
                outcome.problem = Some(outcome::problem(&problem));
                Ok(None)
            }
        }
    }
}
