//! What the fixtures don't show: streams that go wrong, and shapes that compatible servers send.

use brokle_plugin::ProblemKind;
use brokle_plugin::provider::{Call, Decoder, Frame, Output, ResponseHead};
use serde_json::{Value, json};

use super::AnswerDecoder;

fn decoder(streaming: bool) -> AnswerDecoder {
    let call = Call {
        operation: "chat.completions".into(),
        model: "m".into(),
        streaming,
        format: "canonical".into(),
        content_type: "application/json".into(),
        request_id: "r".into(),
        created: 1,
        options: b"{}".to_vec(),
        attributes: Vec::new(),
    };
    AnswerDecoder::new(call, ResponseHead { status: 200, headers: Vec::new() }, Vec::new())
}

fn frames(events: &[Value]) -> Vec<Frame> {
    events.iter().map(|event| Frame { event: String::new(), data: event.to_string().into_bytes() }).collect()
}

fn start() -> Value {
    json!({"type": "message_start", "message": {"id": "msg_1", "model": "m", "content": [], "usage": {"input_tokens": 3, "output_tokens": 1}}})
}

fn chunks(outputs: &[Output]) -> Vec<Value> {
    let json = |output: &Output| match output {
        Output::Chunk(json) => Some(serde_json::from_slice(json).unwrap()),
        _ => None,
    };
    outputs.iter().filter_map(json).collect()
}

#[test]
fn a_stream_cut_short_is_a_problem() {
    let mut cut = decoder(true);
    cut.push(frames(&[start(), json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}})]))
        .unwrap();
    assert!(matches!(cut.finish().unwrap_err().kind, ProblemKind::Upstream));
    assert!(decoder(true).finish().is_err(), "an empty stream too");
    assert!(decoder(false).finish().is_err(), "and an empty body");
}

#[test]
fn an_error_event_is_the_end() {
    let mut stream = decoder(true);
    let error = json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}});
    let late =
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "late"}});
    let outputs = stream.push(frames(&[start(), error, late])).unwrap();
    match outputs.last() {
        Some(Output::Failure(problem)) => assert!(matches!(problem.kind, ProblemKind::Overloaded)),
        other => panic!("{other:?}"),
    }
    stream.finish().unwrap();
}

#[test]
fn a_call_without_deltas_has_the_arguments_of_its_start() {
    let arguments = |input: Value, deltas: &[&str]| {
        let mut stream = decoder(true);
        let mut events = vec![
            start(),
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "id": "t", "name": "f", "input": input}}),
        ];
        events.extend(deltas.iter().map(|delta| {
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": delta}})
        }));
        events.push(json!({"type": "content_block_stop", "index": 0}));
        let outputs = stream.push(frames(&events)).unwrap();
        let pieces = chunks(&outputs);
        let text = pieces.iter().filter_map(|chunk| {
            chunk["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"].as_str()
        });
        text.collect::<String>()
    };
    assert_eq!(arguments(json!({}), &[]), "{}");
    assert_eq!(arguments(json!({}), &[""]), "{}");
    assert_eq!(arguments(json!({"a": 1}), &[]), r#"{"a":1}"#);
    assert_eq!(arguments(json!({}), &["", "{\"a\"", ":1}"]), r#"{"a":1}"#);
}

#[test]
fn unknown_events_pass_and_broken_ones_do_not() {
    let mut stream = decoder(true);
    assert_eq!(
        stream.push(frames(&[json!({"type": "ping"}), json!({"type": "new_thing", "x": 1})])).unwrap().len(),
        0
    );
    let broken = Frame { event: "message_start".into(), data: b"{".to_vec() };
    assert!(stream.push(vec![broken]).is_err());
}

#[test]
fn stop_reasons() {
    for (stop_reason, finish_reason) in [
        ("end_turn", "stop"),
        ("max_tokens", "length"),
        ("stop_sequence", "stop"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("pause_turn", "stop"),
        ("model_context_window_exceeded", "length"),
    ] {
        let answer =
            json!({"id": "msg_1", "model": "m", "content": [], "stop_reason": stop_reason, "usage": {}});
        let outputs = decoder(false).push(frames(&[answer])).unwrap();
        let choice = &chunks(&outputs)[0]["choices"][0];
        assert_eq!(
            (&choice["finish_reason"], &choice["native_finish_reason"]),
            (&json!(finish_reason), &json!(stop_reason))
        );
    }
}
