//! The export macro, and the two custom sections that it writes.

use crate::ConfigProblem;
use crate::prelude::*;

/// Makes a type the component's implementation of its world.
///
/// Writes two custom sections, which the host reads before it compiles anything:
/// `brokle:manifest`, the `plugin.json` beside the crate's `Cargo.toml` (or the text given as
/// `manifest = …`), and `brokle:abi`, the stamp of this crate's version and of the crate that it
/// was built into. A manifest whose version isn't the crate's is refused when it is loaded.
#[macro_export]
macro_rules! export {
    (provider: $type:ty) => {
        $crate::export!(provider: $type, manifest = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/plugin.json")));
    };
    (provider: $type:ty, manifest = $manifest:expr) => {
        $crate::__sections!($manifest);
        #[cfg(target_arch = "wasm32")]
        type __BrokleComponent = $crate::provider::Component<$type>;
        #[cfg(target_arch = "wasm32")]
        $crate::bindings::provider::export_provider!(__BrokleComponent with_types_in $crate::bindings::provider);
        // A native linker refuses the exports' names; unit tests need none of them.
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn() = $crate::provider::used::<$type>;
    };
    (routing_policy: $type:ty) => {
        $crate::export!(routing_policy: $type, manifest = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/plugin.json")));
    };
    (routing_policy: $type:ty, manifest = $manifest:expr) => {
        $crate::__sections!($manifest);
        #[cfg(target_arch = "wasm32")]
        type __BrokleComponent = $crate::routing::Component<$type>;
        #[cfg(target_arch = "wasm32")]
        $crate::bindings::routing::export_routing_policy!(__BrokleComponent with_types_in $crate::bindings::routing);
        // A native linker refuses the exports' names; unit tests need none of them.
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn() = $crate::routing::used::<$type>;
    };
    (dialect: $type:ty) => {
        $crate::export!(dialect: $type, manifest = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/plugin.json")));
    };
    (dialect: $type:ty, manifest = $manifest:expr) => {
        $crate::__sections!($manifest);
        #[cfg(target_arch = "wasm32")]
        type __BrokleComponent = $crate::dialect::Component<$type>;
        #[cfg(target_arch = "wasm32")]
        $crate::bindings::dialect::export_dialect!(__BrokleComponent with_types_in $crate::bindings::dialect);
        // A native linker refuses the exports' names; unit tests need none of them.
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn() = $crate::dialect::used::<$type>;
    };
    (exporter: $type:ty) => {
        $crate::export!(exporter: $type, manifest = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/plugin.json")));
    };
    (exporter: $type:ty, manifest = $manifest:expr) => {
        $crate::__sections!($manifest);
        #[cfg(target_arch = "wasm32")]
        type __BrokleComponent = $crate::exporter::Component<$type>;
        #[cfg(target_arch = "wasm32")]
        $crate::bindings::exporter::export_exporter!(__BrokleComponent with_types_in $crate::bindings::exporter);
        // A native linker refuses the exports' names; unit tests need none of them.
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn() = $crate::exporter::used::<$type>;
    };
    (guardrail: $type:ty) => {
        $crate::export!(guardrail: $type, manifest = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/plugin.json")));
    };
    (guardrail: $type:ty, manifest = $manifest:expr) => {
        $crate::__sections!($manifest);
        #[cfg(target_arch = "wasm32")]
        type __BrokleComponent = $crate::guardrail::Component<$type>;
        #[cfg(target_arch = "wasm32")]
        $crate::bindings::guardrail::export_guardrail!(__BrokleComponent with_types_in $crate::bindings::guardrail);
        // A native linker refuses the exports' names; unit tests need none of them.
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn() = $crate::guardrail::used::<$type>;
    };
}

/// Gives a `no_std` component its allocator and the end of a panic: a trap.
#[macro_export]
macro_rules! no_std {
    () => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            #[global_allocator]
            static ALLOCATOR: $crate::small::Allocator = $crate::small::Allocator;

            #[panic_handler]
            fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
                core::arch::wasm32::unreachable()
            }

            #[unsafe(export_name = "cabi_realloc")]
            unsafe extern "C" fn cabi_realloc(
                block: *mut u8,
                old_size: usize,
                align: usize,
                size: usize,
            ) -> *mut u8 {
                // SAFETY: passed on as it came.
                unsafe { $crate::small::cabi_realloc(block, old_size, align, size) }
            }
        };
    };
}

/// The two custom sections.
#[doc(hidden)]
#[macro_export]
macro_rules! __sections {
    ($manifest:expr) => {
        #[doc(hidden)]
        pub mod __brokle_sections {
            const MANIFEST_TEXT: &str = $manifest;
            const ABI_TEXT: &str = concat!(
                "{\"sdk\":\"brokle-plugin/",
                $crate::__sdk_version!(),
                "\",\"package\":\"",
                env!("CARGO_PKG_NAME"),
                "\",\"version\":\"",
                env!("CARGO_PKG_VERSION"),
                "\"}"
            );
            #[cfg_attr(target_arch = "wasm32", unsafe(link_section = "brokle:manifest"))]
            pub static MANIFEST: [u8; MANIFEST_TEXT.len()] = $crate::__bytes(MANIFEST_TEXT);
            #[cfg_attr(target_arch = "wasm32", unsafe(link_section = "brokle:abi"))]
            pub static ABI: [u8; ABI_TEXT.len()] = $crate::__bytes(ABI_TEXT);
        }
    };
}

/// This crate's version, as a literal.
#[doc(hidden)]
#[macro_export]
macro_rules! __sdk_version {
    () => {
        "0.1.0"
    };
}

/// A string's bytes as an array, at compile time.
#[doc(hidden)]
#[must_use]
#[expect(clippy::indexing_slicing, reason = "evaluated at compile time, where a bad index is a build error")]
pub const fn bytes<const N: usize>(text: &str) -> [u8; N] {
    let mut array = [0; N];
    let mut index = 0;
    while index < N {
        array[index] = text.as_bytes()[index];
        index += 1;
    }
    array
}

pub(crate) fn check_config(
    config: &[u8],
    check: fn(serde_json::Value) -> Result<(), Vec<ConfigProblem>>,
) -> Result<(), Vec<ConfigProblem>> {
    let config = serde_json::from_slice(config).map_err(|error| {
        vec![ConfigProblem {
            pointer: String::new(),
            message: format!("The configuration isn't JSON: {error}."),
        }]
    })?;
    check(config)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_stamp_is_this_crates_version() {
        assert_eq!(crate::__sdk_version!(), env!("CARGO_PKG_VERSION"));
    }
}
