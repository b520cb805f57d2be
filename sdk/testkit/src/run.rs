//! Playing fixtures.

use std::path::{Path, PathBuf};

use brokle_runtime::exchange::{Call, ErrorOutcome, Preparation, ResponseHead, ResponsePlan};
use brokle_runtime::{
    Body, CallContext, Framer, PluginError, ProviderInstance, ProviderPlugin, Runtime, RuntimeConfig,
};
use bytes::Bytes;
use serde_json::Value;

use crate::case::{self, Case};
use crate::outcome::{self, Outcome};
use crate::{Error, assemble};

/// Loads the component and plays every folder that has a `case.json`.
pub(crate) async fn all(component: &Path, fixtures: &Path) -> Result<Vec<String>, Error> {
    let scratch = tempfile::tempdir().map_err(|error| Error::Load(error.to_string()))?;
    let config = RuntimeConfig { max_instances: 4, ..RuntimeConfig::default() };
    let runtime =
        Runtime::start(config, scratch.path(), [0; 32]).map_err(|error| Error::Load(error.to_string()))?;
    let bytes = case::bytes(component)?;
    let plugin =
        ProviderPlugin::load(&runtime, &bytes).await.map_err(|error| Error::Load(error.to_string()))?;

    let folders = folders(fixtures)?;
    let (mut names, mut failures) = (Vec::new(), Vec::new());
    for folder in &folders {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let differences = play(&plugin, folder).await?;
        if !differences.is_empty() {
            failures.push(format!("{name}\n{}", differences.join("\n")));
        }
        names.push(name);
    }
    match failures.is_empty() {
        true if names.is_empty() => {
            Err(Error::File { path: fixtures.to_owned(), detail: "there is no fixture in it".into() })
        }
        true => Ok(names),
        false => Err(Error::Failed { total: names.len(), failures }),
    }
}

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

/// What differs in one fixture.
async fn play(plugin: &ProviderPlugin, folder: &Path) -> Result<Vec<String>, Error> {
    let case: Case = case::required(&folder.join("case.json"))?;
    let request = case::bytes(&folder.join("request.json"))?;
    let response = case::response(folder)?;
    let player = Player { plugin, call: case.call(), request, response };

    let mut differences = Vec::new();
    let outcome = match player.outcome(None).await {
        Ok(outcome) => outcome,
        Err(failure) => return Ok(vec![format!("  {failure}")]),
    };
    let length = player.response.as_ref().map_or(0, |(_, body)| body.len());
    if folder.join("response.sse").exists() || folder.join("response.ndjson").exists() {
        for at in 1..length {
            match player.outcome(Some(at)).await {
                Ok(again) if again == outcome => {}
                Ok(_) => differences.push(format!("  split at byte {at}, the answer gives other outputs")),
                Err(failure) => differences.push(format!("  split at byte {at}: {failure}")),
            }
        }
    }
    for (name, made) in outcome.files(case.streaming) {
        differences.extend(compare(&folder.join(name), made)?);
    }
    if let Some(other) = &case.same_as {
        let whole: Value = case::required(&folder.with_file_name(other).join("expected.json"))?;
        let (streamed, whole) = (assemble::joined(&outcome.chunks), assemble::of_whole(&whole));
        if streamed != whole {
            differences.push(format!(
                "  joined, it isn't the answer of {other}:\n    joined: {streamed}\n    whole:  {whole}"
            ));
        }
    }
    Ok(differences)
}

/// Compares with a file, or writes it when blessing.
fn compare(path: &Path, made: Option<Value>) -> Result<Option<String>, Error> {
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
        (None, Some(made)) => Some(format!("  {name} is missing, and this came:\n    {made}")),
        (Some(_), None) => Some(format!("  {name} is there, and nothing came")),
        (expected, made) => {
            let [expected, made] = [expected, made].map(Option::unwrap_or_default);
            Some(format!("  {name} differs:\n    expected: {expected}\n    came:     {made}"))
        }
    })
}

struct Player<'a> {
    plugin: &'a ProviderPlugin,
    call: Call,
    request: Vec<u8>,
    response: Option<(ResponseHead, Vec<u8>)>,
}

impl Player<'_> {
    /// One playing; with `split`, the answer's bytes come in two reads that meet there.
    async fn outcome(&self, split: Option<usize>) -> Result<Outcome, String> {
        let failed = |error: PluginError| error.to_string();
        let mut outcome = Outcome::default();
        let mut instance = self.plugin.open(CallContext::default()).await.map_err(failed)?;
        let body = Body::json(Bytes::from(self.request.clone()));
        let request = match instance.prepare(&self.call, body).await.map_err(failed)? {
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
            let (first, second) = body.split_at(split.unwrap_or(body.len()).min(body.len()));
            self.decode(&mut instance, head, framing, [first, second], &mut outcome).await?;
        }
        Ok(outcome)
    }

    async fn decode(
        &self,
        instance: &mut ProviderInstance,
        head: &ResponseHead,
        framing: &str,
        reads: [&[u8]; 2],
        outcome: &mut Outcome,
    ) -> Result<(), String> {
        let failed = |error: PluginError| error.to_string();
        let mut framer =
            Framer::new(framing).ok_or_else(|| format!("answers framed as '{framing}' have no fixtures"))?;
        instance.begin_decoding(&self.call, head, &Vec::new()).await.map_err(failed)?;
        let mut batches = Vec::new();
        for read in reads {
            batches.push(framer.push(read).map_err(|error| error.to_string())?);
        }
        batches.push(framer.finish().into_iter().collect());
        for batch in batches.iter().filter(|batch| !batch.is_empty()) {
            match instance.push(batch).await.map_err(failed)? {
                Ok(outputs) => outcome.extend(&outputs),
                Err(problem) => {
                    outcome.problem = Some(outcome::problem(&problem));
                    return Ok(());
                }
            }
            if outcome.problem.is_some() {
                return Ok(());
            }
        }
        match instance.finish().await.map_err(failed)? {
            Ok(ending) => outcome.extend(&ending.outputs),
            Err(problem) => outcome.problem = Some(outcome::problem(&problem)),
        }
        Ok(())
    }
}
