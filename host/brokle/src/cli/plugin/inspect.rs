//! `brokle plugin inspect`.

use std::path::PathBuf;
use std::process::ExitCode;

use brokle_core::clock::{Clock, SystemClock};
use brokle_runtime::trust::files::PluginFile;
use brokle_runtime::trust::{Refusal, Rules, Verdict};
use brokle_runtime::{Inspection, guest_stack, inspect};
use clap::Args;
use serde::Serialize;

use super::Outcome;
use crate::cli::ConfigFile;
use crate::cli::trust::read_only_store;
use crate::output;

/// The largest stack that keeps a fresh instance cheap, in bytes.
const SMALL_STACK: u32 = 128 << 10;

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    #[command(flatten)]
    config: ConfigFile,
    /// The component; nothing in it is run or compiled.
    file: PathBuf,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    inspection: &'a Inspection,
    /// Bytes; `null` when it can't be told.
    stack_size: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remark: Option<String>,
    signature: Signature,
}

#[derive(Serialize)]
#[serde(tag = "status", rename_all = "lowercase")]
enum Signature {
    Accepted(Box<Verdict>),
    Refused(Refusal),
}

pub(super) fn run(command: &Inspect) -> Outcome {
    let file = PluginFile::read(&command.file)?;
    let inspection = match inspect(&file.component) {
        Ok(inspection) => inspection,
        Err(error) => {
            output::complain(&format!("{}: {error}", error.code()));
            return Ok(ExitCode::FAILURE);
        }
    };
    let store = read_only_store(&command.config, None)?;
    let (envelope, now) = (file.envelope.as_deref(), SystemClock.now());
    let signature = match store.verify(&file.component, envelope, &inspection, &Rules::default(), now) {
        Ok(verdict) => Signature::Accepted(verdict.into()),
        Err(refusal) => Signature::Refused(refusal),
    };
    let stack_size = guest_stack(&file.component);
    let shown = Shown { inspection: &inspection, stack_size, remark: remark(stack_size), signature };
    if command.json {
        output::json(&shown)?;
    } else {
        output::lines(lines(&shown)?)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What the author should know about the stack.
fn remark(stack: Option<u32>) -> Option<String> {
    let stack = stack.filter(|stack| *stack > SMALL_STACK)?;
    Some(format!(
        "a guest stack of {} KiB makes each fresh instance dearer: link with -zstack-size=65536, or 131072 if it recurses",
        stack >> 10
    ))
}

fn lines(shown: &Shown<'_>) -> Result<Vec<String>, serde_json::Error> {
    let Inspection { manifest, abi, sha256, size, imports, exports, .. } = shown.inspection;
    let word = |value: serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let mut lines = vec![
        format!("{}  {}", manifest.label(), manifest.title),
        format!("  kind       {} ({})", word(serde_json::to_value(manifest.kind)?), manifest.wit),
        format!("  built with {} from {} {}", abi.sdk, abi.package, abi.version),
        format!("  sha256     {sha256}"),
        format!("  size       {size} bytes"),
    ];
    if let Some(stack) = shown.stack_size {
        lines.push(format!("  stack      {} KiB", stack >> 10));
    }
    if !manifest.entitlements.is_empty() {
        lines.push(format!("  license    needs {}", manifest.entitlements.join(", ")));
    }
    lines.push(match &shown.signature {
        Signature::Accepted(verdict) => {
            let signers: Vec<String> = verdict.signers.iter().map(ToString::to_string).collect();
            format!("  signature  {} {}", word(serde_json::to_value(verdict.level)?), signers.join(", "))
        }
        Signature::Refused(refusal) => format!("  signature  {refusal}"),
    });
    for (name, list) in [("imports", imports), ("exports", exports)] {
        lines.push(format!("  {name}"));
        lines.extend(list.iter().map(|entry| format!("    {entry}")));
    }
    lines.extend(shown.remark.iter().map(|remark| format!("  remark: {remark}")));
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::remark;

    #[test]
    fn a_large_stack_is_remarked_on() {
        assert!(
            remark(Some(1 << 20))
                .is_some_and(|text| text.contains("1024 KiB") && text.contains("-zstack-size"))
        );
        for fine in [None, Some(16 << 10), Some(64 << 10), Some(128 << 10)] {
            assert_eq!(remark(fine), None);
        }
    }
}
