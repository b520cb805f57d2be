//! The languages that projects are written in.

use std::fmt;
use std::path::Path;

use brokle_runtime::Kind;

use super::ProjectError;

/// A language that a plugin is written in, told by the file that makes a project of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Language {
    /// Built by cargo; every kind.
    #[default]
    Rust,
    /// Built by `componentize-py`; every kind but dialects.
    Python,
    /// Built by `componentize-js`; every kind but dialects.
    JavaScript,
}

impl Language {
    const ALL: [Self; 3] = [Self::Rust, Self::Python, Self::JavaScript];

    /// The file at the top of a project in this language.
    #[must_use]
    pub const fn marker(self) -> &'static str {
        match self {
            Self::Rust => "Cargo.toml",
            Self::Python => "app.py",
            Self::JavaScript => "app.js",
        }
    }

    /// The language of the project in a folder.
    ///
    /// # Errors
    /// There is no project.
    pub fn of(folder: &Path) -> Result<Self, ProjectError> {
        let found = Self::ALL.into_iter().find(|language| folder.join(language.marker()).is_file());
        found.ok_or_else(|| ProjectError::NoProject {
            folder: folder.to_owned(),
            missing: "Cargo.toml (nor app.py, nor app.js)",
        })
    }

    /// The files of its template for a kind, each with its text.
    pub(super) fn template(
        self,
        kind: Kind,
    ) -> Result<&'static [(&'static str, &'static str)], ProjectError> {
        macro_rules! files {
            ($folder:literal: $($path:literal),* $(,)?) => {
                &[$(($path, include_str!(concat!("../../../", $folder, "/", $path)))),*]
            };
        }
        Ok(match (self, kind) {
            (Self::Rust, Kind::Provider) => files!("templates/provider":
                "Cargo.toml", "plugin.json", "src/lib.rs", "tests/fixtures.rs", "README.md", ".gitignore",
                ".cargo/config.toml", "rust-toolchain.toml",
                "fixtures/chat/case.json", "fixtures/chat/request.json", "fixtures/chat/expected-upstream.json",
                "fixtures/error/case.json", "fixtures/error/request.json", "fixtures/error/response.json",
                "fixtures/error/response-head.json", "fixtures/error/expected-upstream.json",
                "fixtures/error/expected-problem.json"),
            (Self::Rust, Kind::RoutingPolicy) => files!("templates/routing-policy":
                "Cargo.toml", "plugin.json", "src/lib.rs", "tests/fixtures.rs", "README.md", ".gitignore",
                ".cargo/config.toml", "rust-toolchain.toml",
                "fixtures/cheapest-first.yaml", "fixtures/slow-last.yaml", "fixtures/config-refused.yaml"),
            (Self::Rust, Kind::Guardrail) => files!("templates/guardrail":
                "Cargo.toml", "plugin.json", "src/lib.rs", "tests/fixtures.rs", "README.md", ".gitignore",
                ".cargo/config.toml", "rust-toolchain.toml",
                "fixtures/request-blocked.yaml", "fixtures/request-allowed.yaml", "fixtures/response-masked.yaml",
                "fixtures/stream-masked.yaml"),
            (Self::Rust, Kind::Exporter) => files!("templates/exporter":
                "Cargo.toml", "plugin.json", "src/lib.rs", "tests/fixtures.rs", "README.md", ".gitignore",
                ".cargo/config.toml", "rust-toolchain.toml",
                "fixtures/sent.yaml", "fixtures/away.yaml"),
            (Self::Rust, Kind::Dialect) => files!("templates/dialect":
                "Cargo.toml", "plugin.json", "src/lib.rs", "tests/fixtures.rs", "README.md", ".gitignore",
                ".cargo/config.toml", "rust-toolchain.toml",
                "fixtures/text/case.json", "fixtures/text/request.json", "fixtures/text/answer.json",
                "fixtures/text/expected-head.json", "fixtures/text/expected-canonical.json",
                "fixtures/text/expected-answer.json", "fixtures/text/expected-error.json",
                "fixtures/stream/case.json", "fixtures/stream/request.json", "fixtures/stream/chunks.jsonl",
                "fixtures/stream/expected-head.json", "fixtures/stream/expected-canonical.json",
                "fixtures/stream/expected-stream.json", "fixtures/stream/expected-error.json",
                "fixtures/stream/expected-failed.json",
                "fixtures/refused/case.json", "fixtures/refused/request.json",
                "fixtures/refused/expected-head.json", "fixtures/refused/expected-problem.json",
                "fixtures/count/case.json", "fixtures/count/request.json", "fixtures/count/expected-head.json",
                "fixtures/count/expected-canonical.json", "fixtures/count/expected-estimate.json",
                "fixtures/native/case.json", "fixtures/native/native.json", "fixtures/native/expected-reading.json",
                "fixtures/native-stream/case.json", "fixtures/native-stream/native.sse",
                "fixtures/native-stream/expected-reading.json", "fixtures/native-stream/expected-error.json",
                "fixtures/native-stream/expected-failed.json"),
            (Self::Python, Kind::RoutingPolicy) => files!("examples/policy-python":
                "app.py", "plugin.json", "requirements.txt", "README.md", ".gitignore",
                "fixtures/cheapest-first.yaml", "fixtures/slow-last.yaml", "fixtures/config-refused.yaml"),
            (Self::JavaScript, Kind::RoutingPolicy) => files!("examples/policy-js":
                "app.js", "plugin.json", "package.json", "README.md", ".gitignore",
                "fixtures/cheapest-first.yaml", "fixtures/slow-last.yaml", "fixtures/config-refused.yaml"),
            (Self::Python, Kind::Guardrail) => files!("examples/guardrail-python":
                "app.py", "plugin.json", "requirements.txt", "README.md", ".gitignore",
                "fixtures/request-blocked.yaml", "fixtures/request-allowed.yaml", "fixtures/response-masked.yaml",
                "fixtures/stream-masked.yaml"),
            (Self::JavaScript, Kind::Guardrail) => files!("examples/guardrail-js":
                "app.js", "plugin.json", "package.json", "README.md", ".gitignore",
                "fixtures/request-blocked.yaml", "fixtures/request-allowed.yaml", "fixtures/response-masked.yaml",
                "fixtures/stream-masked.yaml"),
            (Self::Python, Kind::Provider) => files!("examples/provider-python":
                "app.py", "adapter.py", "plugin.json", "requirements.txt", "README.md", ".gitignore",
                "fixtures/chat/case.json", "fixtures/chat/request.json", "fixtures/chat/response.json",
                "fixtures/chat/expected-upstream.json", "fixtures/chat/expected.json",
                "fixtures/chat/expected-usage.json", "fixtures/chat-stream/case.json",
                "fixtures/chat-stream/request.json", "fixtures/chat-stream/response.ndjson",
                "fixtures/chat-stream/expected-upstream.json", "fixtures/chat-stream/expected.json",
                "fixtures/chat-stream/expected-usage.json", "fixtures/stream-fault/case.json",
                "fixtures/stream-fault/request.json", "fixtures/stream-fault/response.ndjson",
                "fixtures/stream-fault/expected-upstream.json", "fixtures/stream-fault/expected.json",
                "fixtures/stream-fault/expected-problem.json", "fixtures/error/case.json",
                "fixtures/error/request.json", "fixtures/error/response.json", "fixtures/error/response-head.json",
                "fixtures/error/expected-upstream.json", "fixtures/error/expected-problem.json",
                "fixtures/refused/case.json", "fixtures/refused/request.json",
                "fixtures/refused/expected-problem.json"),
            (Self::JavaScript, Kind::Provider) => files!("examples/provider-js":
                "app.js", "plugin.json", "package.json", "README.md", ".gitignore",
                "fixtures/chat/case.json", "fixtures/chat/request.json", "fixtures/chat/response.json",
                "fixtures/chat/expected-upstream.json", "fixtures/chat/expected.json",
                "fixtures/chat/expected-usage.json", "fixtures/chat-stream/case.json",
                "fixtures/chat-stream/request.json", "fixtures/chat-stream/response.ndjson",
                "fixtures/chat-stream/expected-upstream.json", "fixtures/chat-stream/expected.json",
                "fixtures/chat-stream/expected-usage.json", "fixtures/stream-fault/case.json",
                "fixtures/stream-fault/request.json", "fixtures/stream-fault/response.ndjson",
                "fixtures/stream-fault/expected-upstream.json", "fixtures/stream-fault/expected.json",
                "fixtures/stream-fault/expected-problem.json", "fixtures/error/case.json",
                "fixtures/error/request.json", "fixtures/error/response.json", "fixtures/error/response-head.json",
                "fixtures/error/expected-upstream.json", "fixtures/error/expected-problem.json",
                "fixtures/refused/case.json", "fixtures/refused/request.json",
                "fixtures/refused/expected-problem.json"),
            (Self::Python, Kind::Exporter) => files!("examples/exporter-python":
                "app.py", "plugin.json", "requirements.txt", "README.md", ".gitignore",
                "fixtures/sent.yaml", "fixtures/away.yaml"),
            (Self::JavaScript, Kind::Exporter) => files!("examples/exporter-js":
                "app.js", "plugin.json", "package.json", "README.md", ".gitignore",
                "fixtures/sent.yaml", "fixtures/away.yaml"),
            (language @ (Self::Python | Self::JavaScript), kind @ Kind::Dialect) => {
                return Err(ProjectError::NoTemplate { language, kind });
            }
        })
    }
}

impl fmt::Display for Language {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Rust => "Rust",
            Self::Python => "Python",
            Self::JavaScript => "JavaScript",
        })
    }
}
