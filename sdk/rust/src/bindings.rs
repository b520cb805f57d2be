//! The generated bindings. Use the traits and types of the other modules instead.
#![allow(missing_docs, unsafe_code, reason = "generated from the WIT, which has the documentation")]
#![allow(clippy::all, clippy::pedantic, clippy::restriction, unreachable_pub, reason = "generated")]

pub mod provider {
    wit_bindgen::generate!({
        path: ["../../wit/types", "../../wit/host", "../../wit/provider"],
        world: "brokle:provider/provider",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_provider",
        default_bindings_module: "brokle_plugin::bindings::provider",
    });
}

pub mod routing {
    wit_bindgen::generate!({
        path: ["../../wit/types", "../../wit/host", "../../wit/routing"],
        world: "brokle:routing/routing-policy",
        with: {
            "brokle:types/common@0.1.0": crate::bindings::provider::brokle::types::common,
            "brokle:host/log@0.1.0": crate::bindings::provider::brokle::host::log,
            "brokle:host/config@0.1.0": crate::bindings::provider::brokle::host::config,
        },
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_routing_policy",
        default_bindings_module: "brokle_plugin::bindings::routing",
    });
}

pub mod guardrail {
    wit_bindgen::generate!({
        path: ["../../wit/types", "../../wit/host", "../../wit/guardrail"],
        world: "brokle:guardrail/guardrail",
        with: {
            "brokle:types/common@0.1.0": crate::bindings::provider::brokle::types::common,
            "brokle:host/log@0.1.0": crate::bindings::provider::brokle::host::log,
            "brokle:host/config@0.1.0": crate::bindings::provider::brokle::host::config,
        },
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_guardrail",
        default_bindings_module: "brokle_plugin::bindings::guardrail",
    });
}

pub mod dialect {
    wit_bindgen::generate!({
        path: ["../../wit/types", "../../wit/host", "../../wit/dialect"],
        world: "brokle:dialect/dialect",
        with: {
            "brokle:types/common@0.1.0": crate::bindings::provider::brokle::types::common,
            "brokle:host/log@0.1.0": crate::bindings::provider::brokle::host::log,
            "brokle:host/config@0.1.0": crate::bindings::provider::brokle::host::config,
        },
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_dialect",
        default_bindings_module: "brokle_plugin::bindings::dialect",
    });
}

pub mod exporter {
    wit_bindgen::generate!({
        path: ["../../wit/types", "../../wit/host", "../../wit/exporter"],
        world: "brokle:exporter/exporter",
        with: {
            "brokle:types/common@0.1.0": crate::bindings::provider::brokle::types::common,
            "brokle:host/log@0.1.0": crate::bindings::provider::brokle::host::log,
            "brokle:host/config@0.1.0": crate::bindings::provider::brokle::host::config,
        },
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_exporter",
        default_bindings_module: "brokle_plugin::bindings::exporter",
    });
}

pub mod capabilities {
    wit_bindgen::generate!({
        path: ["../../wit/types", "../../wit/host"],
        world: "brokle:host/capabilities",
        generate_all,
    });
}

pub use provider::brokle::types::common;
