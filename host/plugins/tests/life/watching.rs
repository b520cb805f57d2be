//! A folder into which components are dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use brokle_plugins::{Admission, Candidate, Gate, PinnedOnly, Refusal, Settings, State};

use crate::harness::*;

#[tokio::test]
async fn what_is_dropped_in_starts_and_what_is_broken_is_refused() {
    let world = World::new().await;
    let folder = world.folder.path().join("drop");
    std::fs::create_dir(&folder).unwrap();
    let settings = Settings { folder: Some(folder.clone()), ..Settings::default() };
    let catalogue = world.start(PinnedOnly { dev: true }, settings.clone(), Vec::new()).await;
    std::fs::write(folder.join("echo.wasm"), component("provider_echo")).unwrap();
    std::fs::write(folder.join("broken.wasm"), b"not at all").unwrap();
    std::os::unix::fs::symlink("/etc/hostname", folder.join("link.wasm")).unwrap();
    for _ in 0..2 {
        catalogue.look().await.unwrap();
    }
    assert_eq!(serving_all(&catalogue, "echo").as_deref(), Some("0.1.0"));
    for (name, code) in [("broken.wasm", "PLUGIN_INVALID"), ("link.wasm", "PLUGIN_UNREADABLE")] {
        let entry = catalogue.get(name).unwrap();
        assert_eq!(
            (entry.versions[0].state, entry.versions[0].code.as_deref()),
            (State::Rejected, Some(code))
        );
    }

    std::fs::write(folder.join("echo.wasm"), release("provider_echo", "0.2.0")).unwrap();
    for _ in 0..2 {
        catalogue.look().await.unwrap();
    }
    assert_eq!(serving_all(&catalogue, "echo").as_deref(), Some("0.2.0"), "a newer file is a swap");
    std::fs::remove_file(folder.join("echo.wasm")).unwrap();
    catalogue.look().await.unwrap();
    assert_eq!(
        serving_all(&catalogue, "echo").as_deref(),
        Some("0.2.0"),
        "a file that is gone changes nothing"
    );

    catalogue.disable("brokle.provider-echo", INSTANCE, &operator()).await.unwrap();
    catalogue.remove("brokle.provider-echo", None, &operator()).await.unwrap();
    std::fs::write(folder.join("echo.wasm"), release("provider_echo", "0.2.0")).unwrap();
    for _ in 0..2 {
        catalogue.look().await.unwrap();
    }
    assert_eq!(state(&catalogue, "brokle.provider-echo", "0.2.0"), State::Available, "removed is removed");
}

/// Believes nobody until it has a license.
#[derive(Debug, Clone, Default)]
struct Licensed(Arc<AtomicBool>);

impl Gate for Licensed {
    fn admit(&self, _: &Candidate<'_>) -> Result<Admission, Refusal> {
        match self.0.load(Ordering::SeqCst) {
            true => Ok(Admission { level: "vendor", release_seq: Some(1) }),
            false => Err(Refusal::new("LICENSE_MISSING", "no license")),
        }
    }

    fn look(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn what_had_no_license_starts_when_there_is_one() {
    let world = World::new().await;
    let folder = world.folder.path().join("drop");
    std::fs::create_dir(&folder).unwrap();
    let settings = Settings { folder: Some(folder.clone()), ..Settings::default() };
    let gate = Licensed::default();
    let catalogue = world.start(gate.clone(), settings, Vec::new()).await;
    std::fs::write(folder.join("echo.wasm"), component("provider_echo")).unwrap();
    for _ in 0..3 {
        catalogue.tick().await;
    }
    let shown = version(&catalogue, "brokle.provider-echo", "0.1.0");
    assert_eq!((shown.state, shown.code.as_deref()), (State::Rejected, Some("LICENSE_MISSING")));
    gate.0.store(true, Ordering::SeqCst);
    catalogue.tick().await;
    assert_eq!(serving_all(&catalogue, "echo").as_deref(), Some("0.1.0"), "the file is still there");
}
