//! What the benches of this folder share.

use std::path::PathBuf;

use brokle_runtime::exchange::Call;

/// A component out of the build folder: `guest`, `guest-ee` or `guest-test`.
pub(crate) fn component(profile: &str, name: &str) -> Vec<u8> {
    let file = format!("wasm32-wasip2/{profile}/{name}.wasm");
    let path = built()
        .map(|folder| folder.join(&file))
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("{name}.wasm isn't built: run `make plugins ee-plugins guests`"));
    std::fs::read(path).unwrap()
}

/// The folders around this program: one is the build's.
pub(crate) fn built() -> impl Iterator<Item = PathBuf> {
    let exe = std::env::current_exe().unwrap();
    exe.ancestors().skip(1).map(PathBuf::from).collect::<Vec<_>>().into_iter()
}

/// A chat call.
pub(crate) fn call(model: &str, streaming: bool) -> Call {
    Call {
        operation: "chat.completions".into(),
        model: model.into(),
        streaming,
        format: "canonical".into(),
        content_type: "application/json".into(),
        request_id: "01J0000000000000000000TEST".into(),
        created: 1_700_000_000,
        options: b"{}".to_vec(),
        attributes: vec![],
    }
}
