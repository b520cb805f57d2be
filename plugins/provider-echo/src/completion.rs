//! `completions`: the prompt again, as text.

use brokle_plugin::Problem;
use brokle_plugin::openai::Usage;
use brokle_plugin::provider::{Call, Output};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::chat::{Ended, cut, stop_sequences};
use crate::{error, tokens, write};

#[derive(Deserialize)]
pub(crate) struct Request {
    prompt: Prompt,
    #[serde(default)]
    n: Option<u64>,
    #[serde(default)]
    max_tokens: Option<u64>,
    #[serde(default)]
    stop: Option<Value>,
    #[serde(default)]
    echo: Option<bool>,
    #[serde(default)]
    suffix: Option<String>,
    #[serde(default)]
    stream_options: Option<Value>,
}

/// An answer or a chunk of one: they have the same form.
#[derive(Serialize)]
struct Document<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Prompt {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<u64>),
    TokenLists(Vec<Vec<u64>>),
}

impl Prompt {
    fn texts(&self) -> Vec<String> {
        let numbers = |tokens: &[u64]| tokens.iter().map(u64::to_string).collect::<Vec<_>>().join(" ");
        match self {
            Self::Text(text) => vec![text.clone()],
            Self::Texts(texts) => texts.clone(),
            Self::Tokens(tokens) => vec![numbers(tokens)],
            Self::TokenLists(lists) => lists.iter().map(|list| numbers(list)).collect(),
        }
    }
}

/// One choice for each prompt and each of `n`, in that order.
pub(crate) fn answer(call: &Call, request: &Request) -> Result<Vec<Output>, Problem> {
    let prompts = request.prompt.texts();
    if let Some(problem) = prompts.iter().find_map(|prompt| error::asked_for(prompt)) {
        return Err(problem);
    }
    let stop = stop_sequences(request.stop.as_ref())?;
    let copies = crate::chat::copies(request.n)?;
    let (mut choices, mut output) = (Vec::new(), 0);
    for prompt in &prompts {
        let mut ended = cut(prompt.clone(), &stop, request.max_tokens);
        output += tokens::count(&ended.text) * copies;
        if request.echo == Some(true) {
            ended.text = format!("{prompt}{}", ended.text);
        }
        ended.text.push_str(request.suffix.as_deref().unwrap_or_default());
        choices.extend((0..copies).map(|_| ended.clone()));
    }
    let usage = write::usage(prompts.iter().map(|prompt| tokens::count(prompt)).sum(), output);
    let id = write::id("cmpl", call);
    let document = |choices: Vec<Value>, usage: Option<&Usage>| Document {
        id: &id,
        object: "text_completion",
        created: call.created,
        model: &call.model,
        choices,
        usage: usage.cloned(),
    };
    let choice = |index: usize, text: &str, finish_reason: Option<&str>| json!({"index": index, "text": text, "logprobs": null, "finish_reason": finish_reason});
    let mut outputs = vec![write::entries(&usage)];
    if !call.streaming {
        let all = choices
            .iter()
            .enumerate()
            .map(|(index, Ended { text, reason })| choice(index, text, Some(*reason)));
        outputs.push(Output::json(&document(all.collect(), Some(&usage))));
        return Ok(outputs);
    }
    for (index, Ended { text, reason }) in choices.iter().enumerate() {
        outputs.extend(
            tokens::words(text)
                .iter()
                .map(|word| Output::json(&document(vec![choice(index, word, None)], None))),
        );
        outputs.push(Output::json(&document(vec![choice(index, "", Some(*reason))], None)));
    }
    if crate::chat::wants_usage(request.stream_options.as_ref()) {
        outputs.push(Output::json(&document(Vec::new(), Some(&usage))));
    }
    Ok(outputs)
}
