//! Providers: from the caller's request to the vendor's, and from the vendor's answer back.

use core::cell::RefCell;
use core::marker::PhantomData;

use crate::bindings::provider::Guest as Lifecycle;
use crate::bindings::provider::exports::brokle::provider::adapter;
use crate::prelude::*;
use crate::{ConfigProblem, Description, Problem};

pub use crate::bindings::common::{Header, UsageEntry};
pub use crate::bindings::provider::brokle::provider::exchange::{
    Auth, Body, BodyPlan, Call, ClientCredentialsAuth, Edit, Ending, ErrorOutcome, FormEdit, Frame,
    HeaderAuth, NextRequest, OtherAuth, Output, Payload, Preparation, RenameField, ResponseHead,
    ResponsePlan, ServiceAccountAuth, SetEdit, SetField, Sigv4Auth, UpstreamRequest,
};

/// A provider adapter. See the crate's documentation for a complete one.
pub trait Provider: Sized + 'static {
    /// Turns answers into the canonical form; [`NoDecoder`] when all are canonical already.
    type Decoder: Decoder;

    /// The operations on offer, each with its features.
    fn describe() -> Description;

    /// Checks what the manifest's schema can't say.
    ///
    /// # Errors
    /// What is wrong, each with the key at fault.
    fn check_config(_config: serde_json::Value) -> Result<(), Vec<ConfigProblem>> {
        Ok(())
    }

    /// Proves on a sample that the component works. The default does nothing more than to have
    /// been reached.
    ///
    /// # Errors
    /// Why it doesn't.
    fn self_test() -> Result<(), Problem> {
        Ok(())
    }

    /// What to send for this call.
    ///
    /// # Errors
    /// The caller's fault or the configuration's; the vendor isn't asked.
    fn prepare(call: &Call, body: &Body) -> Result<Preparation, Problem>;

    /// What an answer outside 2xx means. The default reads OpenAI's form.
    fn map_error(_call: &Call, head: &ResponseHead, body: Vec<u8>) -> ErrorOutcome {
        ErrorOutcome::Problem(Problem::from_openai(head, body))
    }
}

/// The life of one answer.
pub trait Decoder: Sized + 'static {
    /// A new answer has begun. `state` is what a [`NextRequest`] carried, else empty.
    fn new(call: Call, head: ResponseHead, state: Vec<u8>) -> Self;

    /// Takes the frames of one read, in order.
    ///
    /// # Errors
    /// The answer can't be understood. The host ends it.
    fn push(&mut self, frames: Vec<Frame>) -> Result<Vec<Output>, Problem>;

    /// The answer has ended.
    ///
    /// # Errors
    /// It was cut short.
    fn finish(&mut self) -> Result<Ending, Problem>;
}

/// For providers whose every answer is [`ResponsePlan::Native`] or opaque.
#[derive(Debug)]
pub struct NoDecoder;

impl Decoder for NoDecoder {
    fn new(_: Call, _: ResponseHead, _: Vec<u8>) -> Self {
        Self
    }
    fn push(&mut self, _: Vec<Frame>) -> Result<Vec<Output>, Problem> {
        Err(Problem::bad_answer("this provider asked for no decoding"))
    }
    fn finish(&mut self) -> Result<Ending, Problem> {
        Err(Problem::bad_answer("this provider asked for no decoding"))
    }
}

impl From<UpstreamRequest> for Preparation {
    fn from(request: UpstreamRequest) -> Self {
        Self::Request(request)
    }
}

impl UpstreamRequest {
    /// A `POST` of the caller's body as it came, authorized by bearer token, its answer decoded
    /// as one whole document. Change what differs.
    pub fn post(path: impl Into<String>) -> Self {
        Self {
            method: "POST".into(),
            path: path.into(),
            headers: Vec::new(),
            auth: Auth::Bearer,
            body: BodyPlan::Unchanged,
            response: ResponsePlan::Decoded("whole".into()),
        }
    }

    /// A `GET` without a body.
    pub fn get(path: impl Into<String>) -> Self {
        Self { method: "GET".into(), body: BodyPlan::None, ..Self::post(path) }
    }

    /// What the host adds to a call that it relays as it came (the operation `raw`): headers and authorization, by
    /// bearer token. Method, path and body are the caller's.
    pub fn raw() -> Self {
        Self { response: ResponsePlan::Opaque, ..Self::post("/") }
    }

    /// How the credential goes in.
    #[must_use]
    pub fn auth(mut self, auth: Auth) -> Self {
        self.auth = auth;
        self
    }

    /// Adds a header; the name in lower case.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push(Header { name: name.to_owned(), value: value.into() });
        self
    }

    /// The caller's JSON with these changes.
    #[must_use]
    pub fn edits(mut self, edits: impl IntoIterator<Item = Edit>) -> Self {
        self.body = BodyPlan::Edits(edits.into_iter().collect());
        self
    }

    /// Another JSON body.
    #[must_use]
    pub fn json(mut self, body: &impl serde::Serialize) -> Self {
        // A type of ours always serializes: maps have string keys.
        let data = serde_json::to_vec(body).unwrap_or_default();
        self.body = BodyPlan::Replaced(Payload { content_type: "application/json".into(), data });
        self
    }

    /// The answer has the caller's form already.
    #[must_use]
    pub fn native(mut self) -> Self {
        self.response = ResponsePlan::Native;
        self
    }

    /// The answer comes in these frames (`sse`, `ndjson`, …).
    #[must_use]
    pub fn decoded(mut self, framing: &str) -> Self {
        self.response = ResponsePlan::Decoded(framing.to_owned());
        self
    }
}

impl Edit {
    /// Sets the value at a pointer.
    pub fn set(pointer: &str, value: &(impl serde::Serialize + ?Sized)) -> Self {
        let value = serde_json::to_vec(value).unwrap_or_else(|_| b"null".to_vec());
        Self::Set(SetEdit { pointer: pointer.to_owned(), value })
    }

    /// Removes what is at a pointer.
    pub fn remove(pointer: &str) -> Self {
        Self::Remove(pointer.to_owned())
    }
}

impl Body {
    /// The whole body, as your own type.
    ///
    /// # Errors
    /// A problem that names what doesn't fit.
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, Problem> {
        let length = u32::try_from(self.size()).unwrap_or(u32::MAX);
        serde_json::from_slice(&self.read(0, length)).map_err(|error| {
            Problem::invalid("", format!("The request doesn't have the expected form: {error}."))
        })
    }

    /// One field, by RFC 6901 pointer, as your own type; `None` when it is missing or differs.
    pub fn field<T: serde::de::DeserializeOwned>(&self, pointer: &str) -> Option<T> {
        serde_json::from_slice(&self.get(pointer)?).ok()
    }
}

impl Output {
    /// A canonical document or chunk.
    pub fn json(value: &impl serde::Serialize) -> Self {
        Self::Chunk(serde_json::to_vec(value).unwrap_or_default())
    }
}

/// Glue between [`Provider`] and the generated exports; named by [`export!`](crate::export).
#[doc(hidden)]
pub struct Component<P>(PhantomData<P>);

/// Holds a native build to the trait; named by [`export!`](crate::export).
#[doc(hidden)]
pub fn used<P: Provider>() {}

/// Glue for [`Decoder`].
#[doc(hidden)]
pub struct DecoderCell<D>(RefCell<D>);

impl<P: Provider> adapter::Guest for Component<P> {
    type Decoder = DecoderCell<P::Decoder>;

    fn prepare(call: Call, body: &Body) -> Result<Preparation, Problem> {
        P::prepare(&call, body)
    }

    fn map_error(call: Call, head: ResponseHead, body: Vec<u8>) -> ErrorOutcome {
        P::map_error(&call, &head, body)
    }
}

impl<D: Decoder> adapter::GuestDecoder for DecoderCell<D> {
    fn new(call: Call, head: ResponseHead, state: Vec<u8>) -> Self {
        Self(RefCell::new(D::new(call, head, state)))
    }
    fn push(&self, frames: Vec<Frame>) -> Result<Vec<Output>, Problem> {
        self.0.borrow_mut().push(frames)
    }
    fn finish(&self) -> Result<Ending, Problem> {
        self.0.borrow_mut().finish()
    }
}

impl<P: Provider> Lifecycle for Component<P> {
    fn describe() -> Vec<u8> {
        P::describe().into_json()
    }
    fn check_config(config: Vec<u8>) -> Result<(), Vec<ConfigProblem>> {
        crate::export::check_config(&config, P::check_config)
    }
    fn self_test() -> Result<(), Problem> {
        P::self_test()
    }
}
