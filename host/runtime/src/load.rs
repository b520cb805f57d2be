//! From a file's bytes to something that can be instantiated.

use sha2::{Digest, Sha256};
use wasmparser::{Parser, Payload};
use wasmtime::component::{Component, Linker};

use crate::capabilities;
use crate::engine::Runtime;
use crate::error::LoadError;
use crate::instance::State;
use crate::manifest::{Abi, Kind, Manifest};
use crate::wasi;

/// The largest component that is looked at: 64 MiB. A Python guest has about 20.
const MAX_COMPONENT: usize = 64 << 20;

/// What a file says of itself, read without compiling it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Inspection {
    /// The manifest.
    pub manifest: Manifest,
    /// The SDK's stamp.
    pub abi: Abi,
    /// Hex SHA-256 of the file.
    pub sha256: String,
    /// Bytes in the file.
    pub size: usize,
    /// The interfaces that it imports.
    pub imports: Vec<String>,
    /// What it exports.
    pub exports: Vec<String>,
    #[serde(skip)]
    pub(crate) digest: [u8; 32],
}

impl Inspection {
    /// SHA-256 of the file.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }
}

/// Reads a component's sections, and checks all that can be checked without compiling it.
///
/// # Errors
/// Why it can't be loaded here.
pub fn inspect(bytes: &[u8]) -> Result<Inspection, LoadError> {
    if bytes.len() > MAX_COMPONENT {
        return Err(LoadError::NotAPlugin(format!("{} MiB; 64 are the most", bytes.len() >> 20)));
    }
    if !bytes.starts_with(b"\0asm") {
        return Err(LoadError::NotAPlugin("it isn't WebAssembly, which begins with '\\0asm'".into()));
    }
    let mut manifest = None;
    let mut abi = None;
    let (mut imports, mut exports) = (Vec::new(), Vec::new());
    let mut depth = 0usize;
    let malformed = |error: wasmparser::BinaryReaderError| LoadError::NotAPlugin(error.to_string());
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(malformed)? {
            Payload::Version { encoding, .. } => {
                if depth == 0 && encoding != wasmparser::Encoding::Component {
                    return Err(LoadError::NotAPlugin("a core module, not a component".into()));
                }
                depth += 1;
            }
            Payload::End(_) => depth = depth.saturating_sub(1),
            // The linker puts them into the core module within.
            Payload::CustomSection(section) => match section.name() {
                "brokle:manifest" => manifest = Some(section.data()),
                "brokle:abi" => abi = Some(section.data()),
                _ => {}
            },
            Payload::ComponentImportSection(section) if depth == 1 => {
                for import in section {
                    let import = import.map_err(malformed)?;
                    // A type that the world names brings nothing with it.
                    if !matches!(import.ty, wasmparser::ComponentTypeRef::Type(_)) {
                        imports.push(import.name.name.to_owned());
                    }
                }
            }
            Payload::ComponentExportSection(section) if depth == 1 => {
                for export in section {
                    exports.push(export.map_err(malformed)?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    let missing =
        |section| LoadError::NotAPlugin(format!("no '{section}' section; build it with the Brokle SDK"));
    let manifest = Manifest::parse(manifest.ok_or_else(|| missing("brokle:manifest"))?)?;
    let abi: Abi = serde_json::from_slice(abi.ok_or_else(|| missing("brokle:abi"))?)
        .map_err(|error| LoadError::Manifest(format!("the SDK's stamp: {error}")))?;
    manifest.check_contract()?;
    if abi.version != manifest.version {
        return Err(LoadError::Manifest(format!(
            "it says version {}, the crate that was built says {}",
            manifest.version, abi.version
        )));
    }
    check_imports(&manifest, &imports)?;
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    let sha256 = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Inspection { manifest, abi, sha256, size: bytes.len(), imports, exports, digest })
}

/// Refuses what the host doesn't offer, by name, before the engine would in its own words.
fn check_imports(manifest: &Manifest, imports: &[String]) -> Result<(), LoadError> {
    let mut offered: Vec<String> =
        ["brokle:types/common", "brokle:host/log", "brokle:host/config"].map(str::to_owned).into();
    offered.push(match manifest.kind {
        Kind::Provider => "brokle:provider/exchange".into(),
        Kind::RoutingPolicy => "brokle:routing/facts".into(),
        Kind::Guardrail => "brokle:guardrail/facts".into(),
        Kind::Dialect => "brokle:dialect/exchange".into(),
        Kind::Exporter => "brokle:exporter/batches".into(),
    });
    offered.extend(manifest.capabilities.imports().iter().map(|name| format!("brokle:host/{name}")));
    let on_offer = |import: &str| {
        if wasi::is_stubbed(import) {
            return true;
        }
        let Some((name, version)) = import.split_once('@') else { return false };
        let version = semver::Version::parse(version).ok();
        offered.iter().any(|offer| offer == name) && version.is_some_and(|v| (v.major, v.minor) == (0, 1))
    };
    let missing: Vec<&str> = imports.iter().map(String::as_str).filter(|import| !on_offer(import)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    // The role may have it, and the manifest forgot to ask.
    let asked_for = |import: &&str| {
        let name = import.strip_prefix("brokle:host/").and_then(|rest| rest.split('@').next());
        name.is_some_and(|name| capabilities::allowed(manifest.kind).contains(&name))
    };
    if let Some(import) = missing.iter().find(|import| asked_for(import)) {
        return Err(LoadError::NotAskedFor { plugin: manifest.label(), import: (*import).to_owned() });
    }
    Err(LoadError::Imports {
        plugin: manifest.label(),
        missing: missing.join(", "),
        offered: offered.iter().map(|name| format!("{name}@0.1")).collect::<Vec<_>>().join(", "),
    })
}

/// Compiles a component, or takes its compiled form from the cache. Takes tenths of a second for
/// a Rust guest that isn't in the cache: not for a thread that serves requests.
pub(crate) fn compile(
    runtime: &Runtime,
    bytes: &[u8],
    inspection: &Inspection,
) -> Result<Component, LoadError> {
    if let Some(component) = runtime.cache.load(&runtime.engine, &inspection.digest) {
        return Ok(component);
    }
    let component = Component::new(&runtime.engine, bytes).map_err(|error| LoadError::Compile {
        plugin: inspection.manifest.label(),
        detail: format!("{error:#}"),
    })?;
    runtime.cache.store(&runtime.engine, &inspection.digest, &component);
    Ok(component)
}

/// A linker with the WASI stubs that this component needs.
pub(crate) fn linker(
    runtime: &Runtime,
    component: &Component,
    manifest: &Manifest,
) -> Result<Linker<State>, LoadError> {
    let mut linker = Linker::new(&runtime.engine);
    wasi::link(&mut linker, component, &runtime.engine).map_err(|error| world_error(manifest, &error))?;
    capabilities::link(&mut linker, manifest).map_err(|error| world_error(manifest, &error))?;
    Ok(linker)
}

pub(crate) fn world_error(manifest: &Manifest, error: &wasmtime::Error) -> LoadError {
    LoadError::World { plugin: manifest.label(), detail: format!("{error:#}") }
}
