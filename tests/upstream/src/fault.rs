//! The fault grammar: what one request is to suffer. The README is its specification.

use std::{fmt, num::NonZeroUsize, str::FromStr, time::Duration};

/// The largest `large-body`, in bytes: an answer is built in memory.
const MAX_LARGE_BODY: u64 = 64 * 1024 * 1024;
/// The largest `events`.
const MAX_EVENTS: u64 = 100_000;
/// The longest pause, in milliseconds: ten minutes.
const MAX_PAUSE_MS: u64 = 600_000;
/// More than any vendor gives a minute.
const MAX_TOKENS_LEFT: u64 = 1_000_000_000;

/// What one request suffers; the default is nothing. Read from text with [`FromStr`], written back by `Display`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fault {
    /// `status=S`
    pub status: Option<u16>,
    /// `retry-after=TEXT`
    pub retry_after: Option<String>,
    /// `tokens-left=N`
    pub tokens_left: Option<u64>,
    /// `slow-head=MS`
    pub slow_head: Option<Duration>,
    /// `hang-head`
    pub hang_head: bool,
    /// `refuse`
    pub refuse: bool,
    /// `reset-at=K`, in bytes of the response
    pub reset_at: Option<usize>,
    /// `close-at=K`, in bytes of the body
    pub close_at: Option<usize>,
    /// `chunk=N`, in bytes
    pub chunk: Option<NonZeroUsize>,
    /// `events=N`
    pub events: Option<usize>,
    /// `large-body=BYTES`
    pub large_body: Option<usize>,
    /// `gzip`
    pub gzip: bool,
    /// `truncated-json`
    pub truncated_json: bool,
    /// `wrong-content-type`
    pub wrong_content_type: bool,
    /// `delay=MS`
    pub delay: Option<Duration>,
    /// `error-in-stream=N`, in events before it
    pub error_in_stream: Option<usize>,
    /// `empty-stream`
    pub empty_stream: bool,
    /// `stall-after=N`, in events
    pub stall_after: Option<usize>,
    /// `malformed-sse=KIND`
    pub malformed_sse: Option<MalformedSse>,
}

/// How a stream departs from the event stream format, or stretches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the README describes each kind under the name it has there")]
pub enum MalformedSse {
    MissingBlankLine,
    Crlf,
    Cr,
    NoSpace,
    Bom,
    CommentFlood,
    HugeLine,
    SplitUtf8,
    AfterDone,
}

impl MalformedSse {
    const ALL: [(&str, Self); 9] = [
        ("missing-blank-line", Self::MissingBlankLine),
        ("crlf", Self::Crlf),
        ("cr", Self::Cr),
        ("no-space", Self::NoSpace),
        ("bom", Self::Bom),
        ("comment-flood", Self::CommentFlood),
        ("huge-line", Self::HugeLine),
        ("split-utf8", Self::SplitUtf8),
        ("after-done", Self::AfterDone),
    ];
}

/// Why a fault can't be read, or can't act on the request that asked for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// No step has this name.
    #[error("there is no fault {0:?}")]
    Unknown(String),
    /// The step is there twice.
    #[error("the fault {0:?} is given twice")]
    Twice(String),
    /// The step's value is missing, unwanted, unreadable or out of bounds.
    #[error("the fault {name:?} can't have the value {value:?}")]
    Value {
        /// The step.
        name: String,
        /// What stood after `=`, if anything did.
        value: Option<String>,
    },
    /// The step acts on streams, and this answer isn't one.
    #[error("the fault {0:?} needs a streamed answer")]
    NotStreamed(&'static str),
}

impl Fault {
    /// The first step that acts on streams only.
    pub(crate) fn needs_stream(&self) -> Option<&'static str> {
        [
            ("delay", self.delay.is_some()),
            ("error-in-stream", self.error_in_stream.is_some()),
            ("empty-stream", self.empty_stream),
            ("stall-after", self.stall_after.is_some()),
            ("malformed-sse", self.malformed_sse.is_some()),
        ]
        .into_iter()
        .find_map(|(name, there)| there.then_some(name))
    }

    fn set(&mut self, step: &Step<'_>) -> Result<(), FaultError> {
        match step.name {
            "status" => step.put(&mut self.status, step.number(200, 599)?),
            "retry-after" => step.put(&mut self.retry_after, step.value()?.to_owned()),
            "tokens-left" => step.put(&mut self.tokens_left, step.number(0, MAX_TOKENS_LEFT)?),
            "slow-head" => step.put(&mut self.slow_head, step.pause()?),
            "hang-head" => step.raise(&mut self.hang_head),
            "refuse" => step.raise(&mut self.refuse),
            "reset-at" => step.put(&mut self.reset_at, step.number(0, MAX_LARGE_BODY)?),
            "close-at" => step.put(&mut self.close_at, step.number(0, MAX_LARGE_BODY)?),
            "chunk" => {
                let size = NonZeroUsize::new(step.number(1, MAX_LARGE_BODY)?).ok_or_else(|| step.wrong())?;
                step.put(&mut self.chunk, size)
            }
            "events" => step.put(&mut self.events, step.number(0, MAX_EVENTS)?),
            "large-body" => step.put(&mut self.large_body, step.number(0, MAX_LARGE_BODY)?),
            "gzip" => step.raise(&mut self.gzip),
            "truncated-json" => step.raise(&mut self.truncated_json),
            "wrong-content-type" => step.raise(&mut self.wrong_content_type),
            "delay" => step.put(&mut self.delay, step.pause()?),
            "error-in-stream" if step.value.is_none() => step.put(&mut self.error_in_stream, 1),
            "error-in-stream" => step.put(&mut self.error_in_stream, step.number(0, MAX_EVENTS)?),
            "empty-stream" => step.raise(&mut self.empty_stream),
            "stall-after" => step.put(&mut self.stall_after, step.number(0, MAX_EVENTS)?),
            "malformed-sse" => step.put(&mut self.malformed_sse, step.kind()?),
            unknown => Err(FaultError::Unknown(unknown.to_owned())),
        }
    }
}

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let mut fault = Self::default();
        for step in text.split(';').map(str::trim).filter(|step| !step.is_empty()) {
            let (name, value) = match step.split_once('=') {
                Some((name, value)) => (name.trim(), Some(value.trim())),
                None => (step, None),
            };
            fault.set(&Step { name, value })?;
        }
        Ok(fault)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |pause: Duration| pause.as_millis().to_string();
        let values = [
            ("status", self.status.map(|status| status.to_string())),
            ("retry-after", self.retry_after.clone()),
            ("tokens-left", self.tokens_left.map(|left| left.to_string())),
            ("slow-head", self.slow_head.map(ms)),
            ("reset-at", self.reset_at.map(|at| at.to_string())),
            ("close-at", self.close_at.map(|at| at.to_string())),
            ("chunk", self.chunk.map(|size| size.to_string())),
            ("events", self.events.map(|count| count.to_string())),
            ("large-body", self.large_body.map(|bytes| bytes.to_string())),
            ("delay", self.delay.map(ms)),
            ("error-in-stream", self.error_in_stream.map(|after| after.to_string())),
            ("stall-after", self.stall_after.map(|after| after.to_string())),
            ("malformed-sse", self.malformed_sse.map(|kind| kind.to_string())),
        ];
        let flags = [
            ("hang-head", self.hang_head),
            ("refuse", self.refuse),
            ("gzip", self.gzip),
            ("truncated-json", self.truncated_json),
            ("wrong-content-type", self.wrong_content_type),
            ("empty-stream", self.empty_stream),
        ];
        let values = values.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", value?)));
        let flags = flags.into_iter().filter(|(_, there)| *there).map(|(name, _)| name.to_owned());
        f.write_str(&values.chain(flags).collect::<Vec<_>>().join(";"))
    }
}

impl fmt::Display for MalformedSse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Self::ALL.iter().filter(|(_, kind)| kind == self).try_for_each(|(name, _)| f.write_str(name))
    }
}

/// One step as it is written.
struct Step<'a> {
    name: &'a str,
    value: Option<&'a str>,
}

impl Step<'_> {
    fn put<T>(&self, slot: &mut Option<T>, value: T) -> Result<(), FaultError> {
        match slot.replace(value) {
            Some(_) => Err(FaultError::Twice(self.name.to_owned())),
            None => Ok(()),
        }
    }

    fn raise(&self, flag: &mut bool) -> Result<(), FaultError> {
        if self.value.is_some() {
            return Err(self.wrong());
        }
        if std::mem::replace(flag, true) { Err(FaultError::Twice(self.name.to_owned())) } else { Ok(()) }
    }

    fn value(&self) -> Result<&str, FaultError> {
        self.value.filter(|value| !value.is_empty()).ok_or_else(|| self.wrong())
    }

    fn number<T: TryFrom<u64>>(&self, least: u64, most: u64) -> Result<T, FaultError> {
        let number: u64 = self.value()?.parse().map_err(|_| self.wrong())?;
        if !(least..=most).contains(&number) {
            return Err(self.wrong());
        }
        T::try_from(number).map_err(|_| self.wrong())
    }

    fn pause(&self) -> Result<Duration, FaultError> {
        Ok(Duration::from_millis(self.number(0, MAX_PAUSE_MS)?))
    }

    fn kind(&self) -> Result<MalformedSse, FaultError> {
        let value = self.value()?;
        let found = MalformedSse::ALL.iter().find(|(name, _)| *name == value);
        found.map(|(_, kind)| *kind).ok_or_else(|| self.wrong())
    }

    fn wrong(&self) -> FaultError {
        FaultError::Value { name: self.name.to_owned(), value: self.value.map(str::to_owned) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_reads_and_writes_back() {
        let text = "status=429;retry-after=2;tokens-left=7;slow-head=5;reset-at=7;close-at=0;chunk=3;events=4;large-body=9;\
                    delay=1;error-in-stream=2;stall-after=6;malformed-sse=split-utf8;\
                    hang-head;refuse;gzip;truncated-json;wrong-content-type;empty-stream";
        let fault: Fault = text.parse().unwrap();
        assert_eq!(fault.to_string(), text);
        for (name, kind) in MalformedSse::ALL {
            let fault: Fault = format!(" malformed-sse = {name} ; ").parse().unwrap();
            assert_eq!(fault, Fault { malformed_sse: Some(kind), ..Fault::default() });
        }
    }

    #[test]
    fn nothing_is_no_fault_and_an_error_comes_after_one_event() {
        assert_eq!("".parse(), Ok(Fault::default()));
        assert_eq!("error-in-stream".parse::<Fault>().unwrap().error_in_stream, Some(1));
    }

    #[test]
    fn what_cannot_be_read_is_refused_by_name() {
        let wrong = |name: &str, value: Option<&str>| FaultError::Value {
            name: name.into(),
            value: value.map(str::to_owned),
        };
        for (text, error) in [
            ("statsu=500", FaultError::Unknown("statsu".into())),
            ("gzip;gzip", FaultError::Twice("gzip".into())),
            ("status=500;status=501", FaultError::Twice("status".into())),
            ("gzip=1", wrong("gzip", Some("1"))),
            ("status", wrong("status", None)),
            ("status=199", wrong("status", Some("199"))),
            ("status=600", wrong("status", Some("600"))),
            ("chunk=0", wrong("chunk", Some("0"))),
            ("reset-at=-1", wrong("reset-at", Some("-1"))),
            ("malformed-sse=lf", wrong("malformed-sse", Some("lf"))),
            ("large-body=99999999999", wrong("large-body", Some("99999999999"))),
        ] {
            assert_eq!(text.parse::<Fault>(), Err(error), "{text}");
        }
    }
}
