//! Python and JavaScript: the language's interpreter and the project's source in one component, made by the Bytecode
//! Alliance's tools. The host's WASI has no files, sockets or clocks, so the tools are told to leave them out.
//!
//! These tools know nothing of the manifest: the two sections that the SDK's macro writes for Rust are put behind what they
//! built.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use brokle_runtime::Manifest;

use crate::project::{Language, ProjectError, contract};

/// The component, in the target folder.
pub(super) fn build(language: Language, folder: &Path, target: &Path) -> Result<PathBuf, ProjectError> {
    let read = |path: PathBuf| std::fs::read(&path).map_err(|source| ProjectError::Io { path, source });
    let text = read(folder.join("plugin.json"))?;
    let manifest = Manifest::parse(&text)
        .map_err(|error| ProjectError::Refused { path: folder.join("plugin.json"), error })?;
    let name = manifest.id.rsplit('.').next().unwrap_or_default();
    let wit = target.join("wit");
    contract::write(&manifest, &wit)?;
    let world = format!("{}/{}", manifest.kind.package(), contract::WORLD);
    let made = target.join(format!("{name}.part"));

    let (tool, mut command) = match language {
        Language::JavaScript => {
            let tool = find(folder, &["node_modules/.bin"], "componentize-js");
            let mut command = Command::new(&tool);
            command.arg("app.js").arg("--wit").arg(&wit).args(["--world-name", contract::WORLD]);
            for feature in ["stdio", "random", "clocks", "http", "fetch-event"] {
                command.args(["--disable", feature]);
            }
            command.arg("--out").arg(&made);
            (tool, command)
        }
        _ => {
            let tool = find(folder, &[".venv/bin", "venv/bin"], "componentize-py");
            let mut command = Command::new(&tool);
            command.arg("-d").arg(&wit).args(["-w", &world, "componentize", "--stub-wasi", "app", "-o"]);
            command.arg(&made);
            (tool, command)
        }
    };
    let remedy = match language {
        Language::JavaScript => "run `npm install` in the project, which brings it",
        _ => {
            "run `python3 -m venv .venv && .venv/bin/pip install -r requirements.txt` in the project, which brings it"
        }
    };
    // Both talk on standard output, which belongs to the caller.
    let status =
        command.current_dir(folder).stdin(Stdio::null()).stdout(std::io::stderr()).status().map_err(
            |source| ProjectError::NoTool { tool: tool.display().to_string(), source, remedy: remedy.into() },
        )?;
    if !status.success() {
        return Err(ProjectError::Failed);
    }
    let mut component = read(made.clone())?;
    let stamp = serde_json::json!({
        "sdk": format!("brokle-testkit/{}", env!("CARGO_PKG_VERSION")),
        "package": name,
        "version": manifest.version,
    });
    custom_section(&mut component, "brokle:manifest", &text);
    custom_section(&mut component, "brokle:abi", stamp.to_string().as_bytes());
    let path = target.join(format!("{name}.wasm"));
    std::fs::write(&path, component).map_err(|source| ProjectError::Io { path: path.clone(), source })?;
    let _ = std::fs::remove_file(made);
    Ok(path)
}

/// The project's own tool if it has one, else what the search path has.
fn find(folder: &Path, places: &[&str], tool: &str) -> PathBuf {
    let own = places.iter().map(|place| folder.join(place).join(tool)).find(|path| path.is_file());
    own.unwrap_or_else(|| tool.into())
}

/// Appends a custom section, as the component model's binary format has it: an id of 0, the length, the name's length,
/// the name, the content.
fn custom_section(component: &mut Vec<u8>, name: &str, content: &[u8]) {
    let mut body = Vec::with_capacity(content.len() + name.len() + 5);
    leb128(&mut body, name.len());
    body.extend_from_slice(name.as_bytes());
    body.extend_from_slice(content);
    component.push(0);
    leb128(component, body.len());
    component.extend_from_slice(&body);
}

fn leb128(out: &mut Vec<u8>, mut number: usize) {
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}
