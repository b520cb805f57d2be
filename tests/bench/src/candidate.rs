//! Who is measured, and who stands around it.

use crate::{process::Server, request::API_KEY};
use brokle_test_services::free_address;
use std::{fs, io, net::SocketAddr, path::Path, process::Command};

/// The instant upstream, as a process of its own.
pub(crate) async fn start_upstream(logs: &Path) -> io::Result<Server> {
    let addr = free_address()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["upstream", "--listen", &addr.to_string()]);
    Server::start("upstream", command, addr, logs).await
}

/// The bare proxy.
pub(crate) async fn start_floor(floor: &Path, upstream: SocketAddr, logs: &Path) -> io::Result<Server> {
    let addr = free_address()?;
    let mut command = Command::new(floor);
    command.args(["--listen", &addr.to_string(), "--upstream", &format!("http://{upstream}")]);
    Server::start("floor", command, addr, logs).await
}

/// Brokle's command line.
pub(crate) fn serving(brokle: &Path) -> Vec<String> {
    vec![brokle.display().to_string(), "serve".into()]
}

/// How to start Brokle, or what is in its place.
pub(crate) struct Candidate<'a> {
    words: Vec<String>,
    upstream: SocketAddr,
    work: &'a Path,
}

impl<'a> Candidate<'a> {
    /// `work` is the folder that it runs in, with its configuration if it has any.
    pub(crate) fn new(mut words: Vec<String>, upstream: SocketAddr, work: &'a Path) -> io::Result<Self> {
        // It runs in a folder of its own, where a relative path would lead nowhere.
        let program = words.first_mut().ok_or_else(|| io::Error::other("there is no command to start"))?;
        *program = fs::canonicalize(&*program)
            .map_err(|error| io::Error::other(format!("{program}: {error}")))?
            .display()
            .to_string();
        Ok(Self { words, upstream, work })
    }

    /// Starts it on this data directory, with nothing in its environment but what a first start needs.
    pub(crate) async fn start(&self, data: &Path) -> io::Result<Server> {
        let addr = free_address()?;
        let mut words = self.words.iter().map(|word| {
            let word = word.replace("{listen}", &addr.to_string());
            word.replace("{upstream}", &format!("http://{}", self.upstream))
                .replace("{data}", &data.display().to_string())
        });
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).current_dir(self.work).env_clear();
        command.envs(
            std::env::vars_os()
                .filter(|(name, _)| ["PATH", "HOME", "TMPDIR"].iter().any(|kept| name == kept)),
        );
        command.env("BROKLE_LISTEN", addr.to_string()).env("BROKLE_DATA_DIR", data);
        command.env("BROKLE_BOOTSTRAP_API_KEY", API_KEY).env("OPENAI_API_KEY", "sk-bench");
        command.env("OPENAI_BASE_URL", format!("http://{}/v1", self.upstream));
        Server::start("candidate", command, addr, self.work).await
    }
}
