//! The contract's WIT, as the tools of other languages want it: the role's package, and beside it in `deps` what it uses.

use std::path::Path;

use brokle_runtime::Kind;

use super::ProjectError;

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

/// Writes the contract of this version into a folder, in the place of what was there.
pub(super) fn write(kind: Kind, folder: &Path) -> Result<(), ProjectError> {
    let deps = folder.join("deps");
    let packages = [(folder.to_owned(), role(kind)), (deps.join("types"), TYPES), (deps.join("host"), HOST)];
    for (folder, files) in packages {
        std::fs::create_dir_all(&folder)
            .map_err(|source| ProjectError::Io { path: folder.clone(), source })?;
        for (name, text) in files {
            let path = folder.join(name);
            std::fs::write(&path, text).map_err(|source| ProjectError::Io { path, source })?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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
