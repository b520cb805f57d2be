//! What a build puts into the binary: the root of trust and the list of revocations that BROKLE_BUILD_ROOT and
//! BROKLE_BUILD_REVOCATIONS name (a build without them is "unprovisioned"), the date of the build, and, with
//! `embed-plugins`, the components in BROKLE_PLUGINS_DIR.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a build that can't go on stops")]

use std::path::PathBuf;

fn main() {
    trust_anchor();
    embedded_plugins();
}

/// Public keys only, which are no secret; nothing private is read here.
fn trust_anchor() {
    let file = |variable: &str| {
        println!("cargo::rerun-if-env-changed={variable}");
        let Some(path) = std::env::var_os(variable).filter(|path| !path.is_empty()) else {
            return "None".to_owned();
        };
        let path =
            std::fs::canonicalize(&path).unwrap_or_else(|error| panic!("{variable}, {path:?}: {error}"));
        println!("cargo::rerun-if-changed={}", path.display());
        format!("Some(include_bytes!({path:?}))")
    };
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    let sources: Option<u64> = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.parse().ok());
    let built_at = sources.unwrap_or_else(|| {
        #[expect(clippy::disallowed_methods, reason = "the date of the build; nothing is injected into one")]
        let now = std::time::SystemTime::now();
        now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
    });
    let code = format!(
        "static COMPILED_ROOT: Option<&[u8]> = {};\n\
         static COMPILED_REVOCATIONS: Option<&[u8]> = {};\n\
         const BUILT_AT: i64 = {built_at};\n",
        file("BROKLE_BUILD_ROOT"),
        file("BROKLE_BUILD_REVOCATIONS"),
    );
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap()).join("trust_anchor.rs");
    std::fs::write(out, code).unwrap();
}

fn embedded_plugins() {
    println!("cargo::rerun-if-env-changed=BROKLE_PLUGINS_DIR");
    if std::env::var_os("CARGO_FEATURE_EMBED_PLUGINS").is_none() {
        return;
    }
    let folder =
        std::env::var("BROKLE_PLUGINS_DIR").expect("BROKLE_PLUGINS_DIR names the folder of built plugins");
    println!("cargo::rerun-if-changed={folder}");
    let entries =
        std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder}: {error}; run `make plugins`"));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "wasm"));
    paths.sort();
    assert!(!paths.is_empty(), "no plugins in {folder}: run `make plugins`");
    let rows: String = paths
        .iter()
        .map(|path| format!("({:?}, include_bytes!({path:?}).as_slice()),\n", path.file_name().unwrap()))
        .collect();
    let list = format!("static EMBEDDED: &[(&str, &[u8])] = &[{rows}];\n");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap()).join("embedded.rs");
    std::fs::write(out, list).unwrap();
}
