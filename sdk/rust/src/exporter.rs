//! Exporters: observations that go elsewhere.

use std::boxed::Box;
use std::time::Duration;

use serde::Deserialize;

use crate::bindings::exporter::Guest as Lifecycle;
use crate::bindings::exporter::exports::brokle::exporter::sink;
use crate::host::http;
use crate::prelude::*;
use crate::{ConfigProblem, Description, Problem};

pub use crate::bindings::exporter::brokle::exporter::batches::{Batch, Delay, Failure, Receipt};

/// How often a batch is tried that a receiver answers with an error of its own which doesn't say whether trying again helps.
pub const MAX_ATTEMPTS: u32 = 10;

/// An exporter.
///
/// Each batch gets an instance of its own: nothing can be kept from one to the next.
///
/// ```
/// use brokle_plugin::exporter::*;
/// use brokle_plugin::host::http;
///
/// /// A line for each observation.
/// struct Lines;
///
/// impl Exporter for Lines {
///     fn export(batch: &Batch) -> Result<Receipt, Failure> {
///         let body = batch.observations.join(&b'\n');
///         let request = http::Request::post("receiver", "/lines").header("idempotency-key", &batch.id);
///         let response = request.body(&body).send().map_err(Failure::unsent)?;
///         Receipt::of_status(&response, batch)
///     }
/// }
/// # brokle_plugin::export!(exporter: Lines, manifest = "{}");
/// # fn main() {}
/// ```
pub trait Exporter: 'static {
    /// What it says of itself; the default says nothing.
    fn describe() -> Description {
        Description::exporter()
    }

    /// Checks what the manifest's schema can't say.
    ///
    /// # Errors
    /// What is wrong, each with the key at fault.
    fn check_config(_config: serde_json::Value) -> Result<(), Vec<ConfigProblem>> {
        Ok(())
    }

    /// Proves on a sample that the component works.
    ///
    /// # Errors
    /// Why it doesn't.
    fn self_test() -> Result<(), Problem> {
        Ok(())
    }

    /// Sends a batch, and returns when the receiver has acknowledged it.
    ///
    /// # Errors
    /// It hasn't; [`Failure`] says what becomes of the batch.
    fn export(batch: &Batch) -> Result<Receipt, Failure>;
}

/// An observation as the API answers it in a trace; members that the exporters here don't read are left out.
/// Take [`serde_json::Value`] for all of them.
#[derive(Clone, Debug, Deserialize)]
pub struct Observation {
    /// 32 hexadecimal digits.
    pub trace_id: String,
    /// 16 hexadecimal digits.
    pub span_id: String,
    /// What it happened in.
    pub parent_span_id: Option<String>,
    /// What to call it.
    pub name: String,
    /// `generation`, `span`, `tool`, ….
    #[serde(rename = "type")]
    pub kind: String,
    /// `gen_ai.operation.name`.
    pub operation: Option<String>,
    /// When it began: RFC 3339 with microseconds, UTC.
    pub start_time: String,
    /// How long it took, in milliseconds.
    pub duration_ms: f64,
    /// From the beginning to the first token, in milliseconds.
    pub time_to_first_token_ms: Option<f64>,
    /// The model that was asked for.
    pub model: Option<String>,
    /// The model that answered.
    pub model_served: Option<String>,
    /// Who served it.
    pub provider: Option<String>,
    /// Tokens by type, and their `total`.
    pub usage: Option<serde_json::Map<String, serde_json::Value>>,
    /// Dollars, as a decimal string.
    pub cost: Option<String>,
    /// Whether the answer was streamed.
    pub streaming: bool,
    /// `ok`, `error`, `aborted`, `timeout`.
    pub status: String,
    /// The HTTP status.
    pub status_code: Option<u16>,
    /// Why the model stopped.
    pub finish_reason: Option<String>,
    /// What went wrong.
    pub error: Option<Fault>,
    /// The client's end user.
    pub user: Option<String>,
    /// The client's session.
    pub session: Option<String>,
    /// The client's labels.
    pub tags: Vec<String>,
    /// The environment it belongs to.
    pub environment_id: String,
    /// The request.
    pub request_id: Option<String>,
    /// Whatever else was said.
    pub attributes: serde_json::Map<String, serde_json::Value>,
    /// The request's body, as it was captured.
    pub input: Option<Box<serde_json::value::RawValue>>,
    /// The answer's body, as it was captured.
    pub output: Option<Box<serde_json::value::RawValue>>,
    /// What happened inside, in the order it began.
    pub children: Vec<Observation>,
}

/// What went wrong in an observation.
#[derive(Clone, Debug, Deserialize)]
pub struct Fault {
    /// The stable class, such as `upstream_timeout`.
    pub class: Option<String>,
    /// What a person may read.
    pub message: Option<String>,
}

impl Batch {
    /// The observations, read.
    ///
    /// # Errors
    /// One isn't what this SDK knows.
    pub fn read(&self) -> Result<Vec<Observation>, Failure> {
        let read = |json: &Vec<u8>| serde_json::from_slice(json);
        let all: Result<_, serde_json::Error> = self.observations.iter().map(read).collect();
        all.map_err(|error| Failure::Refused(format!("an observation can't be read: {error}")))
    }
}

impl Receipt {
    /// The receiver took all of them.
    #[must_use]
    pub fn complete() -> Self {
        Self { rejected: 0, message: String::new() }
    }

    /// What an answer's status says of a batch:
    ///
    /// | status | |
    /// |---|---|
    /// | 2xx | the receiver has it |
    /// | 408, 425, 429, 502, 503, 504 | again, when `Retry-After` says so |
    /// | 401, 403, 404 | again: an operator can mend it |
    /// | other 5xx | again, [`MAX_ATTEMPTS`] times; then refused |
    /// | everything else | refused |
    ///
    /// # Errors
    /// Everything but 2xx.
    pub fn of_status(response: &http::Response, batch: &Batch) -> Result<Self, Failure> {
        let (status, reason) = (response.status, format!("the receiver answered {}", response.status));
        let again = match status {
            200..=299 => return Ok(Self::complete()),
            401 | 403 | 404 | 408 | 425 | 429 | 502 | 503 | 504 => true,
            500..=599 => batch.attempt < MAX_ATTEMPTS,
            _ => false,
        };
        if !again {
            return Err(Failure::Refused(reason));
        }
        let header = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("retry-after"));
        let seconds = header.and_then(|header| header.value.trim().parse().ok());
        Err(Failure::retry(&reason, seconds.map(Duration::from_secs)))
    }
}

impl Failure {
    /// The same batch again, not before so long.
    #[must_use]
    pub fn retry(reason: &str, after: Option<Duration>) -> Self {
        let after_ms = after.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
        Self::Retry(Delay { reason: reason.to_owned(), after_ms })
    }

    /// A request that got no answer: again, unless it is too large or can't be sent as it is.
    #[must_use]
    pub fn unsent(error: http::Error) -> Self {
        match error {
            http::Error::RequestTooLarge(most) => Self::Refused(format!("it has more than {most} bytes")),
            http::Error::Invalid(detail) => Self::Misconfigured(detail),
            http::Error::Denied(what) => Self::Misconfigured(format!("not granted: {what}")),
            other => Self::retry(&format!("no answer: {other:?}"), None),
        }
    }

    /// The configuration doesn't fit the plugin's type for it.
    #[must_use]
    pub fn config(error: &serde_json::Error) -> Self {
        Self::Misconfigured(error.to_string())
    }
}

/// Glue between [`Exporter`] and the generated exports; named by [`export!`](crate::export).
#[doc(hidden)]
pub struct Component<E>(std::marker::PhantomData<E>);

/// Holds a native build to the trait; named by [`export!`](crate::export).
#[doc(hidden)]
pub fn used<E: Exporter>() {}

impl<E: Exporter> sink::Guest for Component<E> {
    fn export(batch: Batch) -> Result<Receipt, Failure> {
        E::export(&batch)
    }
}

impl<E: Exporter> Lifecycle for Component<E> {
    fn describe() -> Vec<u8> {
        E::describe().into_json()
    }
    fn check_config(config: Vec<u8>) -> Result<(), Vec<ConfigProblem>> {
        crate::export::check_config(&config, E::check_config)
    }
    fn self_test() -> Result<(), Problem> {
        E::self_test()
    }
}
