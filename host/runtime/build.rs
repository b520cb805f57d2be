//! With `embed-plugins`: lists the components in BROKLE_PLUGINS_DIR, so that they become part of the binary.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a build that can't go on stops")]

use std::path::PathBuf;

fn main() {
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
