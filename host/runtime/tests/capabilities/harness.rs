//! The guest, and a host that it may use.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use brokle_core::tenancy::Tenant;
use brokle_runtime::capabilities::telemetry::TraceParent;
use brokle_runtime::capabilities::{PluginCapabilities, Services};
use brokle_runtime::grants::Grants;
use brokle_runtime::guarding::{Call, Text};
use brokle_runtime::{Body, CallContext, GuardrailPlugin, Limits, PluginError, Runtime, RuntimeConfig};
use brokle_testkit::mocks::MockHost;
use serde_json::{Value, json};

/// The built guest.
pub(crate) fn component() -> Vec<u8> {
    let exe = std::env::current_exe().unwrap();
    let path: PathBuf = exe
        .ancestors()
        .map(|folder| folder.join("wasm32-wasip2/guest-test/capable.wasm"))
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("capable.wasm isn't built: run `make guests`"));
    std::fs::read(path).unwrap()
}

static COMPONENT: LazyLock<Vec<u8>> = LazyLock::new(component);

/// A loaded guest with a host of its own.
pub(crate) struct Fixture {
    pub(crate) host: MockHost,
    pub(crate) plugin: GuardrailPlugin,
    pub(crate) runtime: Runtime,
    _folder: tempfile::TempDir,
}

/// All that the guest's manifest asks for.
pub(crate) fn everything() -> Value {
    json!({
        "kv": {},
        "http": { "upstreams": { "checker": { "hosts": ["a.example.com", "http://127.0.0.1:9000"] } } },
        "secrets": { "token": "test:token", "ed25519": "test:ed25519", "rsa": "test:rsa", "p256": "test:p256" },
        "crypto": {}, "telemetry": {}, "clock": {}, "random": {},
    })
}

/// Ed25519, RFC 8032, section 7.1, test 2: the seed in PKCS#8.
const ED25519: &str = "-----BEGIN PRIVATE KEY-----\n\
    MC4CAQAwBQYDK2VwBCIEIEzNCJso/5banbbDRuwRTg9bijGfNaumJNqM9u1PuKb7\n-----END PRIVATE KEY-----\n";

impl Fixture {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Out of reach for a busy machine; the tests of deadlines have their own.
        let guardrail =
            Limits { cpu: Duration::from_secs(30), deadline: Duration::from_secs(60), ..Limits::guardrail() };
        let config = RuntimeConfig { max_instances: 8, guardrail, ..RuntimeConfig::default() };
        let runtime = Runtime::start(config, folder.path(), [7; 32]).unwrap();
        let plugin = GuardrailPlugin::load(&runtime, &COMPONENT).await.unwrap();
        let host = MockHost::default();
        host.secrets.put("token", "Jefe");
        host.secrets.put("ed25519", ED25519);
        host.secrets.put("rsa", include_str!("keys/rsa-2048.pem"));
        host.secrets.put("p256", crate::crypto::P256_PEM);
        Self { host, plugin, runtime, _folder: folder }
    }

    pub(crate) fn grant(&self, grants: &Value) -> Arc<PluginCapabilities> {
        self.grant_with(grants, &self.host.services())
    }

    pub(crate) fn grant_with(&self, grants: &Value, services: &Services) -> Arc<PluginCapabilities> {
        let grants = Grants::from_value(grants).unwrap();
        PluginCapabilities::configure(self.plugin.manifest(), &grants, services).unwrap()
    }

    /// Has a fresh instance do one thing for the first tenant.
    pub(crate) async fn tell(&self, granted: &Arc<PluginCapabilities>, words: &str) -> String {
        self.tell_for(granted, MockHost::tenant(1), words).await
    }

    pub(crate) async fn tell_for(
        &self,
        granted: &Arc<PluginCapabilities>,
        tenant: Tenant,
        words: &str,
    ) -> String {
        self.try_tell(granted, tenant, None, &[words]).await.unwrap().remove(0)
    }

    /// Has a fresh instance do several things.
    pub(crate) async fn try_tell(
        &self,
        granted: &Arc<PluginCapabilities>,
        tenant: Tenant,
        trace: Option<TraceParent>,
        lines: &[&str],
    ) -> Result<Vec<String>, PluginError> {
        let context =
            CallContext { capabilities: Some(granted.prepare(tenant, trace)), ..CallContext::default() };
        tell(&self.plugin, context, lines).await
    }
}

pub(crate) async fn tell(
    plugin: &GuardrailPlugin,
    context: CallContext,
    lines: &[&str],
) -> Result<Vec<String>, PluginError> {
    let call = Call {
        operation: "chat.completions".into(),
        model: "m".into(),
        streaming: false,
        request_id: "01J0000000000000000000TEST".into(),
        retries: 0,
        state: vec![],
        attributes: vec![],
    };
    let texts: Vec<Text> = lines
        .iter()
        .map(|line| Text {
            pointer: "/messages/0/content".into(),
            kind: "content".into(),
            role: "user".into(),
            value: (*line).into(),
        })
        .collect();
    let mut instance = plugin.open(context).await?;
    let ruling = instance.on_request(&call, Body::json("{}".into()), &texts).await?.unwrap();
    Ok(serde_json::from_slice(&ruling.annotations[0].value).unwrap())
}
