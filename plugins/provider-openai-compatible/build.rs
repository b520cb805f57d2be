//! Writes the manifest: `plugin.json` with the rows of `presets.json` as its presets.
//!
//! A row says what differs. `base_url_env` is the name in capitals with `_BASE_URL`; a row whose key is optional is
//! `keyless` for the host.

use std::error::Error;
use std::path::Path;

use serde_json::{Map, Value};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=plugin.json");
    println!("cargo::rerun-if-changed=presets.json");
    let mut manifest: Value = serde_json::from_str(&std::fs::read_to_string("plugin.json")?)?;
    let rows: Vec<Map<String, Value>> = serde_json::from_str(&std::fs::read_to_string("presets.json")?)?;
    let mut presets = Map::new();
    for mut row in rows {
        let Some(Value::String(name)) = row.remove("name") else { return Err("a row has no name".into()) };
        let variable = format!("{}_BASE_URL", name.to_uppercase().replace('-', "_"));
        row.insert("base_url_env".into(), variable.into());
        let auth = row.get("options").and_then(|options| options.get("auth")).and_then(Value::as_str);
        if matches!(auth, Some("optional" | "none")) {
            row.insert("keyless".into(), true.into());
        }
        if presets.insert(name.clone(), row.into()).is_some() {
            return Err(format!("two rows are called '{name}'").into());
        }
    }
    let provider = manifest.get_mut("provider").and_then(Value::as_object_mut);
    provider.ok_or("plugin.json has no provider")?.insert("presets".into(), presets.into());
    let out = std::env::var("OUT_DIR")?;
    std::fs::write(Path::new(&out).join("plugin.json"), manifest.to_string())?;
    Ok(())
}
