//! An answer's bytes, cut into frames: the same frames wherever the bytes are split, and never more than their limit.
#![no_main]
use brokle_runtime::{FrameError, Framer, MAX_EVENT, MAX_WHOLE};

fn play(framing: &str, pieces: &[&[u8]]) -> (Vec<(String, Vec<u8>)>, Option<FrameError>) {
    let mut framer = Framer::new(framing).expect("a framing that the host knows");
    let mut frames = Vec::new();
    for piece in pieces {
        match framer.push(piece) {
            Ok(more) => frames.extend(more.into_iter().map(|frame| (frame.event, frame.data))),
            Err(error) => return (frames, Some(error)),
        }
    }
    match framer.finish() {
        Ok(last) => frames.extend(last.into_iter().map(|frame| (frame.event, frame.data))),
        Err(error) => return (frames, Some(error)),
    }
    (frames, None)
}

libfuzzer_sys::fuzz_target!(|input: (u8, Vec<u8>, Vec<u16>)| {
    let (which, bytes, cuts) = input;
    const FRAMINGS: [&str; 6] =
        ["whole", "sse", "ndjson", "json-array", "json-array:/a/b", "aws-event-stream"];
    let framing = FRAMINGS[usize::from(which) % FRAMINGS.len()];
    let whole = play(framing, &[&bytes]);
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| usize::from(*cut) % (bytes.len() + 1)).collect();
    cuts.sort_unstable();
    let mut pieces = Vec::new();
    let mut at = 0;
    for cut in cuts.into_iter().chain([bytes.len()]) {
        pieces.push(&bytes[at..cut]);
        at = cut;
    }
    let split = play(framing, &pieces);
    // A broken answer may be noticed after more or fewer frames; that it is broken may not depend on the cuts.
    assert_eq!(whole.1, split.1, "{framing}");
    if whole.1.is_none() {
        assert_eq!(whole.0, split.0, "{framing}");
    }
    assert!(whole.0.iter().all(|(_, data)| data.len() <= MAX_EVENT.max(MAX_WHOLE)));
});
