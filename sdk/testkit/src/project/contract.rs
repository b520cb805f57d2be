//! The contract's WIT, as the tools of other languages want it: the role's package, and beside it in `deps` what it uses.

use std::path::Path;

use brokle_runtime::{Kind, Manifest};

use super::ProjectError;

/// The world that the build makes.
pub(super) const WORLD: &str = "component";

macro_rules! package {
    ($folder:literal: $($file:literal),+ $(,)?) => {
        &[$(($file, include_str!(concat!("../../../../wit/", $folder, "/", $file)))),+]
    };
}

type Files = &'static [(&'static str, &'static str)];

const TYPES: Files = package!("types": "common.wit");
const HOST: Files = package!("host":
    "capabilities.wit", "clock.wit", "crypto.wit", "host.wit", "http.wit", "kv.wit", "random.wit", "secrets.wit",
    "telemetry.wit");

fn role(kind: Kind) -> Files {
    match kind {
        Kind::Provider => package!("provider": "provider.wit"),
        Kind::RoutingPolicy => package!("routing": "routing.wit"),
        Kind::Guardrail => package!("guardrail": "guardrail.wit"),
        Kind::Dialect => package!("dialect": "dialect.wit"),
        Kind::Exporter => package!("exporter": "exporter.wit"),
    }
}

/// Writes the contract of this version into a folder, in the place of what was there, with a world ([`WORLD`]) for this very
/// component: its role's, which imports nothing that must be granted, and what its manifest asks for.
pub(super) fn write(manifest: &Manifest, folder: &Path) -> Result<(), ProjectError> {
    let deps = folder.join("deps");
    let role = role(manifest.kind);
    for (folder, files) in [(folder.to_owned(), role), (deps.join("types"), TYPES), (deps.join("host"), HOST)]
    {
        std::fs::create_dir_all(&folder)
            .map_err(|source| ProjectError::Io { path: folder.clone(), source })?;
        for (name, text) in files {
            put(&folder.join(name), text)?;
        }
    }
    put(&folder.join("component.wit"), &world(manifest))
}

fn put(path: &Path, text: &str) -> Result<(), ProjectError> {
    std::fs::write(path, text).map_err(|source| ProjectError::Io { path: path.to_owned(), source })
}

fn world(manifest: &Manifest) -> String {
    // Each file of a package begins with its name and version.
    let package = |files: Files| files.first().and_then(|(_, text)| text.lines().next()).unwrap_or_default();
    let (role, host) = (package(role(manifest.kind)), package(HOST));
    let version = host.trim_end_matches(';').rsplit('@').next().unwrap_or_default();
    let asked = manifest.capabilities.interfaces();
    let imports = asked.iter().map(|name| format!("    import brokle:host/{name}@{version};\n"));
    let include = manifest.kind.world();
    format!("{role}\n\nworld {WORLD} {{\n    include {include};\n{}}}\n", imports.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_imports_what_its_manifest_asks_for() {
        let manifest = include_str!("../../../templates/exporter/plugin.json");
        let manifest = Manifest::parse(manifest.as_bytes()).unwrap();
        let expected = "package brokle:exporter@0.1.0;\n\nworld component {\n    include exporter;\n    \
                        import brokle:host/http@0.1.0;\n    import brokle:host/secrets@0.1.0;\n}\n";
        assert_eq!(world(&manifest), expected);
    }

    #[test]
    fn no_file_of_a_package_is_left_out() {
        let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit");
        for (folder, files) in [
            ("types", TYPES),
            ("host", HOST),
            ("provider", role(Kind::Provider)),
            ("routing", role(Kind::RoutingPolicy)),
            ("guardrail", role(Kind::Guardrail)),
            ("dialect", role(Kind::Dialect)),
            ("exporter", role(Kind::Exporter)),
        ] {
            assert_eq!(std::fs::read_dir(wit.join(folder)).unwrap().count(), files.len(), "{folder}");
        }
    }
}
