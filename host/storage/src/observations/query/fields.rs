//! Which names a filter may use: one table, for the parser, for the stores and for the documentation.

/// What is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Calls and spans, and what is made of them: traces, sessions, users, metrics.
    Observations,
    /// Scores.
    Scores,
}

/// What values a field has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A text, compared as it is.
    Text,
    /// One of the observations' types.
    ObservationKind,
    /// One of the ways to end.
    Status,
    /// A number.
    Number,
    /// Milliseconds, or a number with `us`, `ms`, `s`, `m` or `h`.
    Duration,
    /// RFC 3339, or a day.
    Time,
    /// 32 hex digits.
    TraceId,
    /// 16 hex digits.
    SpanId,
    /// 26 characters.
    Ulid,
    /// `true` or `false`.
    Flag,
    /// A text or a number, as the stored value is.
    Any,
}

impl Kind {
    /// Whether `>`, `<` and ranges make sense.
    #[must_use]
    pub const fn has_order(self) -> bool {
        matches!(self, Self::Number | Self::Duration | Self::Time | Self::Any)
    }

    /// What is expected, in words.
    #[must_use]
    pub const fn expected(self) -> &'static str {
        match self {
            Self::Text | Self::Any => "a text of at least one character",
            Self::ObservationKind => "a type is expected: generation, embedding, tool, agent, span, …",
            Self::Status => "ok, error, aborted or timeout is expected",
            Self::Number => "a number is expected",
            Self::Duration => "a duration is expected: milliseconds, or a number with us, ms, s, m or h",
            Self::Time => "a time is expected: RFC 3339, or a day such as 2026-03-01",
            Self::TraceId => "a trace's id is expected: 32 lower-case hex digits",
            Self::SpanId => "an observation's id is expected: 16 lower-case hex digits",
            Self::Ulid => "an id of 26 characters is expected",
            Self::Flag => "true or false is expected",
        }
    }
}

macro_rules! keys {
    ($($key:ident = $name:literal, $kind:ident, [$($subject:ident)+], $doc:literal;)+) => {
        /// A field that every row of a subject has.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Key {
            $(#[doc = $doc] $key,)+
        }

        impl Key {
            /// Every field, in the documentation's order.
            pub const ALL: &[Self] = &[$(Self::$key),+];

            /// Its name in filters.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$key => $name,)+ }
            }

            /// What values it has.
            #[must_use]
            pub const fn kind(self) -> Kind {
                match self { $(Self::$key => Kind::$kind,)+ }
            }

            /// Whether rows of the subject have it.
            #[must_use]
            pub fn is_of(self, subject: Subject) -> bool {
                match self { $(Self::$key => [$(Subject::$subject),+].contains(&subject),)+ }
            }

            /// What it is, in a sentence.
            #[must_use]
            pub const fn description(self) -> &'static str {
                match self { $(Self::$key => $doc,)+ }
            }
        }
    };
}

keys! {
    Name = "name", Text, [Observations Scores], "What it is called.";
    Type = "type", ObservationKind, [Observations], "What it is about.";
    Status = "status", Status, [Observations], "How it ended.";
    Model = "model", Text, [Observations], "The model that was asked for, or that answered.";
    Provider = "provider", Text, [Observations], "Who served it.";
    Connection = "connection", Text, [Observations], "Through which connection: its id.";
    Operation = "operation", Text, [Observations], "`gen_ai.operation.name`.";
    User = "user", Text, [Observations], "The client's end user.";
    Session = "session", Text, [Observations Scores], "The client's session.";
    Bookmarked = "bookmarked", Flag, [Observations], "Whether somebody wants to find its trace again.";
    Tag = "tag", Text, [Observations], "One of the client's labels.";
    Environment = "environment", Ulid, [Observations Scores], "The environment's id.";
    ApiKey = "key", Ulid, [Observations], "The API key's id.";
    Request = "request", Ulid, [Observations], "The request's id.";
    Trace = "trace", TraceId, [Observations Scores], "The trace's id.";
    Span = "span", SpanId, [Observations Scores], "The observation's id.";
    Parent = "parent", SpanId, [Observations], "The id of what it happened in.";
    Time = "time", Time, [Observations Scores], "When it began; when the score was given.";
    Duration = "duration", Duration, [Observations], "How long it took.";
    FirstToken = "ttft", Duration, [Observations], "From the beginning to the first token.";
    Cost = "cost", Number, [Observations], "Dollars.";
    Tokens = "tokens", Number, [Observations], "Tokens in and out.";
    InputTokens = "input_tokens", Number, [Observations], "Tokens in.";
    OutputTokens = "output_tokens", Number, [Observations], "Tokens out.";
    CachedTokens = "cached_tokens", Number, [Observations], "Of the tokens in, those read from the vendor's cache.";
    ReasoningTokens = "reasoning_tokens", Number, [Observations], "Of the tokens out, those spent on reasoning.";
    StatusCode = "status_code", Number, [Observations], "The HTTP status.";
    FinishReason = "finish_reason", Text, [Observations], "Why the model stopped.";
    Error = "error", Text, [Observations], "The error's class.";
    Streaming = "streaming", Flag, [Observations], "Whether the answer was streamed.";
    Id = "id", Text, [Scores], "The score's id.";
    DataType = "data_type", Text, [Scores], "`numeric`, `categorical`, `boolean` or `text`.";
    Source = "source", Text, [Scores], "`api`, `evaluator` or `annotation`.";
    Value = "value", Any, [Scores], "A number, a category or a text; `true` and `false` are 1 and 0.";
    Comment = "comment", Text, [Scores], "Why.";
}

impl Key {
    /// The field of this name, if rows of the subject have it.
    #[must_use]
    pub fn named(name: &str, subject: Subject) -> Option<Self> {
        Self::ALL.iter().copied().find(|key| key.as_str() == name && key.is_of(subject))
    }
}
