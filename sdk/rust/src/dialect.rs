//! Dialects: another wire format in front of any provider.

pub mod answer;
mod fields;
pub mod request;

use core::cell::RefCell;
use core::marker::PhantomData;

use crate::bindings::dialect::Guest as Lifecycle;
use crate::bindings::dialect::exports::brokle::dialect::translator;
use crate::prelude::*;
use crate::{ConfigProblem, Description, Problem, ProblemKind};

pub use fields::{Fields, parse};

pub use crate::bindings::common::UsageEntry;
pub use crate::bindings::dialect::brokle::dialect::exchange::{Body, Call, Frame, Head, Reading, Translated};

/// A dialect. What it can't say in the canonical form it refuses with [`Problem::unsupported`], which names the
/// field; nothing is silently misread.
pub trait Dialect: Sized + 'static {
    /// Writes one streamed answer.
    type Encoder: Encoder;
    /// Reads one streamed answer that has this dialect already.
    type Reader: Reader;

    /// Its name, and its endpoints.
    fn describe() -> Description;

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

    /// Reads the hot fields, without reading a large body whole.
    ///
    /// # Errors
    /// The request can't be served as written.
    fn read_head(call: &Call, body: &Body) -> Result<Head, Problem>;

    /// Translates the request.
    ///
    /// # Errors
    /// It can't be said in the canonical form; the problem names the field.
    fn to_canonical(call: &Call, body: &Body) -> Result<Translated, Problem>;

    /// An answer to `count-tokens` without a vendor. The default has none.
    ///
    /// # Errors
    /// The request can't be read.
    fn estimate(_call: &Call, _body: &Body) -> Result<Vec<u8>, Problem> {
        Err(Problem::new(ProblemKind::Unsupported, "This dialect counts no tokens."))
    }

    /// A whole answer, from the canonical one. `state` is what `to_canonical` gave.
    ///
    /// # Errors
    /// The canonical answer can't be understood.
    fn write_answer(call: &Call, state: &[u8], answer: &[u8]) -> Result<Vec<u8>, Problem>;

    /// An error, in the dialect's own form.
    fn write_error(call: &Call, status: u16, problem: &Problem) -> Vec<u8>;

    /// What a whole answer that has this dialect already tells the account.
    fn read_answer(call: &Call, answer: &[u8]) -> Reading;
}

/// Writes one streamed answer: every event that the dialect's clients expect, in order.
pub trait Encoder: Sized + 'static {
    /// A new answer. `state` is what `to_canonical` gave.
    fn new(call: Call, state: Vec<u8>) -> Self;

    /// What canonical chunks amount to.
    ///
    /// # Errors
    /// They can't be understood.
    fn push(&mut self, chunks: Vec<Vec<u8>>) -> Result<Vec<u8>, Problem>;

    /// The rest of the answer.
    ///
    /// # Errors
    /// The canonical stream wasn't complete.
    fn finish(&mut self) -> Result<Vec<u8>, Problem>;

    /// An error in the dialect's form, and the end.
    fn failed(&mut self, status: u16, problem: &Problem) -> Vec<u8>;
}

/// Reads one streamed answer that has this dialect already, on its way past.
pub trait Reader: Sized + 'static {
    /// A new answer.
    fn new(call: Call) -> Self;

    /// What is known after these events.
    fn push(&mut self, frames: Vec<Frame>) -> Reading;

    /// What is to be added to an answer that broke off.
    fn failed(&mut self, status: u16, problem: &Problem) -> Vec<u8>;
}

impl Body {
    /// All of it.
    pub fn bytes(&self) -> Vec<u8> {
        self.read(0, u32::try_from(self.size()).unwrap_or(u32::MAX))
    }

    /// One field, by RFC 6901 pointer, as your own type; `None` when it is missing, null or differs.
    pub fn field<T: serde::de::DeserializeOwned>(&self, pointer: &str) -> Option<T> {
        serde_json::from_slice(&self.get(pointer)?).ok()
    }
}

#[expect(clippy::derivable_impls, reason = "the type is generated")]
impl Default for Reading {
    fn default() -> Self {
        Self { model: None, id: None, usage: Vec::new(), finish_reason: None, failure: None, complete: false }
    }
}

impl Reading {
    /// Notes a count; none is nothing.
    pub fn count(&mut self, kind: &str, amount: Option<u64>) {
        if let Some(amount) = amount {
            self.usage.push(UsageEntry { kind: kind.to_owned(), amount });
        }
    }
}

/// Writes a server-sent event: its name, unless that is empty, and its data on one line.
pub fn event(out: &mut Vec<u8>, name: &str, data: &impl serde::Serialize) {
    if !name.is_empty() {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(name.as_bytes());
        out.push(b'\n');
    }
    out.extend_from_slice(b"data: ");
    // A type of ours always serializes: maps have string keys.
    let start = out.len();
    out.extend_from_slice(&serde_json::to_vec(data).unwrap_or_default());
    one_line(out, start);
    out.extend_from_slice(b"\n\n");
}

/// Raw JSON of a caller's may be spread over lines, which would end the event: from `start` on there is one.
pub fn one_line(json: &mut [u8], start: usize) {
    for byte in json.iter_mut().skip(start).filter(|byte| matches!(byte, b'\n' | b'\r')) {
        // Between tokens: in strings they are escaped.
        *byte = b' ';
    }
}

/// A guess at the tokens of a text: four bytes each, at least one.
pub fn estimated_tokens(bytes: usize) -> u64 {
    (bytes as u64).div_ceil(4).max(1)
}

/// Glue between [`Dialect`] and the generated exports; named by [`export!`](crate::export).
#[doc(hidden)]
pub struct Component<D>(PhantomData<D>);

/// Holds a native build to the trait; named by [`export!`](crate::export).
#[doc(hidden)]
pub fn used<D: Dialect>() {}

/// Glue for [`Encoder`] and [`Reader`].
#[doc(hidden)]
pub struct Cell<T>(RefCell<T>);

impl<D: Dialect> translator::Guest for Component<D> {
    type Encoder = Cell<D::Encoder>;
    type Reader = Cell<D::Reader>;

    fn read_head(call: Call, body: &Body) -> Result<Head, Problem> {
        D::read_head(&call, body)
    }
    fn to_canonical(call: Call, body: &Body) -> Result<Translated, Problem> {
        D::to_canonical(&call, body)
    }
    fn estimate(call: Call, body: &Body) -> Result<Vec<u8>, Problem> {
        D::estimate(&call, body)
    }
    fn write_answer(call: Call, state: Vec<u8>, answer: Vec<u8>) -> Result<Vec<u8>, Problem> {
        D::write_answer(&call, &state, &answer)
    }
    fn write_error(call: Call, status: u16, problem: Problem) -> Vec<u8> {
        D::write_error(&call, status, &problem)
    }
    fn read_answer(call: Call, answer: Vec<u8>) -> Reading {
        D::read_answer(&call, &answer)
    }
}

impl<E: Encoder> translator::GuestEncoder for Cell<E> {
    fn new(call: Call, state: Vec<u8>) -> Self {
        Self(RefCell::new(E::new(call, state)))
    }
    fn push(&self, chunks: Vec<Vec<u8>>) -> Result<Vec<u8>, Problem> {
        self.0.borrow_mut().push(chunks)
    }
    fn finish(&self) -> Result<Vec<u8>, Problem> {
        self.0.borrow_mut().finish()
    }
    fn failed(&self, status: u16, problem: Problem) -> Vec<u8> {
        self.0.borrow_mut().failed(status, &problem)
    }
}

impl<R: Reader> translator::GuestReader for Cell<R> {
    fn new(call: Call) -> Self {
        Self(RefCell::new(R::new(call)))
    }
    fn push(&self, frames: Vec<Frame>) -> Reading {
        self.0.borrow_mut().push(frames)
    }
    fn failed(&self, status: u16, problem: Problem) -> Vec<u8> {
        self.0.borrow_mut().failed(status, &problem)
    }
}

impl<D: Dialect> Lifecycle for Component<D> {
    fn describe() -> Vec<u8> {
        D::describe().into_json()
    }
    fn check_config(config: Vec<u8>) -> Result<(), Vec<ConfigProblem>> {
        crate::export::check_config(&config, D::check_config)
    }
    fn self_test() -> Result<(), Problem> {
        D::self_test()
    }
}
