//! A new project of each kind builds and passes at once, and its fixtures see what breaks.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use brokle_runtime::Kind;
use brokle_testkit::Report;
use brokle_testkit::project::{Language, Names, ProjectError, Sdk, build, create};

/// A folder beneath the build's own, so that the SDK is compiled for guests once for all kinds and all runs.
fn target() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let profile = exe.ancestors().find(|folder| folder.join("deps").is_dir()).unwrap();
    profile.parent().unwrap().join("templates")
}

struct Project {
    _scratch: tempfile::TempDir,
    folder: PathBuf,
}

impl Project {
    fn new(kind: Kind) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let names = Names::parse(kind, "blue-whale").unwrap();
        let folder = scratch.path().join(names.package());
        create(kind, Language::Rust, &names, &folder, &Sdk::here()).unwrap();
        // The workspace's versions: no look at the registry, and the same result tomorrow.
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        std::fs::copy(root.join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
        Self { _scratch: scratch, folder }
    }

    fn edit(&self, file: &str, from: &str, to: &str) {
        let path = self.folder.join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file} has no {from}");
        std::fs::write(path, text.replace(from, to)).unwrap();
    }

    fn test(&self) -> Report {
        let built = build(&self.folder, Some(&target())).unwrap();
        assert_eq!(built.stack_size, Some(64 << 10));
        brokle_testkit::test(&built.path, &self.folder.join("fixtures")).unwrap()
    }
}

fn differences(report: &Report) -> String {
    report.lines().join("\n")
}

#[test]
fn a_new_provider_builds_and_passes() {
    let project = Project::new(Kind::Provider);
    let report = project.test();
    assert!(report.passed(), "{}", differences(&report));
    assert_eq!(report.plugin, "com.example.provider-blue-whale 0.1.0");
    assert!(report.coverage["prepare"] > 0 && report.coverage["map-error"] > 0, "{:?}", report.coverage);
    assert_eq!(report.coverage["decoder.push"], 0, "{:?}", report.coverage);

    project.edit("fixtures/chat/expected-upstream.json", "/v2/chat", "/v3/chat");
    let told = differences(&project.test());
    assert!(told.contains(r#"/path: expected "/v3/chat", came "/v2/chat""#), "{told}");
    assert!(told.contains("1 passed, 1 failed"), "{told}");
}

#[test]
fn a_new_routing_policy_builds_and_passes() {
    let project = Project::new(Kind::RoutingPolicy);
    let report = project.test();
    assert!(report.passed(), "{}", differences(&report));
    assert_eq!(report.fixtures.len(), 3);

    // The guide's fixture is about this very policy.
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/plugins/routing-policy.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let fixture = guide.split("```yaml").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    std::fs::write(project.folder.join("fixtures/guide.yaml"), fixture).unwrap();
    let report = project.test();
    assert!(report.passed(), "{}", differences(&report));
    assert_eq!(report.fixtures.len(), 4);

    assert!(report.coverage.values().all(|calls| *calls > 0), "{:?}", report.coverage);

    project.edit("src/lib.rs", "f64::INFINITY", "0.0");
    let told = differences(&project.test());
    assert!(told.contains(r#"/order/0: expected "fast", came "slow""#), "{told}");
}

#[test]
fn a_new_guardrail_builds_and_passes() {
    let project = Project::new(Kind::Guardrail);
    let report = project.test();
    assert!(report.passed(), "{}", differences(&report));
    assert!(report.coverage.values().all(|calls| *calls > 0), "{:?}", report.coverage);
    let stream = report.fixtures.iter().find(|fixture| fixture.name == "stream-masked").unwrap();
    assert!(stream.plays > 40, "a stream is cut everywhere, and was played {} times", stream.plays);

    // Without holding back, whole texts still pass: only the cuts show what is wrong.
    project.edit(
        "src/lib.rs",
        "hold.push(u32::try_from(scanned.hold).unwrap_or(u32::MAX));",
        "hold.push(0);",
    );
    project.edit("fixtures/stream-masked.yaml", "Zephy and Zeph", "so on");
    project.edit("fixtures/stream-masked.yaml", "nothing here", "nothing");
    let told = differences(&project.test());
    assert!(told.contains("character by character, something else comes"), "{told}");
    assert!(told.contains("text 0 cut at byte 3, something else comes"), "{told}");
    assert!(told.contains("3 passed, 1 failed"), "{told}");
}

#[test]
fn a_new_exporter_builds_and_passes() {
    let project = Project::new(Kind::Exporter);
    let report = project.test();
    assert!(report.passed(), "{}", differences(&report));
    assert_eq!(report.fixtures.len(), 2);
    assert!(report.coverage.values().all(|calls| *calls > 0), "{:?}", report.coverage);

    project.edit("src/lib.rs", ".bearer(\"token\")", "");
    let told = differences(&project.test());
    assert!(told.contains("header authorization"), "{told}");
}

#[test]
fn a_new_dialect_builds_and_passes() {
    let project = Project::new(Kind::Dialect);
    let report = project.test();
    assert!(report.passed(), "{}", differences(&report));
    let reached = |(name, calls): (&String, &u64)| *calls > 0 || name == "check-config";
    assert!(report.coverage.iter().all(reached), "{:?}", report.coverage);

    // Only what comes whole is still right.
    project.edit(
        "src/lib.rs",
        "let mut out = Vec::new();\n        for chunk in",
        "let mut out = vec![b'\\n'];\n        for chunk in",
    );
    let told = differences(&project.test());
    assert!(told.contains("split after chunk 1, the stream is another one"), "{told}");
}

/// `cargo component build` is another way to a component that serves, where somebody has that tool.
#[test]
fn cargo_component_builds_what_passes() {
    let cargo = || Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let version = cargo().args(["component", "--version"]).output().unwrap();
    if !version.status.success() {
        // Past the harness, which would keep it to itself.
        writeln!(
            std::io::stderr(),
            "skipped: cargo-component isn't installed (cargo install cargo-component --locked)"
        )
        .unwrap();
        return;
    }
    for kind in [Kind::Provider, Kind::RoutingPolicy, Kind::Guardrail, Kind::Exporter, Kind::Dialect] {
        let project = Project::new(kind);
        let mut build = cargo();
        build.args(["component", "build", "--release"]).current_dir(&project.folder);
        assert!(build.env("CARGO_TARGET_DIR", target()).status().unwrap().success(), "{kind:?}");
        let package = project.folder.file_name().unwrap().to_string_lossy().replace('-', "_");
        let component = target().join(format!("wasm32-wasip1/release/{package}.wasm"));
        assert_eq!(
            brokle_runtime::guest_stack(&std::fs::read(&component).unwrap()),
            Some(64 << 10),
            "{kind:?}"
        );
        let report = brokle_testkit::test(&component, &project.folder.join("fixtures")).unwrap();
        assert!(report.passed(), "{}", differences(&report));
    }
}

#[test]
fn what_is_no_project_is_told_apart() {
    let scratch = tempfile::tempdir().unwrap();
    let failure = build(scratch.path(), None).unwrap_err();
    assert!(matches!(&failure, ProjectError::NoProject { .. }), "{failure}");
    assert!(matches!(Sdk::at(scratch.path()), Err(ProjectError::NoSdk(_))));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    assert!(matches!(Sdk::at(&root), Ok(Sdk::Path(folder)) if folder.ends_with("sdk")));
}

/// A new plugin in a language that brings its interpreter, built by the tools of `scripts/guest_tools.sh`.
#[cfg(unix)]
fn interpreted(kind: Kind, language: Language) {
    let scratch = tempfile::tempdir().unwrap();
    let names = Names::parse(kind, "blue-whale").unwrap();
    let folder = scratch.path().join(names.package());
    create(kind, language, &names, &folder, &Sdk::here()).unwrap();
    let (own, tools) = match language {
        Language::Python => (".venv", "venv"),
        _ => ("node_modules", "js/node_modules"),
    };
    let tools = target().with_file_name("guest-tools").join(tools);
    assert!(tools.is_dir(), "{} isn't there: run scripts/guest_tools.sh", tools.display());
    std::os::unix::fs::symlink(tools, folder.join(own)).unwrap();

    let built = build(&folder, None).unwrap();
    assert_eq!(built.inspection.manifest.id, format!("com.example.{}", names.package()));
    let outside: Vec<_> =
        built.inspection.imports.iter().filter(|name| !name.starts_with("brokle:")).collect();
    assert!(outside.is_empty(), "{outside:?}");
    let report = brokle_testkit::test(&built.path, &folder.join("fixtures")).unwrap();
    assert!(report.passed(), "{}", differences(&report));
    // A provider's fixtures have no configuration.
    let none = |name: &str| kind == Kind::Provider && name == "check-config";
    assert!(report.coverage.iter().all(|(name, calls)| *calls > 0 || none(name)), "{:?}", report.coverage);
}

#[cfg(unix)]
#[test]
fn new_plugins_in_python_build_and_pass() {
    for kind in [Kind::RoutingPolicy, Kind::Guardrail, Kind::Provider, Kind::Exporter] {
        interpreted(kind, Language::Python);
    }
}

#[cfg(unix)]
#[test]
fn new_plugins_in_javascript_build_and_pass() {
    for kind in [Kind::RoutingPolicy, Kind::Guardrail, Kind::Provider, Kind::Exporter] {
        interpreted(kind, Language::JavaScript);
    }
}

#[test]
fn a_project_that_cant_be_built_says_what_is_missing() {
    let scratch = tempfile::tempdir().unwrap();
    let told = build(scratch.path(), None).unwrap_err().to_string();
    assert!(told.contains("app.py") && told.contains("brokle plugin new"), "{told}");
    let names = Names::parse(Kind::Dialect, "blue-whale").unwrap();
    let create = create(Kind::Dialect, Language::Python, &names, &scratch.path().join("new"), &Sdk::here());
    let told = create.unwrap_err().to_string();
    assert!(told.contains("Python has no template for a dialect"), "{told}");
}
