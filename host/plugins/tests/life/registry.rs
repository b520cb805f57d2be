//! A real registry on the loopback interface.

use brokle_plugins::sources::oci::{COMPONENT, CONFIG, ENVELOPE};
use brokle_plugins::{CatalogueError, Terms};
use brokle_test_services::Registry;
use oci_client::client::{ClientConfig, ClientProtocol, Config, ImageLayer};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};

use crate::harness::*;

/// Publishes layers under a tag, as `wkg` and `oras` do, and answers the manifest's digest.
async fn push(registry: &Registry, name: &str, config: &str, layers: &[(&str, Vec<u8>)]) -> String {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let protocol = ClientProtocol::HttpsExcept(vec![registry.address().to_owned()]);
    let client = Client::new(ClientConfig { protocol, ..ClientConfig::default() });
    let reference: Reference = format!("{}/{name}", registry.address()).parse().unwrap();
    let config = Config::new(b"{}".to_vec(), config.to_owned(), None);
    let layer = |(kind, bytes): &(&str, Vec<u8>)| ImageLayer::new(bytes.clone(), (*kind).to_owned(), None);
    let layers: Vec<ImageLayer> = layers.iter().map(layer).collect();
    client.push(&reference, &layers, config, &RegistryAuth::Anonymous, None).await.unwrap();
    client.fetch_manifest_digest(&reference, &RegistryAuth::Anonymous).await.unwrap()
}

#[tokio::test]
async fn a_component_is_pulled_by_digest_and_serves() {
    let Some(registry) = Registry::start().unwrap_or_else(|error| panic!("{error}")) else { return };
    let world = World::new().await;
    let catalogue = world.dev(Vec::new()).await;
    let layers = [(COMPONENT, component("provider_echo")), (ENVELOPE, b"{\"signed\":true}".to_vec())];
    let digest = push(&registry, "acme/echo:0.1.0", CONFIG, &layers).await;
    let tag = format!("oci://{}/acme/echo:0.1.0", registry.address());
    catalogue.install_from(&tag, Terms::default(), &operator()).await.unwrap();
    assert_eq!(serving_all(&catalogue, "echo").as_deref(), Some("0.1.0"));
    let shown = version(&catalogue, "brokle.provider-echo", "0.1.0");
    assert_eq!(
        (shown.source.as_str(), shown.reference.clone()),
        ("oci", format!("{}/acme/echo@{digest}", registry.address()))
    );
    let envelope = world.folder.path().join(format!("plugins/{}.wasm.dsse.json", shown.sha256));
    assert_eq!(std::fs::read(envelope).unwrap(), b"{\"signed\":true}", "the signature came with it");

    // The tag moves on; the digest doesn't.
    push(&registry, "acme/echo:0.1.0", CONFIG, &[(COMPONENT, component("provider_openai"))]).await;
    let by_digest = format!("oci://{}", shown.reference);
    catalogue.install_from(&by_digest, Terms::default(), &operator()).await.unwrap();
    assert_eq!(catalogue.list().len(), 1, "still the same component");
}

#[tokio::test]
async fn what_is_no_component_is_told_and_changes_nothing() {
    let Some(registry) = Registry::start().unwrap_or_else(|error| panic!("{error}")) else { return };
    let world = World::new().await;
    let catalogue = world.dev(Vec::new()).await;
    push(&registry, "acme/image:1", "application/vnd.oci.image.config.v1+json", &[(COMPONENT, vec![1])])
        .await;
    push(&registry, "acme/two:1", CONFIG, &[(COMPONENT, vec![1]), (COMPONENT, vec![2])]).await;
    push(&registry, "acme/signature:1", CONFIG, &[(COMPONENT, vec![1]), (ENVELOPE, vec![b'x'; 300 << 10])])
        .await;
    for (reference, words) in [
        (format!("oci://{}/acme/image:1", registry.address()), "not a Wasm artifact"),
        (format!("oci://{}/acme/two:1", registry.address()), "one layer"),
        (format!("oci://{}/acme/signature:1", registry.address()), "larger than"),
        (format!("oci://{}/acme/missing:1", registry.address()), "acme/missing"),
        ("oci://127.0.0.1:1/acme/echo:1".to_owned(), "127.0.0.1:1"),
        ("https://127.0.0.1/echo.wasm".to_owned(), "oci://"),
    ] {
        let error = catalogue.install_from(&reference, Terms::default(), &operator()).await.unwrap_err();
        let CatalogueError::Source(text) = &error else { panic!("{reference}: {error:?}") };
        assert!(text.contains(words), "{reference}: {text}");
    }
    assert!(catalogue.list().is_empty());
}
