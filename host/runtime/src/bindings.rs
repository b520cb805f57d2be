//! Bindings generated from `wit/`: one module for each world and contract version.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    reason = "generated"
)]

pub mod provider {
    wasmtime::component::bindgen!({
        path: ["../../wit/types", "../../wit/host", "../../wit/provider"],
        world: "brokle:provider/provider",
        imports: { default: trappable },
        exports: { default: async },
        with: { "brokle:provider/exchange.body": crate::body::Body },
        additional_derives: [PartialEq],
    });
}

pub mod routing {
    wasmtime::component::bindgen!({
        path: ["../../wit/types", "../../wit/host", "../../wit/routing"],
        world: "brokle:routing/routing-policy",
        imports: { default: trappable },
        exports: { default: async },
        with: {
            "brokle:types/common": crate::bindings::provider::brokle::types::common,
            "brokle:host/log": crate::bindings::provider::brokle::host::log,
            "brokle:host/config": crate::bindings::provider::brokle::host::config,
        },
    });
}

pub mod guardrail {
    wasmtime::component::bindgen!({
        path: ["../../wit/types", "../../wit/host", "../../wit/guardrail"],
        world: "brokle:guardrail/guardrail",
        imports: { default: trappable },
        exports: { default: async },
        with: {
            "brokle:types/common": crate::bindings::provider::brokle::types::common,
            "brokle:host/log": crate::bindings::provider::brokle::host::log,
            "brokle:host/config": crate::bindings::provider::brokle::host::config,
            "brokle:guardrail/facts.document": crate::body::Body,
        },
        additional_derives: [PartialEq],
    });
}

pub mod dialect {
    wasmtime::component::bindgen!({
        path: ["../../wit/types", "../../wit/host", "../../wit/dialect"],
        world: "brokle:dialect/dialect",
        imports: { default: trappable },
        exports: { default: async },
        with: {
            "brokle:types/common": crate::bindings::provider::brokle::types::common,
            "brokle:host/log": crate::bindings::provider::brokle::host::log,
            "brokle:host/config": crate::bindings::provider::brokle::host::config,
            "brokle:dialect/exchange.body": crate::body::Body,
        },
        additional_derives: [PartialEq],
    });
}

pub mod exporter {
    wasmtime::component::bindgen!({
        path: ["../../wit/types", "../../wit/host", "../../wit/exporter"],
        world: "brokle:exporter/exporter",
        imports: { default: trappable },
        exports: { default: async },
        with: {
            "brokle:types/common": crate::bindings::provider::brokle::types::common,
            "brokle:host/log": crate::bindings::provider::brokle::host::log,
            "brokle:host/config": crate::bindings::provider::brokle::host::config,
        },
        additional_derives: [PartialEq],
    });
}

/// What a manifest asks for, linked interface by interface. Only what waits is asynchronous.
pub mod capabilities {
    wasmtime::component::bindgen!({
        path: ["../../wit/types", "../../wit/host"],
        world: "brokle:host/capabilities",
        imports: {
            "brokle:host/http": async | trappable,
            "brokle:host/kv": async | trappable,
            default: trappable,
        },
        with: {
            "brokle:host/secrets.secret": crate::capabilities::secrets::Handle,
            "brokle:host/telemetry.span": crate::capabilities::telemetry::OpenSpan,
        },
        additional_derives: [PartialEq],
    });
}

pub use provider::brokle::types::common;
