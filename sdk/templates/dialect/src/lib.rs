//! Acme's text API in front of any provider: what was said goes in, a text comes out.
//!
//! A request becomes a canonical one, and a canonical answer Acme's, whole or as a stream of events. An answer that is
//! Acme's already, from a provider that takes the dialect as it is, is only read on its way past.

use brokle_plugin::dialect::answer::{Answer, Chunk, Usage};
use brokle_plugin::dialect::request::{ChatRequest, Content, Message};
use brokle_plugin::dialect::{
    Body, Call, Dialect, Encoder, Fields, Frame, Head, Reader, Reading, Translated, estimated_tokens, event,
};
use brokle_plugin::{Description, Problem};
use serde::{Deserialize, Serialize};

struct Acme;

const COUNT: &str = "messages.count-tokens";

/// One turn of the conversation.
#[derive(Deserialize)]
struct Said {
    from: String,
    text: String,
}

/// A whole answer, or an event of a stream: text as it comes, then how it ended.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Spoken {
    #[serde(skip_serializing_if = "Option::is_none")]
    engine: Option<String>,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens: Option<Tokens>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Fault>,
}

#[derive(Serialize, Deserialize)]
struct Tokens {
    r#in: u64,
    out: u64,
}

#[derive(Serialize, Deserialize)]
struct Fault {
    code: String,
    message: String,
}

impl Dialect for Acme {
    type Encoder = Writing;
    type Reader = Listening;

    fn describe() -> Description {
        Description::dialect("acme", ["messages", COUNT])
    }

    fn self_test() -> Result<(), Problem> {
        translate(br#"{"engine":"m","prompt":[{"from":"user","text":"hi"}]}"#).map(drop)
    }

    // For every request, also for those that are never translated: by pointer, so that the body isn't read whole.
    fn read_head(call: &Call, body: &Body) -> Result<Head, Problem> {
        let model = body.field("/engine").ok_or_else(|| Problem::invalid("engine", "'engine' is missing."))?;
        Ok(Head {
            operation: if call.endpoint == COUNT { "count-tokens" } else { "chat.completions" }.to_owned(),
            model,
            streaming: body.field("/stream").unwrap_or(false),
            content_type: "text/event-stream".to_owned(),
            max_output_tokens: body.field("/limit"),
            user: None,
            features: Vec::new(),
            previous: None,
        })
    }

    fn to_canonical(_: &Call, body: &Body) -> Result<Translated, Problem> {
        Ok(Translated { body: translate(&body.bytes())?, state: Vec::new() })
    }

    fn estimate(_: &Call, body: &Body) -> Result<Vec<u8>, Problem> {
        let prompt = body.get("/prompt").unwrap_or_default();
        Ok(json(&serde_json::json!({ "tokens": estimated_tokens(prompt.len()) })))
    }

    fn write_answer(_: &Call, _: &[u8], answer: &[u8]) -> Result<Vec<u8>, Problem> {
        let (choice, model, usage) = Answer::parse(answer)?;
        let said = choice.message;
        Ok(json(&Spoken {
            engine: Some(model),
            text: said.content.or(said.refusal).unwrap_or_default(),
            ended: Some(ended(choice.finish_reason.as_deref()).to_owned()),
            tokens: Some(Tokens::of(&usage)),
            error: None,
        }))
    }

    fn write_error(_: &Call, _: u16, problem: &Problem) -> Vec<u8> {
        json(&serde_json::json!({ "error": Fault::of(problem) }))
    }

    fn read_answer(_: &Call, answer: &[u8]) -> Reading {
        let mut reading = Reading::default();
        Spoken::tell(answer, &mut reading);
        reading
    }
}

/// The request in the canonical form.
fn translate(body: &[u8]) -> Result<Vec<u8>, Problem> {
    let fields = Fields::parse(body)?;
    // What would change the answer and can't be said is refused by its name; a provider that takes this dialect as it is
    // may still serve it.
    if fields.raw("voice").is_some() {
        return Err(Problem::unsupported("voice", "Answers are texts here, and aren't spoken."));
    }
    let prompt: Vec<Said> = fields.get("prompt")?.unwrap_or_default();
    let engine: String = fields.get("engine")?.unwrap_or_default();
    let mut request = ChatRequest { model: &engine, ..ChatRequest::default() };
    for (index, Said { from, text }) in prompt.into_iter().enumerate() {
        let role = match from.as_str() {
            "rules" => "system",
            "user" => "user",
            "engine" => "assistant",
            _ => return Err(Problem::invalid(format!("prompt[{index}].from"), "It is 'rules', 'user' or 'engine'.")),
        };
        request.messages.push(Message { role, content: Content::Text(text.into()), ..Message::default() });
    }
    request.max_completion_tokens = fields.get("limit")?;
    request.streamed(fields.get("stream")?.unwrap_or(false));
    Ok(request.to_json())
}

/// How an answer ended, in Acme's words.
fn ended(finish_reason: Option<&str>) -> &'static str {
    match finish_reason {
        Some("length") => "limit",
        Some("content_filter") => "forbidden",
        _ => "done",
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    // A type of ours always serializes: maps have string keys.
    serde_json::to_vec(value).unwrap_or_default()
}

impl Tokens {
    fn of(usage: &Usage) -> Self {
        Self { r#in: usage.prompt_tokens, out: usage.completion_tokens }
    }
}

impl Fault {
    fn of(problem: &Problem) -> Self {
        Self { code: problem.code.clone().unwrap_or_default(), message: problem.message.clone() }
    }
}

/// A canonical stream on its way to a caller.
struct Writing {
    ended: Option<&'static str>,
    tokens: Option<Tokens>,
}

impl Encoder for Writing {
    fn new(_: Call, _: Vec<u8>) -> Self {
        Self { ended: None, tokens: None }
    }

    // One chunk or a hundred: the same stream comes of them.
    fn push(&mut self, chunks: Vec<Vec<u8>>) -> Result<Vec<u8>, Problem> {
        let mut out = Vec::new();
        for chunk in &chunks {
            let chunk = Chunk::parse(chunk)?;
            self.tokens = chunk.usage.as_ref().map(Tokens::of).or(self.tokens.take());
            for choice in chunk.choices {
                let text = choice.delta.content.or(choice.delta.refusal).unwrap_or_default();
                if !text.is_empty() {
                    event(&mut out, "", &Spoken { text, ..Spoken::default() });
                }
                self.ended = choice.finish_reason.as_deref().map(|reason| ended(Some(reason))).or(self.ended);
            }
        }
        Ok(out)
    }

    fn finish(&mut self) -> Result<Vec<u8>, Problem> {
        let ended = self.ended.ok_or_else(|| Problem::bad_answer("it doesn't say how it ended"))?;
        let mut out = Vec::new();
        let last = Spoken { ended: Some(ended.to_owned()), tokens: self.tokens.take(), ..Spoken::default() };
        event(&mut out, "", &last);
        Ok(out)
    }

    fn failed(&mut self, _: u16, problem: &Problem) -> Vec<u8> {
        failure(problem)
    }
}

/// An error's event, in a stream of either kind.
fn failure(problem: &Problem) -> Vec<u8> {
    let mut out = Vec::new();
    event(&mut out, "", &serde_json::json!({ "error": Fault::of(problem) }));
    out
}

/// A stream of Acme's own, as it goes past.
struct Listening;

impl Reader for Listening {
    fn new(_: Call) -> Self {
        Self
    }

    fn push(&mut self, frames: Vec<Frame>) -> Reading {
        let mut reading = Reading::default();
        for frame in &frames {
            Spoken::tell(&frame.data, &mut reading);
        }
        reading
    }

    fn failed(&mut self, _: u16, problem: &Problem) -> Vec<u8> {
        failure(problem)
    }
}

impl Spoken {
    /// What an answer of Acme's own, or an event of one, tells the account.
    fn tell(data: &[u8], reading: &mut Reading) {
        let spoken: Self = serde_json::from_slice(data).unwrap_or_default();
        reading.model = spoken.engine.or(reading.model.take());
        if let Some(tokens) = spoken.tokens {
            reading.usage.clear();
            reading.count("input", Some(tokens.r#in));
            reading.count("output", Some(tokens.out));
        }
        reading.complete |= spoken.ended.is_some();
        let ended = spoken.ended.map(|ended| match ended.as_str() {
            "limit" => "length".to_owned(),
            "forbidden" => "content_filter".to_owned(),
            _ => "stop".to_owned(),
        });
        reading.finish_reason = ended.or(reading.finish_reason.take());
        reading.failure = spoken.error.map(|error| error.message).or(reading.failure.take());
    }
}

brokle_plugin::export!(dialect: Acme);
