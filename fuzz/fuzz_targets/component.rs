//! What a component says of itself: manifest, custom sections, stack.
#![no_main]
use brokle_runtime::{guest_stack, inspect};
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = (inspect(bytes), guest_stack(bytes));
});
