//! In, on, off, back, out; and what is refused.

use brokle_plugins::{CatalogueError, PinnedOnly, Refusal, Settings, Start, State, Terms};

use crate::harness::*;

const ECHO: &str = "brokle.provider-echo";

#[tokio::test]
async fn versions_live_side_by_side_and_one_serves() {
    let world = World::new().await;
    let catalogue = world.dev(vec![builtin("provider_echo"), builtin("policy_priority")]).await;
    assert_eq!(serving_all(&catalogue, "echo").as_deref(), Some("0.1.0"));
    assert!(catalogue.snapshots().load().instance().policy("priority").is_some());

    upload(&catalogue, release("provider_echo", "0.3.0")).await.unwrap();
    assert_eq!(serving_all(&catalogue, "echo").as_deref(), Some("0.3.0"), "newer: it starts by itself");
    upload(&catalogue, release("provider_echo", "0.2.0")).await.unwrap();
    assert_eq!(serving_all(&catalogue, "echo").as_deref(), Some("0.3.0"), "older: it is there, and waits");
    assert_eq!(state(&catalogue, ECHO, "0.2.0"), State::Installed);

    catalogue.enable(ECHO, INSTANCE, Some("0.2.0"), &operator()).await.unwrap();
    assert_eq!(serving_all(&catalogue, "echo").as_deref(), Some("0.2.0"));
    catalogue.rollback(ECHO, INSTANCE, &operator()).await.unwrap();
    assert_eq!(serving_all(&catalogue, "echo").as_deref(), Some("0.3.0"));
    catalogue.rollback(ECHO, INSTANCE, &operator()).await.unwrap();
    assert_eq!(serving_all(&catalogue, "echo").as_deref(), Some("0.2.0"), "and there again");

    catalogue.disable(ECHO, INSTANCE, &operator()).await.unwrap();
    assert_eq!((serving_all(&catalogue, "echo"), state(&catalogue, ECHO, "0.2.0")), (None, State::Installed));
    catalogue.remove(ECHO, Some("0.3.0"), &operator()).await.unwrap();
    catalogue.enable(ECHO, INSTANCE, None, &operator()).await.unwrap();
    assert_eq!(serving_all(&catalogue, "echo").as_deref(), Some("0.2.0"));
    let used = catalogue.remove(ECHO, Some("0.2.0"), &operator()).await.unwrap_err();
    assert_eq!(code(&used), "PLUGIN_IN_USE");
    let nothing = catalogue.rollback(ECHO, INSTANCE, &operator()).await.unwrap_err();
    assert_eq!(code(&nothing), "PLUGIN_NO_PREVIOUS", "what was removed isn't returned to");

    assert_eq!(
        history(&catalogue, ECHO).await,
        [
            "installed 0.1.0 system",
            "enabled 0.1.0 system",
            "enabled 0.1.0 system",
            "installed 0.3.0 key",
            "enabled 0.3.0 key",
            "installed 0.1.0 key",
            "enabled 0.3.0 key",
            "installed 0.2.0 key",
            "enabled 0.2.0 key",
            "installed 0.3.0 key",
            "enabled 0.2.0 key",
            "rolled_back 0.3.0 key",
            "installed 0.2.0 key",
            "enabled 0.3.0 key",
            "rolled_back 0.2.0 key",
            "installed 0.3.0 key",
            "enabled 0.2.0 key",
            "disabled - key",
            "installed 0.2.0 key",
            "removed 0.3.0 key",
            "enabled 0.2.0 key",
            "enabled 0.2.0 key",
        ]
    );
}

#[tokio::test]
async fn what_serves_is_the_same_after_a_restart() {
    let world = World::new().await;
    let catalogue = world.dev(vec![builtin("provider_echo")]).await;
    upload(&catalogue, release("provider_echo", "0.2.0")).await.unwrap();
    drop(catalogue);
    let again = world.dev(vec![builtin("provider_echo")]).await;
    assert_eq!(serving_all(&again, "echo").as_deref(), Some("0.2.0"), "an operator's choice stays");

    again.disable(ECHO, INSTANCE, &operator()).await.unwrap();
    drop(again);
    let again = world.dev(vec![builtin("provider_echo")]).await;
    assert_eq!(serving_all(&again, "echo"), None, "also the choice of none");
    again.remove(ECHO, Some("0.1.0"), &operator()).await.unwrap();
    assert_eq!(state(&again, ECHO, "0.1.0"), State::Available);
    drop(again);
    let again = world.dev(vec![builtin("provider_echo")]).await;
    assert_eq!(state(&again, ECHO, "0.1.0"), State::Available, "nothing installs it by itself");
    again.enable(ECHO, INSTANCE, Some("0.1.0"), &operator()).await.unwrap();
    assert_eq!(serving_all(&again, "echo").as_deref(), Some("0.1.0"));
}

#[tokio::test]
async fn an_upgraded_server_brings_its_own_newer_components() {
    let world = World::new().await;
    drop(world.dev(vec![builtin("provider_echo")]).await);
    let newer = brokle_runtime::Builtin { name: "e".into(), bytes: release("provider_echo", "0.1.1").into() };
    let catalogue = world.dev(vec![newer]).await;
    assert_eq!(serving_all(&catalogue, "echo").as_deref(), Some("0.1.1"));
    assert_eq!(catalogue.get(ECHO).unwrap().versions.len(), 1, "the old one is gone with its server");
    let nothing = catalogue.rollback(ECHO, INSTANCE, &operator()).await.unwrap_err();
    assert_eq!(code(&nothing), "PLUGIN_NO_PREVIOUS");
}

#[tokio::test]
async fn each_refusal_is_a_state_with_its_code_and_an_event() {
    let world = World::new().await;
    let catalogue =
        world.start(PinnedOnly::default(), Settings::default(), vec![builtin("provider_echo")]).await;
    let truncated = component("provider_openai")[..1_000].to_vec();
    let smuggler = component("smuggler");
    for (bytes, expected) in [
        (b"no component at all".to_vec(), "PLUGIN_INVALID"),
        (truncated, "PLUGIN_INVALID"),
        (smuggler, "PLUGIN_CAPABILITY"),
        (component("provider_openai"), "PLUGIN_UNSIGNED"),
    ] {
        let refused = upload(&catalogue, bytes).await.unwrap_err();
        assert_eq!(code(&refused), expected, "{refused}");
        let list = catalogue.list();
        let found = list.iter().flat_map(|entry| &entry.versions).any(|version| {
            version.state == State::Rejected
                && version.code.as_deref() == Some(expected)
                && version.reason.is_some()
        });
        assert!(found, "{expected}: {list:#?}");
    }
    assert_eq!(history(&catalogue, "brokle.provider-openai").await, ["rejected 0.1.0 key PLUGIN_UNSIGNED"]);
    assert_eq!(serving_all(&catalogue, "echo").as_deref(), Some("0.1.0"), "nobody else notices");
}

#[tokio::test]
async fn a_pin_lets_an_unsigned_file_in_and_the_lock_file_holds_it() {
    let world = World::new().await;
    let start = || world.start(PinnedOnly::default(), Settings::default(), Vec::new());
    let catalogue = start().await;
    let bytes = component("provider_openai");
    let refused = upload(&catalogue, bytes.clone()).await.unwrap_err();
    let CatalogueError::Refused(Refusal { detail, .. }) = &refused else { panic!("{refused:?}") };
    let sha256 = detail.split("sha256:").nth(1).unwrap().to_owned();
    let wrong = Terms { pin: Some("0".repeat(64)), ..Terms::default() };
    assert_eq!(code(&upload_on(&catalogue, bytes.clone(), wrong).await.unwrap_err()), "PLUGIN_HASH_MISMATCH");
    let pinned = Terms { pin: Some(sha256.clone()), ..Terms::default() };
    upload_on(&catalogue, bytes.clone(), pinned).await.unwrap();
    assert_eq!(version(&catalogue, "brokle.provider-openai", "0.1.0").level.as_deref(), Some("unsigned"));
    let lock = std::fs::read_to_string(world.folder.path().join("brokle-plugins.lock")).unwrap();
    assert!(lock.contains(&sha256) && lock.contains("pinned = true"), "{lock}");
    drop(catalogue);

    let again = start().await;
    assert_eq!(serving_all(&again, "openai").as_deref(), Some("0.1.0"), "checked again, and still pinned");
    let mut other = bytes;
    other.extend_from_slice(&[0, 2, 1, b'x']);
    let refused = upload(&again, other).await.unwrap_err();
    assert_eq!(code(&refused), "PLUGIN_HASH_MISMATCH", "another file of the locked version");
    drop(again);

    std::fs::remove_file(world.folder.path().join("brokle-plugins.lock")).unwrap();
    let again = start().await;
    assert_eq!(serving_all(&again, "openai"), None);
    // The other file of this version is in the list too.
    let entry = again.get("brokle.provider-openai").unwrap();
    let shown = entry.versions.iter().find(|known| known.sha256 == sha256).unwrap();
    assert_eq!((shown.state, shown.code.as_deref()), (State::Rejected, Some("PLUGIN_UNSIGNED")));
}

#[tokio::test]
async fn a_file_that_was_changed_on_disk_does_not_load() {
    let world = World::new().await;
    let catalogue = world.dev(Vec::new()).await;
    upload(&catalogue, component("provider_echo")).await.unwrap();
    let sha256 = version(&catalogue, ECHO, "0.1.0").sha256;
    drop(catalogue);
    let path = world.folder.path().join(format!("plugins/{sha256}.wasm"));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[5_000] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let again = world.dev(Vec::new()).await;
    assert_eq!(serving_all(&again, "echo"), None);
    assert_eq!(version(&again, ECHO, "0.1.0").code.as_deref(), Some("PLUGIN_UNREADABLE"));
}

#[tokio::test]
async fn one_version_is_one_file_and_one_name_one_component() {
    let world = World::new().await;
    let catalogue = world.dev(vec![builtin("provider_echo")]).await;
    let mut twin = component("provider_echo");
    twin.extend_from_slice(&[0, 2, 1, b'x']);
    let refused = upload(&catalogue, twin).await.unwrap_err();
    assert_eq!(code(&refused), "PLUGIN_VERSION_CONFLICT");

    let text = String::from_utf8_lossy(&component("provider_echo")).matches("brokle.provider-echo").count();
    assert!(text > 0, "the id stands in the file");
    let mut rival = component("provider_echo");
    let (from, to) = (b"\"id\": \"brokle.provider-echo\"", b"\"id\": \"evil00.provider-echo\"");
    let at = rival.windows(from.len()).position(|window| window == from).unwrap();
    rival[at..at + from.len()].copy_from_slice(to);
    upload(&catalogue, rival).await.unwrap();
    let shown = version(&catalogue, "evil00.provider-echo", "0.1.0");
    assert_eq!((shown.state, shown.code.as_deref()), (State::Installed, Some("PLUGIN_NAME_TAKEN")));
    let refused = catalogue.enable("evil00.provider-echo", INSTANCE, None, &operator()).await.unwrap_err();
    assert_eq!(code(&refused), "PLUGIN_NAME_TAKEN");
    let snapshot = catalogue.snapshots().load();
    assert_eq!(snapshot.instance().provider("echo").unwrap().plugin.manifest().id, ECHO);
}

#[tokio::test]
async fn installed_only_is_not_enabled_and_the_same_file_again_is_well() {
    let world = World::new().await;
    let catalogue = world.dev(Vec::new()).await;
    let terms = Terms { start: Start::No, ..Terms::default() };
    upload_on(&catalogue, component("provider_echo"), terms.clone()).await.unwrap();
    upload_on(&catalogue, component("provider_echo"), terms).await.unwrap();
    assert_eq!((serving_all(&catalogue, "echo"), state(&catalogue, ECHO, "0.1.0")), (None, State::Installed));
    assert_eq!(catalogue.get(ECHO).unwrap().versions.len(), 1);
}
