//! A registry: `oci://registry/name:version` or `oci://registry/name@sha256:…`.
//!
//! The artifact is what `wkg` publishes: a manifest whose config is `application/vnd.wasm.config.v0+json` and one layer
//! `application/wasm`. The signature is a second layer, `application/vnd.brokle.plugin.dsse.v1+json`: one manifest
//! digest then covers both, registries that know nothing of referrers serve it too, and a copy of the artifact can't lose
//! it. (`oras push REF --config cfg.json:application/vnd.wasm.config.v0+json x.wasm:application/wasm
//! x.wasm.dsse.json:application/vnd.brokle.plugin.dsse.v1+json`.)
//!
//! A tag is resolved once; what is kept as the reference is the manifest's digest, so that pulling again gives the same
//! bytes. Layers are checked against their digests, and against the caps before and while they are read. HTTPS always,
//! except for a registry on the loopback interface. A pull takes [`TIMEOUT`] at most.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::StreamExt;
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::manifest::{OciDescriptor, OciImageManifest};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};

use crate::catalogue::CatalogueError;
use crate::files::{MAX_COMPONENT, MAX_ENVELOPE, Stored, hex_digest};

/// The config of a Wasm artifact.
pub const CONFIG: &str = "application/vnd.wasm.config.v0+json";
/// The layer that is the component.
pub const COMPONENT: &str = "application/wasm";
/// The layer that is its signature.
pub const ENVELOPE: &str = "application/vnd.brokle.plugin.dsse.v1+json";
/// How long a pull may take.
pub const TIMEOUT: Duration = Duration::from_secs(120);
const CONNECT: Duration = Duration::from_secs(10);

/// A pulled artifact.
#[derive(Debug)]
pub struct Pulled {
    /// The component and its signature.
    pub stored: Stored,
    /// `registry/name@sha256:…`: the very manifest.
    pub reference: String,
}

/// Who we are to a registry.
#[derive(Clone)]
pub struct Login {
    /// The user.
    pub user: String,
    /// The password, or a token.
    pub password: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Pulls a component.
///
/// # Errors
/// [`CatalogueError::Source`], for people.
pub async fn pull(reference: &str, logins: &BTreeMap<String, Login>) -> Result<Pulled, CatalogueError> {
    match tokio::time::timeout(TIMEOUT, pull_here(reference, logins)).await {
        Ok(pulled) => pulled.map_err(|error| CatalogueError::Source(format!("{reference}: {error}"))),
        Err(_) => Err(CatalogueError::Source(format!("{reference}: no end after {} s", TIMEOUT.as_secs()))),
    }
}

async fn pull_here(reference: &str, logins: &BTreeMap<String, Login>) -> Result<Pulled, String> {
    let bare = reference.strip_prefix("oci://").unwrap_or(reference);
    let parsed: Reference = bare.parse().map_err(|_| "registry/name:version is expected".to_owned())?;
    let client = client(&parsed);
    let auth = match logins.get(parsed.registry()) {
        Some(Login { user, password }) => RegistryAuth::Basic(user.clone(), password.clone()),
        None => RegistryAuth::Anonymous,
    };
    let (manifest, digest) =
        client.pull_image_manifest(&parsed, &auth).await.map_err(|error| error.to_string())?;
    let (component, envelope) = layers(&manifest)?;
    let component = layer(&client, &parsed, component, MAX_COMPONENT).await?;
    let envelope = match envelope {
        Some(descriptor) => Some(layer(&client, &parsed, descriptor, MAX_ENVELOPE).await?),
        None => None,
    };
    let reference = format!("{}/{}@{digest}", parsed.registry(), parsed.repository());
    Ok(Pulled { stored: Stored { component, envelope }, reference })
}

fn client(reference: &Reference) -> Client {
    // The client's TLS library takes the process' provider; it is the one that everything here uses.
    drop(rustls::crypto::ring::default_provider().install_default());
    let registry = reference.resolve_registry().to_owned();
    let protocol = if is_loopback(&registry) {
        ClientProtocol::HttpsExcept(vec![registry])
    } else {
        ClientProtocol::Https
    };
    Client::new(ClientConfig {
        protocol,
        connect_timeout: Some(CONNECT),
        read_timeout: Some(CONNECT),
        ..ClientConfig::default()
    })
}

/// An address of this very machine, by number: a name may lead anywhere.
fn is_loopback(registry: &str) -> bool {
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn layers(manifest: &OciImageManifest) -> Result<(&OciDescriptor, Option<&OciDescriptor>), String> {
    let of = |media_type: &str| {
        manifest.layers.iter().filter(|layer| layer.media_type == media_type).collect::<Vec<_>>()
    };
    if manifest.config.media_type != CONFIG {
        return Err(format!(
            "not a Wasm artifact: its config is {}, not {CONFIG}",
            manifest.config.media_type
        ));
    }
    match (of(COMPONENT).as_slice(), of(ENVELOPE).as_slice()) {
        ([component], []) => Ok((component, None)),
        ([component], [envelope]) => Ok((component, Some(envelope))),
        (components, envelopes) => Err(format!(
            "one layer {COMPONENT} and at most one {ENVELOPE} are expected; there are {} and {}",
            components.len(),
            envelopes.len()
        )),
    }
}

async fn layer(
    client: &Client,
    reference: &Reference,
    descriptor: &OciDescriptor,
    most: u64,
) -> Result<Vec<u8>, String> {
    let too_large = || format!("a layer is larger than {most} bytes");
    let size = u64::try_from(descriptor.size).map_err(|_| "a layer of negative size".to_owned())?;
    if size > most {
        return Err(too_large());
    }
    let mut stream =
        client.pull_blob_stream(reference, descriptor).await.map_err(|error| error.to_string())?.stream;
    let mut bytes = Vec::new();
    while let Some(piece) = stream.next().await {
        let piece = piece.map_err(|error| error.to_string())?;
        if (bytes.len() + piece.len()) as u64 > size {
            return Err("a layer is larger than the manifest says".to_owned());
        }
        bytes.extend_from_slice(&piece);
    }
    if descriptor.digest != format!("sha256:{}", hex_digest(&bytes)) {
        return Err("a layer isn't what its digest says".to_owned());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_spoken_to_in_the_clear() {
        for (registry, expected) in [
            ("127.0.0.1:5000", true),
            ("[::1]:5000", true),
            ("127.0.0.1", true),
            ("localhost:5000", false),
            ("127.0.0.1.evil.example:5000", false),
            ("10.0.0.1:5000", false),
            ("registry.example", false),
        ] {
            assert_eq!(is_loopback(registry), expected, "{registry}");
        }
    }
}
