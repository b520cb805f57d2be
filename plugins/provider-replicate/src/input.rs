//! From a canonical chat request to a model's `input`.
//!
//! The models have no turns: a conversation of one user message is its text; a longer one is written out, `User:` and
//! `Assistant:` before each turn, and ends with `Assistant:`. Each maker's models name their members their own way; the
//! caller's `replicate_input` is laid over what is made here.

use alloc::borrow::{Cow, ToOwned};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use brokle_plugin::Problem;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use shared_canonical::{Fields, parse};

use crate::options::Options;

/// How a maker's models call things.
struct Names {
    system: &'static str,
    max_tokens: &'static str,
    /// A list of images, one image, or none.
    images: Images,
    has_stop: bool,
    has_effort: bool,
    /// Whether `top_k`, `seed` and the penalties are known.
    has_sampling: bool,
}

enum Images {
    Several(&'static str),
    One(&'static str),
    None,
}

fn names(model: &str) -> Names {
    match model.trim_start_matches("deployments/").split('/').next().unwrap_or_default() {
        "openai" => Names {
            system: "system_prompt",
            max_tokens: "max_completion_tokens",
            images: Images::Several("image_input"),
            has_stop: false,
            has_effort: true,
            has_sampling: true,
        },
        "anthropic" => Names {
            system: "system_prompt",
            max_tokens: "max_tokens",
            images: Images::One("image"),
            has_stop: false,
            has_effort: false,
            has_sampling: false,
        },
        "google" => Names {
            system: "system_instruction",
            max_tokens: "max_output_tokens",
            images: Images::Several("images"),
            has_stop: false,
            has_effort: false,
            has_sampling: false,
        },
        _ => Names {
            system: "system_prompt",
            max_tokens: "max_tokens",
            images: Images::None,
            has_stop: true,
            has_effort: false,
            has_sampling: true,
        },
    }
}

#[derive(Deserialize)]
struct Message<'a> {
    role: String,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    tool_calls: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Part<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(borrow, default)]
    text: Cow<'a, str>,
    #[serde(borrow, default)]
    image_url: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Url {
    url: String,
}

/// The conversation, as the models take it.
#[derive(Default)]
struct Conversation {
    system: Vec<String>,
    turns: Vec<(&'static str, String)>,
    images: Vec<String>,
}

/// The input for this model.
pub(crate) fn translate(body: &[u8], model: &str, options: &Options) -> Result<Map<String, Value>, Problem> {
    let fields = Fields::parse(body)?;
    refuse_unsupported(&fields, options)?;
    let names = names(model);
    let conversation = Conversation::read(&fields)?;
    let mut input = Map::new();
    input.insert("prompt".to_owned(), conversation.prompt().into());
    if !conversation.system.is_empty() {
        input.insert(names.system.to_owned(), conversation.system.join("\n\n").into());
    }
    match (&names.images, conversation.images.as_slice()) {
        (_, []) => {}
        (Images::Several(name), all) => drop(input.insert((*name).to_owned(), all.into())),
        (Images::One(name), [one]) => drop(input.insert((*name).to_owned(), one.as_str().into())),
        (Images::One(_), _) => options.lacks("messages", "This model takes one image.")?,
        (Images::None, _) => options.lacks("messages", "This model takes no images.")?,
    }
    if let Some(limit) = fields.max_tokens()? {
        input.insert(names.max_tokens.to_owned(), limit.into());
    }
    let stop = fields.stop()?;
    match (stop.is_empty(), names.has_stop && !stop.iter().any(|one| one.contains(','))) {
        (true, _) => {}
        // The vendor wants one text, with commas between.
        (false, true) => drop(input.insert("stop_sequences".to_owned(), stop.join(",").into())),
        (false, false) => options.lacks("stop", "This model has no such stop sequences.")?,
    }
    let number = |name: &str| fields.get::<serde_json::Number>(name);
    let sampling = ["top_k", "seed", "presence_penalty", "frequency_penalty"];
    let sampling = sampling.into_iter().filter(|_| names.has_sampling);
    for name in ["temperature", "top_p"].into_iter().chain(sampling) {
        input.extend(number(name)?.map(|value| (name.to_owned(), value.into())));
    }
    if names.has_effort {
        let effort = fields.get::<String>("reasoning_effort")?;
        input.extend(effort.map(|effort| ("reasoning_effort".to_owned(), effort.into())));
    }
    if let Some(own) = fields.get::<Map<String, Value>>("replicate_input")? {
        input.extend(own);
    }
    Ok(input)
}

/// Refuses what the vendor lacks and what would change the answer, by name.
fn refuse_unsupported(fields: &Fields<'_>, options: &Options) -> Result<(), Problem> {
    if fields.get::<u64>("n")?.is_some_and(|n| n != 1) {
        options.lacks("n", "Replicate gives one answer a prediction: 'n' must be 1.")?;
    }
    if fields.get::<bool>("logprobs")? == Some(true) {
        options.lacks("logprobs", "Replicate gives no token probabilities.")?;
    }
    for name in ["tools", "functions"] {
        if fields.get::<Vec<&RawValue>>(name)?.is_some_and(|all| !all.is_empty()) {
            options.lacks(name, "Replicate's models call no tools.")?;
        }
    }
    if fields.get::<BTreeMap<String, f64>>("logit_bias")?.is_some_and(|bias| !bias.is_empty()) {
        options.lacks("logit_bias", "Replicate has no 'logit_bias'.")?;
    }
    let format = fields.get::<Map<String, Value>>("response_format")?;
    if format.is_some_and(|format| format.get("type").is_some_and(|kind| kind != "text")) {
        options.lacks("response_format", "Replicate's models can't be held to a form.")?;
    }
    for name in ["web_search_options", "audio"] {
        if fields.raw(name).is_some() {
            options.lacks(name, &format!("Replicate has no '{name}'."))?;
        }
    }
    Ok(())
}

impl Conversation {
    fn read(fields: &Fields<'_>) -> Result<Self, Problem> {
        let Some(messages) = fields.get::<Vec<&RawValue>>("messages")? else {
            return Err(Problem::invalid("messages", "'messages' is required."));
        };
        let mut conversation = Self::default();
        for (index, raw) in messages.into_iter().enumerate() {
            let param = format!("messages[{index}]");
            conversation.add(&parse(raw, &param)?, &param)?;
        }
        match conversation.turns.is_empty() {
            true => Err(Problem::invalid("messages", "A message of a user is required.")),
            false => Ok(conversation),
        }
    }

    fn add(&mut self, message: &Message<'_>, param: &str) -> Result<(), Problem> {
        let speaker = match message.role.as_str() {
            "system" | "developer" => {
                let text = self.content(message, false, param)?;
                self.system.push(text);
                return Ok(());
            }
            "user" => "User",
            "assistant" => "Assistant",
            other => {
                let message = format!("Replicate has no role '{other}'.");
                return Err(Problem::unsupported(format!("{param}.role"), message));
            }
        };
        if message.tool_calls.is_some_and(|calls| !matches!(calls.get(), "null" | "[]")) {
            let text = "Replicate's models call no tools.";
            return Err(Problem::unsupported(format!("{param}.tool_calls"), text));
        }
        let text = self.content(message, speaker == "User", param)?;
        self.turns.push((speaker, text));
        Ok(())
    }

    /// The text; images are put aside.
    fn content(&mut self, message: &Message<'_>, images: bool, param: &str) -> Result<String, Problem> {
        let param = format!("{param}.content");
        let content = match message.content {
            None => return Ok(String::new()),
            Some(content) if content.get() == "null" => return Ok(String::new()),
            Some(content) if content.get().starts_with('"') => return parse(content, &param),
            Some(content) => content,
        };
        let mut texts = Vec::new();
        for (index, raw) in parse::<Vec<&RawValue>>(content, &param)?.into_iter().enumerate() {
            let param = format!("{param}[{index}]");
            let part: Part<'_> = parse(raw, &param)?;
            match (part.kind.as_str(), part.image_url) {
                ("text", _) => texts.push(part.text.into_owned()),
                ("image_url", Some(image)) if images => {
                    let param = format!("{param}.image_url");
                    let url = match image.get().starts_with('"') {
                        true => parse(image, &param)?,
                        false => parse::<Url>(image, &param)?.url,
                    };
                    if !url.starts_with("https://") && !url.starts_with("data:") {
                        return Err(Problem::invalid(param, "An https: URL or a data: URL is expected."));
                    }
                    self.images.push(url);
                }
                (other, _) => {
                    let message = format!("Replicate takes no part of type '{other}' here.");
                    return Err(Problem::unsupported(format!("{param}.type"), message));
                }
            }
        }
        Ok(texts.join("\n"))
    }

    fn prompt(&self) -> String {
        if let [("User", only)] = self.turns.as_slice() {
            return only.clone();
        }
        let mut prompt = String::new();
        for (speaker, text) in &self.turns {
            prompt.push_str(&format!("{speaker}: {text}\n\n"));
        }
        prompt.push_str("Assistant:");
        prompt
    }
}
