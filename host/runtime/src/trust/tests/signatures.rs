//! One decision after the other, by its code.

use super::*;
use crate::trust::RefusalCode as Code;
use crate::trust::dsse::Envelope;

fn setup() -> (tempfile::TempDir, Vendor, TrustStore) {
    let folder = tempfile::tempdir().unwrap();
    let vendor = Vendor::new();
    let store = vendor.store(folder.path());
    (folder, vendor, store)
}

fn code<T: std::fmt::Debug>(outcome: Result<T, Refusal>) -> Code {
    outcome.unwrap_err().code
}

#[test]
fn levels_follow_the_signers() {
    let (_folder, vendor, store) = setup();
    let own = Plugin::new("brokle.small");
    assert_eq!(own.judge(&store, &vendor.both()), Ok(Level::Vendor));
    // Anybody else's signature beside them doesn't matter.
    let stranger = key(99);
    assert_eq!(own.judge(&store, &[&stranger, vendor.both()[0], vendor.both()[1]]), Ok(Level::Vendor));

    let acme = Plugin::new("acme.small");
    assert_eq!(acme.judge(&store, &[&vendor.verified]), Ok(Level::Verified));
    assert_eq!(Plugin::new("other.small").judge(&store, &[&vendor.verified]), Err(Code::PluginKeyUnknown));
    assert_eq!(own.judge(&store, &[&vendor.verified]), Err(Code::PluginKeyUnknown));

    let ours = key(50);
    let plugin = Plugin::new("bank.small");
    assert_eq!(plugin.judge(&store, &[&ours]), Err(Code::PluginKeyUnknown));
    store.add_publisher(publisher(&ours, "bank.")).unwrap();
    assert_eq!(plugin.judge(&store, &[&ours]), Ok(Level::Private));
    assert_eq!(Plugin::new("bankrobber.small").judge(&store, &[&ours]), Err(Code::PluginKeyUnknown));
    assert!(store.remove_publisher(ours.public().id()).unwrap());
    assert_eq!(plugin.judge(&store, &[&ours]), Err(Code::PluginKeyUnknown));

    // The verdict names those who counted.
    let verdict =
        own.verify(&store, &own.signed(&[&stranger, vendor.both()[0], vendor.both()[1]]), &Rules::default());
    let mut expected: Vec<KeyId> = vendor.both().iter().map(|key| key.public().id()).collect();
    expected.sort();
    assert_eq!(verdict.unwrap().signers, expected);
}

#[test]
fn it_takes_the_threshold_and_the_role() {
    let (_folder, vendor, store) = setup();
    let plugin = Plugin::new("brokle.small");
    let [one, two] = vendor.both();
    assert_eq!(plugin.judge(&store, &[one]), Err(Code::PluginSigInvalid));
    assert_eq!(plugin.judge(&store, &[one, &vendor.license]), Err(Code::PluginSigInvalid));
    assert_eq!(plugin.judge(&store, &[one, &vendor.verified]), Err(Code::PluginKeyUnknown));
    for wrong in [&vendor.license, &vendor.revocation, &vendor.roots[0]] {
        assert_eq!(plugin.judge(&store, &[wrong]), Err(Code::PluginKeyUnknown));
        // An operator can't make a publisher of it either.
        assert!(matches!(store.add_publisher(publisher(wrong, "acme.")), Err(TrustError::Forbidden(_))));
    }
    // One signature that doesn't hold spoils those that do.
    let mut envelope = plugin.statement.sign(&[one, two, &key(99)]);
    envelope.signatures[1].signature[40] ^= 1;
    assert_eq!(code(plugin.verify(&store, &envelope.to_json(), &Rules::default())), Code::PluginSigInvalid);
    // A signature under another's id neither.
    let mut envelope = plugin.statement.sign(&[one, two]);
    envelope.signatures[1].keyid = envelope.signatures[0].keyid;
    envelope.signatures.remove(0);
    assert_eq!(code(plugin.verify(&store, &envelope.to_json(), &Rules::default())), Code::PluginSigInvalid);
}

#[test]
fn no_publisher_claims_what_is_the_vendors() {
    let (_folder, vendor, store) = setup();
    let ours = key(50);
    store.add_publisher(publisher(&ours, "acme.")).unwrap();
    for prefix in ["brokle.", "brokle.x.", "acme", ".", "", "Acme.", ".acme.", "a b."] {
        assert!(Prefix::try_from(prefix.to_owned()).is_err(), "{prefix:?}");
    }
    let paid = Plugin::of(component("acme.small", "1.0.0", &["pii.redaction"]));
    assert_eq!(paid.judge(&store, &[&ours]), Err(Code::PluginKeyUnknown));
    assert_eq!(paid.judge(&store, &[&vendor.verified]), Err(Code::PluginKeyUnknown));
    assert_eq!(paid.judge(&store, &vendor.both()), Ok(Level::Vendor));
    // A statement that keeps quiet about it isn't about this file.
    let mut quiet = Plugin::of(component("acme.small", "1.0.0", &["pii.redaction"]));
    quiet.statement.entitlements.clear();
    assert_eq!(quiet.judge(&store, &[&ours]), Err(Code::PluginHashMismatch));
}

#[test]
fn unsigned_components_need_a_pin_or_development() {
    let (folder, _vendor, store) = setup();
    let verify = |store: &TrustStore, plugin: &Plugin, rules: &Rules| {
        store.verify(&plugin.bytes, None, &plugin.inspection, rules, day(60)).map(|verdict| verdict.level)
    };
    let (plugin, own) = (Plugin::new("acme.small"), Plugin::new("brokle.small"));
    let pin = |plugin: &Plugin| Rules { pinned: [plugin.inspection.digest].into(), ..Rules::default() };
    let dev = Rules { dev: true, ..Rules::default() };
    assert_eq!(code(verify(&store, &plugin, &Rules::default())), Code::PluginUnsigned);
    assert_eq!(code(verify(&store, &plugin, &pin(&own))), Code::PluginUnsigned);
    assert_eq!(verify(&store, &plugin, &pin(&plugin)), Ok(Level::Unsigned));
    assert_eq!(code(verify(&store, &own, &pin(&own))), Code::PluginUnsigned);
    assert_eq!(verify(&store, &own, &dev), Ok(Level::Unsigned));
    // A signature that is there must hold, whatever the rules say.
    let stranger = plugin.signed(&[&key(99)]);
    for rules in [&dev, &pin(&plugin)] {
        assert_eq!(code(plugin.verify(&store, &stranger, rules)), Code::PluginKeyUnknown);
        assert_eq!(code(plugin.verify(&store, b"{}", rules)), Code::PluginSigInvalid);
    }
    // Parts of the binary are as trusted as the binary.
    let builtin = TrustStore::open(
        folder.path(),
        Anchor::Unprovisioned,
        Version::new(0, 1, 0),
        [own.inspection.digest],
    );
    let builtin = builtin.unwrap();
    assert_eq!(verify(&builtin, &own, &Rules::default()), Ok(Level::Vendor));
    assert_eq!(code(verify(&builtin, &plugin, &Rules::default())), Code::PluginUnsigned);
    builtin.reload().unwrap();
    assert_eq!(verify(&builtin, &own, &Rules::default()), Ok(Level::Vendor));
}

/// What happens when a file is changed after it was signed, by whoever may also choose what is inspected.
fn refused(store: &TrustStore, bytes: &[u8], signed: &Plugin, envelope: &[u8]) -> Code {
    let by_old_inspection =
        store.verify(bytes, Some(envelope), &signed.inspection, &Rules::default(), day(60));
    assert_eq!(code(by_old_inspection), Code::PluginHashMismatch);
    match inspect(bytes) {
        Ok(inspection) => code(store.verify(bytes, Some(envelope), &inspection, &Rules::default(), day(60))),
        // It doesn't even get that far.
        Err(_) => Code::PluginHashMismatch,
    }
}

#[test]
fn every_changed_byte_is_refused() {
    let (_folder, vendor, store) = setup();
    let plugin = Plugin::new("brokle.small");
    let envelope = plugin.signed(&vendor.both());
    assert!(plugin.verify(&store, &envelope, &Rules::default()).is_ok());
    for index in 0..plugin.bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut bytes = plugin.bytes.clone();
            bytes[index] ^= flip;
            assert_eq!(refused(&store, &bytes, &plugin, &envelope), Code::PluginHashMismatch, "byte {index}");
        }
    }
    for length in 0..plugin.bytes.len() {
        assert_eq!(refused(&store, &plugin.bytes[..length], &plugin, &envelope), Code::PluginHashMismatch);
    }
    let mut longer = plugin.bytes.clone();
    section(&mut longer, "harmless", b"really");
    assert!(inspect(&longer).is_ok());
    assert_eq!(refused(&store, &longer, &plugin, &envelope), Code::PluginHashMismatch);
}

#[test]
fn every_changed_byte_of_the_envelope_is_refused() {
    let (_folder, vendor, store) = setup();
    let plugin = Plugin::new("brokle.small");
    let envelope = plugin.signed(&vendor.both());
    for index in 0..envelope.len() {
        for flip in [0x01, 0x20, 0x80] {
            let mut changed = envelope.clone();
            changed[index] ^= flip;
            let code = code(plugin.verify(&store, &changed, &Rules::default()));
            assert_eq!(code, Code::PluginSigInvalid, "byte {index}");
        }
    }
    for length in 0..envelope.len() {
        assert_eq!(
            code(plugin.verify(&store, &envelope[..length], &Rules::default())),
            Code::PluginSigInvalid
        );
    }
}

#[test]
fn a_statement_holds_for_one_file() {
    let (folder, vendor, store) = setup();
    let (one, two) = (Plugin::new("brokle.one"), Plugin::new("brokle.two"));
    let swapped = two.signed(&vendor.both());
    assert_eq!(code(one.verify(&store, &swapped, &Rules::default())), Code::PluginHashMismatch);
    // Also when its author signed nonsense.
    for change in [
        (|statement: &mut Statement| statement.size += 1) as fn(&mut Statement),
        |statement| statement.id = "brokle.two".into(),
        |statement| statement.version = Version::new(9, 0, 0),
        |statement| statement.wit = "brokle:provider@0.2.0".into(),
    ] {
        let mut plugin = Plugin::new("brokle.one");
        change(&mut plugin.statement);
        assert_eq!(plugin.judge(&store, &vendor.both()), Err(Code::PluginHashMismatch));
    }
    // In a folder: a file that nobody listed, beside a signed one, has no statement of its own.
    let path = folder.path().join("one.wasm");
    std::fs::write(&path, &one.bytes).unwrap();
    std::fs::write(files::envelope_path(&path), one.signed(&vendor.both())).unwrap();
    let unlisted = folder.path().join("two.wasm");
    std::fs::write(&unlisted, &two.bytes).unwrap();
    let verify = |path: &Path| {
        let file = files::PluginFile::read(path).unwrap();
        let inspection = inspect(&file.component).unwrap();
        store.verify(&file.component, file.envelope.as_deref(), &inspection, &Rules::default(), day(60))
    };
    assert_eq!(verify(&path).unwrap().level, Level::Vendor);
    assert_eq!(code(verify(&unlisted)), Code::PluginUnsigned);
    std::fs::copy(files::envelope_path(&path), files::envelope_path(&unlisted)).unwrap();
    assert_eq!(code(verify(&unlisted)), Code::PluginHashMismatch);
}

#[test]
fn links_and_other_files_are_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("one.wasm");
    std::fs::write(&path, Plugin::new("acme.one").bytes).unwrap();
    let read = |path: &Path| files::PluginFile::read(path).map(|file| file.envelope.is_some());
    assert!(!read(&path).unwrap());
    let link = folder.path().join("link.wasm");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(read(&link).unwrap_err().to_string().contains("link.wasm"));
    // Nor is a link beside an honest file.
    std::os::unix::fs::symlink(&path, files::envelope_path(&path)).unwrap();
    assert!(read(&path).is_err());
    assert!(read(folder.path()).is_err());
    assert!(files::read(&path, 10).is_err());
}

#[test]
fn a_statement_of_another_type_or_form_is_none() {
    let (_folder, vendor, store) = setup();
    let plugin = Plugin::new("brokle.small");
    let sign = |kind: &str, json: &serde_json::Value| {
        Envelope::sign(kind, json.to_string().into_bytes(), &vendor.both()).to_json()
    };
    let json = serde_json::to_value(&plugin.statement).unwrap();
    assert!(plugin.verify(&store, &sign(STATEMENT_TYPE, &json), &Rules::default()).is_ok());
    let mut more = json.clone();
    more["only_on_tuesdays"] = true.into();
    for envelope in [sign(ROOT_TYPE, &json), sign(STATEMENT_TYPE, &more), sign(STATEMENT_TYPE, &true.into())]
    {
        assert_eq!(code(plugin.verify(&store, &envelope, &Rules::default())), Code::PluginSigInvalid);
    }
    let mut tomorrow = Plugin::new("brokle.small");
    tomorrow.statement.built_at = day(62);
    assert_eq!(tomorrow.judge(&store, &vendor.both()), Err(Code::PluginSigInvalid));
}

#[test]
fn keys_are_revoked_from_a_date() {
    let (_folder, vendor, store) = setup();
    let leaked = vendor.publishers[0].public().id();
    let mut before = Plugin::new("brokle.small");
    before.statement.built_at = day(39);
    let mut after = Plugin::new("brokle.small");
    after.statement.built_at = day(40);
    assert!(after.judge(&store, &vendor.both()).is_ok());
    let entry = |from, except| RevokedKey { keyid: leaked, from, except, reason: "stolen".into() };
    vendor.revoke(&store, |list| list.keys = vec![entry(Some(day(40)), vec![])]);
    assert!(before.judge(&store, &vendor.both()).is_ok());
    assert_eq!(after.judge(&store, &vendor.both()), Err(Code::PluginKeyRevoked));
    // Altogether, since the thief writes any date; but what is known to be honest stays.
    vendor.revoke(&store, |list| list.keys = vec![entry(None, vec![])]);
    assert_eq!(before.judge(&store, &vendor.both()), Err(Code::PluginKeyRevoked));
    vendor.revoke(&store, |list| list.keys = vec![entry(None, vec![before.inspection.sha256.clone()])]);
    assert!(before.judge(&store, &vendor.both()).is_ok());
    let other = Plugin::new("brokle.other");
    assert_eq!(other.judge(&store, &vendor.both()), Err(Code::PluginKeyRevoked));
    // An operator's publisher too.
    let ours = key(50);
    store.add_publisher(publisher(&ours, "bank.")).unwrap();
    let plugin = Plugin::new("bank.small");
    assert!(plugin.judge(&store, &[&ours]).is_ok());
    let keyid = ours.public().id();
    vendor.revoke(&store, |list| {
        list.keys = vec![RevokedKey { keyid, from: None, except: vec![], reason: String::new() }];
    });
    assert_eq!(plugin.judge(&store, &[&ours]), Err(Code::PluginKeyRevoked));
}

#[test]
fn keys_sign_in_their_time() {
    let (_folder, vendor, store) = setup();
    let mut plugin = Plugin::new("brokle.small");
    for (built_at, good) in
        [(day(-1), false), (day(0), true), (day(900), true), (day(901), false), (day(1001), false)]
    {
        plugin.statement.built_at = built_at;
        // Years later what was signed in time still holds.
        let envelope = plugin.signed(&vendor.both());
        let outcome =
            store.verify(&plugin.bytes, Some(&envelope), &plugin.inspection, &Rules::default(), day(3000));
        assert_eq!(outcome.map_err(|refusal| refusal.code).err(), (!good).then_some(Code::PluginKeyUnknown));
    }
}

#[test]
fn components_are_revoked_by_hash_and_by_version() {
    let (folder, vendor, store) = setup();
    let plugin = Plugin::new("brokle.small");
    let entry = |sha256: Option<&str>, id: Option<&str>, versions: Option<&str>| RevokedComponent {
        sha256: sha256.map(Into::into),
        id: id.map(Into::into),
        versions: versions.map(|range| range.parse().unwrap()),
        reason: "it leaks".into(),
    };
    vendor.revoke(&store, |list| list.components = vec![entry(Some(&plugin.inspection.sha256), None, None)]);
    assert_eq!(plugin.judge(&store, &vendor.both()), Err(Code::PluginRevoked));
    // Whatever else speaks for it: development, a pin, being built in.
    let rules = Rules { dev: true, pinned: [plugin.inspection.digest].into(), ..Rules::default() };
    let unsigned = store.verify(&plugin.bytes, None, &plugin.inspection, &rules, day(60));
    assert_eq!(code(unsigned), Code::PluginRevoked);
    let builtin =
        TrustStore::open(folder.path(), vendor.anchor(), Version::new(0, 1, 0), [plugin.inspection.digest])
            .unwrap();
    assert_eq!(plugin.judge(&builtin, &vendor.both()), Err(Code::PluginRevoked));

    vendor.revoke(&store, |list| list.components = vec![entry(None, Some("brokle.small"), Some("<1.2.0"))]);
    assert!(plugin.judge(&store, &vendor.both()).is_ok());
    for version in ["1.1.9", "1.1.9-rc.1", "0.1.0+build"] {
        let old = Plugin::of(component("brokle.small", version, &[]));
        assert_eq!(old.judge(&store, &vendor.both()), Err(Code::PluginRevoked), "{version}");
        assert!(Plugin::of(component("brokle.other", version, &[])).judge(&store, &vendor.both()).is_ok());
    }
    // Entries that name nothing, or half of something, aren't signed and aren't read.
    for bad in [entry(None, None, None), entry(None, Some("a"), None), entry(Some("a"), Some("a"), Some("*"))]
    {
        let mut list = vendor.revocations(99);
        list.components = vec![bad];
        assert!(list.sign(&[&vendor.revocation]).is_err());
        let bytes =
            Envelope::sign(REVOCATIONS_TYPE, serde_json::to_vec(&list).unwrap(), &[&vendor.revocation]);
        assert!(store.import_revocations(&bytes.to_json()).is_err());
    }
}

#[test]
fn older_releases_are_refused() {
    let (folder, vendor, store) = setup();
    let mut plugin = Plugin::new("brokle.small");
    let verdict = plugin.verify(&store, &plugin.signed(&vendor.both()), &Rules::default()).unwrap();
    store.record(&verdict, false).unwrap();
    assert!(plugin.judge(&store, &vendor.both()).is_ok());
    plugin.statement.release_seq = 4;
    assert_eq!(plugin.judge(&store, &vendor.both()), Err(Code::PluginDowngrade));
    // It is remembered across a restart, for this id.
    let store = vendor.store(folder.path());
    assert_eq!(plugin.judge(&store, &vendor.both()), Err(Code::PluginDowngrade));
    let mut other = Plugin::new("brokle.other");
    other.statement.release_seq = 1;
    assert!(other.judge(&store, &vendor.both()).is_ok());
    // The caller's own memory counts too.
    let seen = Rules { highest_release_seq: Some(2), ..Rules::default() };
    assert_eq!(code(other.verify(&store, &other.signed(&vendor.both()), &seen)), Code::PluginDowngrade);
    // Allowed explicitly, and then remembered.
    let allow = Rules { allow_downgrade: true, ..Rules::default() };
    let verdict = plugin.verify(&store, &plugin.signed(&vendor.both()), &allow).unwrap();
    store.record(&verdict, true).unwrap();
    assert!(plugin.judge(&store, &vendor.both()).is_ok());
    // What the vendor forbids stays forbidden.
    vendor.revoke(&store, |list| {
        list.min_release_seq.insert("brokle.small".into(), 5);
    });
    assert_eq!(code(plugin.verify(&store, &plugin.signed(&vendor.both()), &allow)), Code::PluginDowngrade);
    vendor.revoke(&store, |list| list.min_security_epoch = 1);
    assert_eq!(code(plugin.verify(&store, &plugin.signed(&vendor.both()), &allow)), Code::PluginDowngrade);
    plugin.statement.security_epoch = 1;
    assert!(plugin.verify(&store, &plugin.signed(&vendor.both()), &allow).is_ok());
}

#[test]
fn imports_stay_within_the_statement() {
    let (_folder, vendor, store) = setup();
    let mut plugin = Plugin::new("brokle.small");
    plugin.inspection.imports = vec!["brokle:host/log@0.1.0".into(), "brokle:host/http@0.1.0".into()];
    plugin.statement.capabilities = vec!["brokle:host/log@0.1.0".into()];
    let refusal = plugin.verify(&store, &plugin.signed(&vendor.both()), &Rules::default()).unwrap_err();
    assert_eq!(refusal.code, Code::PluginCapability);
    assert!(refusal.detail.contains("brokle:host/http@0.1.0") && !refusal.detail.contains("host/log"));
    plugin.statement.capabilities.push("brokle:host/http@0.1.0".into());
    plugin.statement.capabilities.push("brokle:host/kv@0.1.0".into());
    assert!(plugin.judge(&store, &vendor.both()).is_ok());
    plugin.statement.host = ">=0.2".parse().unwrap();
    assert_eq!(plugin.judge(&store, &vendor.both()), Err(Code::PluginAbi));
}

#[test]
fn codes_are_spelled_as_they_are_serialized() {
    for code in
        [Code::PluginUnsigned, Code::PluginSigInvalid, Code::LicenseWrongInstance, Code::LicenseNotEntitled]
    {
        assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
    }
}
