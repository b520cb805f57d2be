//! Guardrails: what may go to a model, and what may come back.

pub mod scan;

use alloc::boxed::Box;
use core::any::Any;
use core::ops::Range;
use core::sync::atomic::{AtomicPtr, Ordering};

use crate::bindings::guardrail::Guest as Lifecycle;
use crate::bindings::guardrail::exports::brokle::guardrail::guard;
use crate::prelude::*;
use crate::{ConfigProblem, Description, Problem};

pub use crate::bindings::guardrail::brokle::guardrail::facts::{
    Annotation, Call, Document, Edit, Failure, Fragment, Refusal, Ruling, StreamRuling, Text, Verdict,
};

/// A guardrail.
///
/// One value of the type is made for each request, each whole answer, and each stream; it reads its configuration
/// once, and a stream's value can keep what it has seen.
///
/// ```
/// use brokle_plugin::Description;
/// use brokle_plugin::guardrail::*;
///
/// /// Nobody speaks of the secret project.
/// struct Hush;
///
/// impl Guardrail for Hush {
///     fn describe() -> Description {
///         Description::guardrail(["request", "response"])
///     }
///
///     fn new() -> Result<Self, Failure> {
///         Ok(Self)
///     }
///
///     fn on_request(&mut self, _: &Call, _: &Document, texts: &[Text]) -> Result<Ruling, Failure> {
///         Ok(match texts.iter().any(|text| text.value.contains("Project Zephyr")) {
///             true => Ruling::block("confidential", "This must not be discussed with a model."),
///             false => Ruling::allow(),
///         })
///     }
/// }
/// # brokle_plugin::export!(guardrail: Hush, manifest = "{}");
/// # fn main() {}
/// ```
pub trait Guardrail: Sized + 'static {
    /// The stages that it has rules for: `request`, `response`. It is called for no other.
    fn describe() -> Description;

    /// Reads the configuration ([`host::config`](crate::host::config)).
    ///
    /// # Errors
    /// It can't be used.
    fn new() -> Result<Self, Failure>;

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

    /// Rules on a request. The default lets everything pass.
    ///
    /// # Errors
    /// It can't rule; the operator has decided what that means.
    fn on_request(&mut self, _: &Call, _: &Document, _: &[Text]) -> Result<Ruling, Failure> {
        Ok(Ruling::allow())
    }

    /// Rules on a whole answer. The default lets everything pass.
    ///
    /// # Errors
    /// As for a request.
    fn on_response(&mut self, _: &Call, _: &Document, _: &[Text]) -> Result<Ruling, Failure> {
        Ok(Ruling::allow())
    }

    /// Rules on a part of a stream. The default lets everything pass, at once.
    ///
    /// # Errors
    /// As for a request.
    fn on_chunk(
        &mut self,
        _: &Call,
        _: &Document,
        _: &[Fragment],
        _finish: bool,
    ) -> Result<StreamRuling, Failure> {
        Ok(Ruling::allow().into())
    }
}

impl Ruling {
    /// It goes on as it is.
    pub fn allow() -> Self {
        Self::of(Verdict::Allow)
    }

    /// It goes on with these changes; with none, as it is.
    pub fn change(edits: Vec<Edit>) -> Self {
        if edits.is_empty() { Self::allow() } else { Self::of(Verdict::Change(edits)) }
    }

    /// It doesn't go on. Never put the text that was found into the reason.
    pub fn block(category: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::of(Verdict::Block(Refusal { category: category.into(), reason: reason.into() }))
    }

    /// The model is asked again, with this instruction.
    pub fn retry(instruction: impl Into<String>) -> Self {
        Self::of(Verdict::Retry(instruction.into()))
    }

    fn of(verdict: Verdict) -> Self {
        Self { verdict, annotations: Vec::new(), state: Vec::new() }
    }

    /// With a finding for the trace.
    #[must_use]
    pub fn annotate(mut self, name: impl Into<String>, value: &(impl serde::Serialize + ?Sized)) -> Self {
        let value = serde_json::to_vec(value).unwrap_or_else(|_| b"null".to_vec());
        self.annotations.push(Annotation { name: name.into(), value });
        self
    }

    /// With what is to be told again when the answer is shown.
    #[must_use]
    pub fn with_state(mut self, state: Vec<u8>) -> Self {
        self.state = state;
        self
    }

    /// Of a part of a stream, with this many bytes held back of each fragment.
    #[must_use]
    pub fn hold(self, hold: Vec<u32>) -> StreamRuling {
        StreamRuling { ruling: self, hold }
    }
}

impl From<Ruling> for StreamRuling {
    fn from(ruling: Ruling) -> Self {
        ruling.hold(Vec::new())
    }
}

impl Edit {
    /// Replaces a part of the text with this index.
    pub fn replace(text: usize, range: Range<usize>, replacement: impl Into<String>) -> Self {
        let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        Self {
            text: number(text),
            start: number(range.start),
            end: number(range.end),
            replacement: replacement.into(),
        }
    }
}

impl Document {
    /// The value at an RFC 6901 pointer, as your own type; none when there is nothing, or nothing that fits.
    pub fn value<T: serde::de::DeserializeOwned>(&self, pointer: &str) -> Option<T> {
        serde_json::from_slice(&self.get(pointer)?).ok()
    }
}

impl Failure {
    /// The configuration doesn't fit the plugin's type for it.
    pub fn config(error: &serde_json::Error) -> Self {
        Self::Misconfigured(error.to_string())
    }
}

/// Glue between [`Guardrail`] and the generated exports; named by [`export!`](crate::export).
#[doc(hidden)]
pub struct Component<G>(core::marker::PhantomData<G>);

/// Holds a native build to the trait; named by [`export!`](crate::export).
#[doc(hidden)]
pub fn used<G: Guardrail>() {}

/// The value of this instance, or null. Its type is the component's one guardrail, which a static can't name.
static VALUE: AtomicPtr<Box<dyn Any>> = AtomicPtr::new(core::ptr::null_mut());

/// Runs a function on the instance's value, which is made when it is first needed.
fn with<G: Guardrail, T>(run: impl FnOnce(&mut G) -> Result<T, Failure>) -> Result<T, Failure> {
    let kept = VALUE.swap(core::ptr::null_mut(), Ordering::AcqRel);
    let mut value: Box<Box<dyn Any>> = if kept.is_null() {
        Box::new(Box::new(G::new()?))
    } else {
        #[expect(unsafe_code, reason = "a static holds a pointer and no box")]
        // SAFETY: it was a box of this type, put there below, and taking it left null: nobody else has it.
        unsafe {
            Box::from_raw(kept)
        }
    };
    let done = match value.downcast_mut() {
        Some(value) => run(value),
        None => Err(Failure::Other("this component has two guardrails".into())),
    };
    VALUE.store(Box::into_raw(value), Ordering::Release);
    done
}

impl<G: Guardrail> guard::Guest for Component<G> {
    fn on_request(call: Call, request: &Document, texts: Vec<Text>) -> Result<Ruling, Failure> {
        with(|value: &mut G| value.on_request(&call, request, &texts))
    }

    fn on_response(call: Call, request: &Document, texts: Vec<Text>) -> Result<Ruling, Failure> {
        with(|value: &mut G| value.on_response(&call, request, &texts))
    }

    fn on_chunk(
        call: Call,
        request: &Document,
        fragments: Vec<Fragment>,
        finish: bool,
    ) -> Result<StreamRuling, Failure> {
        with(|value: &mut G| value.on_chunk(&call, request, &fragments, finish))
    }
}

impl<G: Guardrail> Lifecycle for Component<G> {
    fn describe() -> Vec<u8> {
        G::describe().into_json()
    }
    fn check_config(config: Vec<u8>) -> Result<(), Vec<ConfigProblem>> {
        crate::export::check_config(&config, G::check_config)
    }
    fn self_test() -> Result<(), Problem> {
        G::self_test()
    }
}
