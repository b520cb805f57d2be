//! Projects of plugins: made from a template, built with their language's own tool. `brokle plugin new` and `build` are
//! this.
//!
//! The templates are `sdk/templates/*` and `sdk/examples/*`, projects that build as they stand; a new project is one of
//! them with its names changed and, in Rust, its two dependencies on Brokle pointed to where the SDK is ([`Sdk`]).

mod build;
mod contract;
mod language;
mod names;

use std::path::{Path, PathBuf};

use brokle_runtime::{Kind, LoadError};

pub use build::{Built, build};
pub use language::Language;
pub use names::Names;

/// Where projects find the crates `brokle-plugin` and `brokle-testkit`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sdk {
    /// A folder with `rust/` and `testkit/` in it: a checkout's `sdk/`.
    Path(PathBuf),
    /// A version in the registry.
    Version(&'static str),
}

impl Sdk {
    /// The SDK of the checkout that this crate was built from while that is there, else this crate's version.
    #[must_use]
    pub fn here() -> Self {
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned);
        match checkout.filter(|folder| is_sdk(folder)) {
            Some(folder) => Self::Path(folder),
            None => Self::Version(env!("CARGO_PKG_VERSION")),
        }
    }

    /// The SDK in a folder: a checkout, or its `sdk/`.
    ///
    /// # Errors
    /// It isn't there.
    pub fn at(folder: &Path) -> Result<Self, ProjectError> {
        let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
        let places = [absolute.join("sdk"), absolute];
        let found = places.into_iter().find(|place| is_sdk(place));
        found.map(Self::Path).ok_or_else(|| ProjectError::NoSdk(folder.to_owned()))
    }

    fn dependency(&self, crate_folder: &str) -> String {
        match self {
            // JSON's strings are TOML's basic strings.
            Self::Path(folder) => {
                let path = folder.join(crate_folder).to_string_lossy().into_owned();
                format!("{{ path = {} }}", serde_json::Value::from(path))
            }
            Self::Version(version) => format!("\"{version}\""),
        }
    }
}

fn is_sdk(folder: &Path) -> bool {
    ["rust", "testkit"].iter().all(|name| folder.join(name).join("Cargo.toml").is_file())
}

/// Why a project can't be made or built.
#[derive(Debug, thiserror::Error)]
pub enum ProjectError {
    /// The name can't be a plugin's.
    #[error("'{0}' can't be a plugin's name: 1 to 40 of a-z, 0-9 and single '-', a letter first")]
    Name(String),
    /// There is something already.
    #[error("{} exists and isn't empty: give another --dir, or remove it first", .0.display())]
    Exists(PathBuf),
    /// No SDK there.
    #[error("{} has no SDK in it: give the checkout of Brokle, or its folder sdk (with rust/ and testkit/)", .0.display())]
    NoSdk(PathBuf),
    /// No project there.
    #[error("{} has no {missing}: go into the plugin's folder or name it, or make one with `brokle plugin new`", folder.display())]
    NoProject {
        /// Where it was looked for.
        folder: PathBuf,
        /// The file that makes a project.
        missing: &'static str,
    },
    /// A file can't be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A tool isn't there: cargo, rustc, componentize-py, componentize-js.
    #[error("{tool} can't be started ({source}): {remedy}")]
    NoTool {
        /// Which.
        tool: String,
        /// Why.
        #[source]
        source: std::io::Error,
        /// How to get it.
        remedy: String,
    },
    /// The language has no template for this kind.
    #[error("{language} has no template for a {}: take Rust, or begin from the contract in wit/", kind.world())]
    NoTemplate {
        /// The language.
        language: Language,
        /// What was wanted in it.
        kind: Kind,
    },
    /// The compiler can't make components.
    #[error("Rust has no target wasm32-wasip2 here: run `rustup target add wasm32-wasip2` in {}", .0.display())]
    NoTarget(PathBuf),
    /// The compiler has said why.
    #[error("the build failed; what the compiler said is above")]
    Failed,
    /// Nothing that is a component.
    #[error("the build made no component: Cargo.toml needs `[lib] crate-type = [\"cdylib\"]`")]
    NoComponent,
    /// More than one.
    #[error("the build made several components ({}): build one package at a time", .0.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", "))]
    Several(Vec<PathBuf>),
    /// No host would take it.
    #[error("the build made {}, which no host takes: {error}", path.display())]
    Refused {
        /// The component.
        path: PathBuf,
        /// Why.
        #[source]
        error: LoadError,
    },
}

/// Writes a project into a folder that isn't there yet, or is empty, and gives its files.
///
/// # Errors
/// There is something in the folder, or a file can't be written.
pub fn create(
    kind: Kind,
    language: Language,
    names: &Names,
    folder: &Path,
    sdk: &Sdk,
) -> Result<Vec<PathBuf>, ProjectError> {
    let template = language.template(kind)?;
    if std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(ProjectError::Exists(folder.to_owned()));
    }
    let mut written = Vec::new();
    for (name, text) in template {
        let path = folder.join(name);
        let text = if *name == "Cargo.toml" { depend(text, sdk) } else { (*text).to_owned() };
        let text = if *name == ".cargo/config.toml" { text } else { names.put(kind, &text) };
        let io = |source| ProjectError::Io { path: path.clone(), source };
        path.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(io)?;
        std::fs::write(&path, text).map_err(io)?;
        written.push(path);
    }
    Ok(written)
}

/// A template's `Cargo.toml`, its dependencies on Brokle pointed to the SDK.
fn depend(text: &str, sdk: &Sdk) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with("# In a project of your own")) {
        lines.push(match line.split_once(" = { path = \"../../") {
            Some((name, rest)) => {
                let folder = rest.split('"').next().unwrap_or_default();
                format!("{name} = {}", sdk.dependency(folder))
            }
            None => line.to_owned(),
        });
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [Kind; 5] =
        [Kind::Provider, Kind::RoutingPolicy, Kind::Guardrail, Kind::Exporter, Kind::Dialect];

    #[test]
    fn templates_have_every_file_that_is_in_their_folder() {
        fn count(folder: &Path) -> usize {
            let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
            let made = ["target", "Cargo.lock", "__pycache__", ".venv", "node_modules", "package-lock.json"];
            let ours = entries.filter(|path| !made.iter().any(|made| path.ends_with(made)));
            ours.map(|path| if path.is_dir() { count(&path) } else { 1 }).sum()
        }
        for (kind, language, name) in [
            (Kind::Provider, Language::Rust, "templates/provider"),
            (Kind::RoutingPolicy, Language::Rust, "templates/routing-policy"),
            (Kind::Guardrail, Language::Rust, "templates/guardrail"),
            (Kind::Exporter, Language::Rust, "templates/exporter"),
            (Kind::Dialect, Language::Rust, "templates/dialect"),
            (Kind::RoutingPolicy, Language::Python, "examples/policy-python"),
            (Kind::RoutingPolicy, Language::JavaScript, "examples/policy-js"),
            (Kind::Guardrail, Language::Python, "examples/guardrail-python"),
            (Kind::Guardrail, Language::JavaScript, "examples/guardrail-js"),
            (Kind::Provider, Language::Python, "examples/provider-python"),
            (Kind::Provider, Language::JavaScript, "examples/provider-js"),
            (Kind::Exporter, Language::Python, "examples/exporter-python"),
            (Kind::Exporter, Language::JavaScript, "examples/exporter-js"),
        ] {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
            assert_eq!(language.template(kind).unwrap().len(), count(&folder), "{name}");
        }
    }

    #[test]
    fn a_new_project_has_no_name_of_the_template() {
        let scratch = tempfile::tempdir().unwrap();
        for kind in KINDS {
            let names = Names::parse(kind, "blue-whale").unwrap();
            let folder = scratch.path().join(names.package());
            let sdk = Sdk::Path("/some \"where\"/sdk".into());
            let files = create(kind, Language::Rust, &names, &folder, &sdk).unwrap();
            for path in &files {
                let text = std::fs::read_to_string(path).unwrap();
                assert!(!text.to_lowercase().contains("acme"), "{}: {text}", path.display());
                assert!(!text.contains("../../"), "{}: {text}", path.display());
            }
            let cargo = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
            assert!(cargo.contains(r#"brokle-plugin = { path = "/some \"where\"/sdk/rust" }"#), "{cargo}");
            assert!(
                cargo.contains(r#"brokle-testkit = { path = "/some \"where\"/sdk/testkit" }"#),
                "{cargo}"
            );
            let again = create(kind, Language::Rust, &names, &folder, &sdk).unwrap_err();
            assert!(matches!(again, ProjectError::Exists(_)), "{again}");
        }
        assert!(
            depend("brokle-plugin = { path = \"../../rust\" }", &Sdk::Version("0.1.0"))
                .contains("= \"0.1.0\"")
        );
    }
}
