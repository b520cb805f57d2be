//! The DSSE envelope: no bytes make it panic, and what is parsed is written again.
#![no_main]
use brokle_runtime::trust::dsse::Envelope;
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| if let Ok(envelope) = Envelope::parse(bytes) {
    assert_eq!(Envelope::parse(&envelope.to_json()), Ok(envelope));
});
