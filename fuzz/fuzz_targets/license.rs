//! The license: no text makes it panic.
#![no_main]
use brokle_runtime::license::token::Token;
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = Token::parse(bytes);
});
