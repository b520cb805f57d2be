//! `brokle plugin keygen`.

use std::path::PathBuf;
use std::process::ExitCode;

use brokle_core::random::SystemRandom;
use brokle_runtime::trust::{SecretKey, files};
use clap::Args;

use super::Outcome;
use crate::cli::keys::write_pair;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Keygen {
    /// The folder for NAME.key.pem (secret, mode 0600) and NAME.pub.pem; made if need be. No file is overwritten.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// What the files are called.
    #[arg(long, default_value = "publisher")]
    name: String,
}

pub(super) fn run(command: &Keygen) -> Outcome {
    files::private_folder(&command.out)?;
    let key = SecretKey::generate(&SystemRandom);
    let secret = write_pair(&command.out, &command.name, &key)?;
    output::complain(&format!(
        "Wrote {} (keep it secret) and its public half. The key's id:",
        secret.display()
    ));
    output::lines([key.public().id().to_string()])?;
    Ok(ExitCode::SUCCESS)
}
