//! What the fixtures don't show: streams that go wrong.

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use brokle_plugin::ProblemKind;
use brokle_plugin::provider::{Call, Frame, Output};
use serde_json::{Value, json};

use super::AnswerDecoder;

fn decoder() -> AnswerDecoder {
    AnswerDecoder::new(&Call {
        operation: "chat.completions".into(),
        model: "m".into(),
        streaming: true,
        format: "canonical".into(),
        content_type: "application/json".into(),
        request_id: "r".into(),
        created: 1,
        options: b"{}".to_vec(),
        attributes: Vec::new(),
    })
}

fn push(decoder: &mut AnswerDecoder, events: &[(&str, Value)]) -> Vec<Output> {
    let mut outputs = Vec::new();
    for (event, data) in events {
        let frame = Frame { event: (*event).into(), data: data.to_string().into_bytes() };
        decoder.frame(&frame, &mut outputs).unwrap();
    }
    outputs
}

#[test]
fn an_exception_is_the_end() {
    for (name, kind) in [
        ("throttlingException", ProblemKind::RateLimit),
        ("modelStreamErrorException", ProblemKind::Upstream),
        ("serviceUnavailableException", ProblemKind::Overloaded),
        ("somethingNewException", ProblemKind::Upstream),
    ] {
        let mut decoder = decoder();
        let outputs = push(
            &mut decoder,
            &[
                ("messageStart", json!({"role": "assistant"})),
                (name, json!({"message": "why"})),
                ("contentBlockDelta", json!({"contentBlockIndex": 0, "delta": {"text": "late"}})),
            ],
        );
        let Some(Output::Failure(problem)) = outputs.last() else { panic!("{name}: no failure") };
        assert_eq!(format!("{:?}", problem.kind), format!("{kind:?}"), "{name}");
        assert_eq!((outputs.len(), problem.message.as_str()), (2, "why"), "{name}");
        decoder.finish(&mut Vec::new()).unwrap();
    }
}

#[test]
fn a_stream_without_counts_ends_and_one_without_a_reason_does_not() {
    let start = ("messageStart", json!({"role": "assistant"}));
    let mut one = decoder();
    push(&mut one, &[start.clone(), ("messageStop", json!({"stopReason": "end_turn"}))]);
    let mut outputs = Vec::new();
    one.finish(&mut outputs).unwrap();
    let [Output::Chunk(last)] = outputs.as_slice() else { panic!("a reason, and no counts: {outputs:?}") };
    let last: Value = serde_json::from_slice(last).unwrap();
    assert_eq!((&last["choices"][0]["finish_reason"], last.get("usage")), (&json!("stop"), None));

    let mut cut = decoder();
    push(&mut cut, &[start, ("metadata", json!({"usage": {"inputTokens": 1, "outputTokens": 1}}))]);
    assert!(cut.finish(&mut Vec::new()).is_err());
}
