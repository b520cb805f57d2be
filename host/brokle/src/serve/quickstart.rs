//! What a person sees first: where the server is, the first key, and a call that works.

use std::io::{self, IsTerminal};
use std::net::SocketAddr;

use brokle_identity::bootstrap::BootstrapKey;

use crate::cli::reachable;
use crate::output;

/// A model that needs no provider account.
const MODEL: &str = "echo-1";

/// Prints the first key, if one was made up (it can't be shown again), and on a terminal or if asked to the rest.
///
/// # Errors
/// When standard output is gone.
pub(super) fn print(
    address: SocketAddr,
    grpc: Option<SocketAddr>,
    key: &BootstrapKey,
    always: bool,
) -> io::Result<()> {
    let fresh = match key {
        BootstrapKey::Generated(secret) => Some(secret.expose()),
        BootstrapKey::AlreadyThere | BootstrapKey::Stored => None,
    };
    if always || io::stdout().is_terminal() {
        return output::lines([page(address, grpc, fresh)]);
    }
    match fresh {
        Some(key) => output::lines([format!("API key, shown this once: {key}")]),
        None => Ok(()),
    }
}

fn page(address: SocketAddr, grpc: Option<SocketAddr>, key: Option<&str>) -> String {
    let url = format!("http://{}", reachable(address));
    let about = match key {
        Some(key) => {
            format!("API key:  {key}   (shown this once; make more with `brokle key create --name NAME`)")
        }
        None => "API key:  as given or shown before; make another one with `brokle key create --name NAME`"
            .to_owned(),
    };
    let grpc =
        grpc.map(|grpc| format!("Spans:    OTLP over gRPC at {}\n", reachable(grpc))).unwrap_or_default();
    let shown = key.unwrap_or("$BROKLE_API_KEY");
    format!(
        r#"
Brokle is at {url}   (API description: {url}/docs)
{about}
{grpc}
Try it:
  curl {url}/v1/chat/completions \
    -H "Authorization: Bearer {shown}" -H "Content-Type: application/json" \
    -d '{{"model":"{MODEL}","messages":[{{"role":"user","content":"Hello!"}}]}}'
"#
    )
}
