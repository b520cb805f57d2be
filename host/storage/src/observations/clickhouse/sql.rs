//! SQL with parameters, and from a filter to SQL.
//!
//! Values are parameters of the server's, never a part of the text. Rows are called `o` in every question. Each condition
//! is 0 or 1, never NULL, so that its negation is what people mean by it: `-user:ann` finds rows without a user too.

use brokle_core::ids::{ProjectId, RequestId};
use clickhouse::Client;
use clickhouse::query::Query;

use super::super::query::fields::Kind;
use super::super::query::filter::{Field, Filter, METADATA, Test, Value};
use super::super::query::parse::number;
use super::super::query::{Key, Subject};

/// At the end of a question for merged rows of a few granules: they are merged in one go. In layers, which is how many are
/// merged side by side, every column of each would be read again for each layer.
pub(super) const FEW: &str = " SETTINGS split_intersecting_parts_ranges_into_layers_final = 0";
/// The last one that the server's times have, of the year 2299.
const LAST_MICROSECOND: i64 = 10_413_791_999_999_999;

/// A parameter's value.
#[derive(Clone, Debug)]
enum Parameter {
    Text(String),
    Texts(Vec<String>),
    Integer(i64),
    Integers(Vec<i64>),
    Floats(Vec<f32>),
    Bits(u64),
}

/// A statement in the making.
#[derive(Clone, Debug)]
pub(super) struct Sql {
    text: String,
    parameters: Vec<Parameter>,
}

impl Sql {
    pub(super) fn new(text: &str) -> Self {
        Self { text: text.to_owned(), parameters: Vec::new() }
    }

    /// `{select} FROM observations …`: the project's that began in this time, each once. Times are in microseconds since the
    /// epoch, the last one excluded.
    pub(super) fn observations(select: &str, project: ProjectId, from: i64, to: i64) -> Self {
        Self::new(select).of_project("observations AS o FINAL WHERE", project, from, to)
    }

    /// The same, for wide columns of few: the time is looked at before anything else is read. What is added looks at merged rows.
    pub(super) fn merged(select: &str, project: ProjectId, from: i64, to: i64) -> Self {
        let mut sql = Self::new(select).of_project("observations AS o FINAL PREWHERE", project, from, to);
        sql.push(" WHERE true");
        sql
    }

    /// The same without merging: one that two writers stored at once may be there twice.
    pub(super) fn stored(select: &str, project: ProjectId, from: i64, to: i64) -> Self {
        Self::new(select).of_project("observations AS o WHERE", project, from, to)
    }

    fn of_project(mut self, table: &str, project: ProjectId, from: i64, to: i64) -> Self {
        self.push(&format!(" FROM {table} o.project_id = ")).text(&project.to_string());
        self.push(" AND o.start_time >= ").time(from);
        self.push(" AND o.start_time < ").time(to);
        self
    }

    /// As the `clickhouse` crate takes it.
    pub(super) fn query(self, client: &Client) -> Query {
        let mut query = client.query_raw(&self.text);
        for (at, parameter) in self.parameters.iter().enumerate() {
            let name = format!("p{at}");
            query = match parameter {
                Parameter::Text(text) => query.param(&name, text),
                Parameter::Texts(texts) => query.param(&name, texts),
                Parameter::Integer(integer) => query.param(&name, integer),
                Parameter::Integers(integers) => query.param(&name, integers),
                Parameter::Floats(floats) => query.param(&name, floats),
                Parameter::Bits(bits) => query.param(&name, bits),
            };
        }
        query
    }

    /// Adds SQL. Never anything that a client wrote.
    pub(super) fn push(&mut self, text: &str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    /// Adds another statement's text and parameters.
    pub(super) fn append(&mut self, other: &Self) -> &mut Self {
        let mut text = other.text.clone();
        // From the last, so that p1 isn't found in p10's new name.
        for at in (0..other.parameters.len()).rev() {
            text = text.replace(&format!("{{p{at}:"), &format!("{{p{}:", self.parameters.len() + at));
        }
        self.parameters.extend_from_slice(&other.parameters);
        self.push(&text)
    }

    fn bind(&mut self, parameter: Parameter, kind: &str) -> &mut Self {
        let at = self.parameters.len();
        self.parameters.push(parameter);
        self.push(&format!("{{p{at}:{kind}}}"))
    }

    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        self.bind(Parameter::Text(text.to_owned()), "String")
    }

    pub(super) fn texts(&mut self, texts: Vec<String>) -> &mut Self {
        self.bind(Parameter::Texts(texts), "Array(String)")
    }

    pub(super) fn integer(&mut self, integer: i64) -> &mut Self {
        self.bind(Parameter::Integer(integer), "Int64")
    }

    pub(super) fn integers(&mut self, integers: Vec<i64>) -> &mut Self {
        self.bind(Parameter::Integers(integers), "Array(Int64)")
    }

    pub(super) fn floats(&mut self, floats: &[f32]) -> &mut Self {
        self.bind(Parameter::Floats(floats.to_vec()), "Array(Float32)")
    }

    /// By its bits: a float's text is read to the nearest or its neighbor.
    pub(super) fn number(&mut self, number: f64) -> &mut Self {
        self.push("reinterpretAsFloat64(").bind(Parameter::Bits(number.to_bits()), "UInt64").push(")")
    }

    /// A moment, in microseconds since the epoch; one that the server's times don't have is the nearest that they have.
    pub(super) fn time(&mut self, micros: i64) -> &mut Self {
        self.push("fromUnixTimestamp64Micro(").integer(micros.clamp(0, LAST_MICROSECOND)).push(", 'UTC')")
    }

    /// Narrows to what passes the filter.
    pub(super) fn filter(&mut self, filter: &Filter, subject: Subject, project: ProjectId) -> &mut Self {
        for term in &filter.terms {
            self.push(if term.negated { " AND NOT (" } else { " AND (" });
            self.test(&term.test, subject, project);
            self.push(")");
        }
        self
    }

    fn test(&mut self, test: &Test, subject: Subject, project: ProjectId) {
        match test {
            Test::Words(text) => self.words(text, subject),
            Test::AnyOf(field, _)
            | Test::Compare(field, ..)
            | Test::Range(field, ..)
            | Test::Present(field) => match field {
                Field::Score(name) => self.scores(name, test, project),
                Field::Metadata(name) => self.metadata(name, test, subject),
                Field::Key(Key::Tag) => {
                    self.push("(o.trace_id NOT IN (").said("tags", project).push(") AND ");
                    self.tags("o.tags", test);
                    self.push(") OR o.trace_id IN (").said("tags", project).push(" AND ");
                    self.tags("u.tags", test);
                    self.push(")");
                }
                Field::Key(Key::User) => {
                    self.push("(o.trace_id NOT IN (").said("user", project).push(") AND (");
                    self.compare("o.user_id", Kind::Text, test);
                    self.push(")) OR o.trace_id IN (").said("user", project).push(" AND (");
                    self.compare("u.text", Kind::Text, test);
                    self.push("))");
                }
                Field::Key(Key::Bookmarked) => self.bookmarked(test, project),
                Field::Key(Key::Model) => {
                    self.compare("o.model_requested", Kind::Text, test);
                    self.push(" OR ");
                    self.compare("o.model_served", Kind::Text, test);
                }
                Field::Key(Key::Value) => self.score_value(test),
                Field::Key(key) => self.compare(column(*key, subject), key.kind(), test),
            },
        }
    }

    /// Full text: in names and bodies, or in a score's name, text and comment.
    fn words(&mut self, needle: &str, subject: Subject) {
        let columns = match subject {
            Subject::Observations => ["o.name", "o.input", "o.output"],
            Subject::Scores => ["o.name", "o.text", "o.comment"],
        };
        for (at, column) in columns.into_iter().enumerate() {
            let or = if at > 0 { " OR " } else { "" };
            self.push(&format!("{or}ifNull(positionCaseInsensitiveUTF8({column}, "))
                .text(needle)
                .push(") > 0, 0)");
        }
    }

    /// The traces of which this member was said.
    fn said(&mut self, member: &'static str, project: ProjectId) -> &mut Self {
        self.push(&format!(
            "SELECT u.trace_id FROM trace_updates AS u FINAL WHERE u.member = '{member}' AND u.project_id = "
        ));
        self.text(&project.to_string())
    }

    /// A flag that every row has.
    fn bookmarked(&mut self, test: &Test, project: ProjectId) {
        let wanted = |flag| match test {
            Test::AnyOf(_, values) => values.contains(&Value::Flag(flag)),
            other => matches!(other, Test::Present(_)),
        };
        match (wanted(true), wanted(false)) {
            (true, true) => self.push("1"),
            (false, false) => self.push("0"),
            (is_wanted, _) => {
                self.push(if is_wanted { "o.trace_id IN (" } else { "o.trace_id NOT IN (" });
                self.said("bookmarked", project).push(" AND u.flag)")
            }
        };
    }

    fn tags(&mut self, column: &str, test: &Test) {
        match test {
            Test::AnyOf(_, values) => {
                self.push(&format!("hasAny({column}, ")).texts(texts(values, Kind::Text)).push(")")
            }
            _ => self.push(&format!("notEmpty({column})")),
        };
    }

    /// Attributes are JSON by name; null says nothing.
    fn metadata(&mut self, name: &str, test: &Test, subject: Subject) {
        const TEXT: &str = "if(startsWith(v, '\"'), JSONExtractString(v), v)";
        let (column, prefixes) = match subject {
            Subject::Observations => ("o.attributes", &METADATA[..]),
            Subject::Scores => ("o.metadata", METADATA.split_at(1).0),
        };
        self.push("arrayExists((k, v) -> v != 'null' AND has(");
        self.texts(prefixes.iter().map(|prefix| format!("{prefix}{name}")).collect()).push(", k) AND ");
        match test {
            Test::Compare(..) | Test::Range(..) => {
                let number = format!("multiIf(v = 'true', 1., v = 'false', 0., toFloat64OrNull({TEXT}))");
                self.compare(&number, Kind::Number, test);
            }
            Test::AnyOf(..) => self.compare(TEXT, Kind::Text, test),
            _ => {
                self.push("1");
            }
        }
        self.push(&format!(", CAST(mapKeys({column}), 'Array(String)'), mapValues({column}))"));
    }

    /// Scores on the observation, on its trace as a whole, or on its session.
    fn scores(&mut self, name: &str, test: &Test, project: ProjectId) {
        let places = [
            ("(o.trace_id, o.span_id)", "o.trace_id, o.span_id", "o.span_id != ''"),
            ("o.trace_id", "o.trace_id", "o.trace_id != '' AND o.span_id = ''"),
            ("ifNull(o.session_id, '')", "o.session_id", "o.session_id != ''"),
        ];
        for (at, (place, select, only)) in places.into_iter().enumerate() {
            let or = if at > 0 { " OR " } else { "" };
            self.push(&format!(
                "{or}{place} IN (SELECT {select} FROM quality_scores AS o FINAL WHERE {only} AND o.project_id = "
            ));
            self.text(&project.to_string()).push(" AND o.name = ").text(name).push(" AND (");
            self.score_value(test);
            self.push("))");
        }
    }

    fn score_value(&mut self, test: &Test) {
        let Test::AnyOf(_, values) = test else {
            // A score says something, whatever that is.
            if matches!(test, Test::Present(_)) {
                self.push("1");
            } else {
                self.compare("o.value", Kind::Number, test);
            }
            return;
        };
        self.push("ifNull(o.text IN ").texts(texts(values, Kind::Text)).push(", 0)");
        for value in values {
            let Value::Text(text) = value else { continue };
            if let Some(number) = number(text) {
                self.push(" OR ifNull(o.value = ").number(number).push(", 0)");
            }
            if let Ok(flag) = text.parse::<bool>() {
                self.push(" OR (o.data_type = 'boolean' AND ifNull(o.value = ");
                self.number(f64::from(u8::from(flag))).push(", 0))");
            }
        }
    }

    fn compare(&mut self, column: &str, kind: Kind, test: &Test) {
        match test {
            Test::AnyOf(_, values) if is_text(kind) => {
                self.push(&format!("ifNull(({column}) IN ")).texts(texts(values, kind)).push(", 0)");
            }
            Test::AnyOf(_, values) => {
                for (at, value) in values.iter().enumerate() {
                    let or = if at > 0 { " OR " } else { "" };
                    self.push(&format!("{or}ifNull(({column}) = ")).value(value).push(", 0)");
                }
            }
            Test::Compare(_, op, value) => {
                self.push(&format!("ifNull(({column}) {} ", op.as_str())).value(value).push(", 0)");
            }
            Test::Range(_, from, to) => {
                self.push("1");
                for (comparison, bound) in [(">=", from), ("<=", to)] {
                    if let Some(bound) = bound {
                        self.push(&format!(" AND ifNull(({column}) {comparison} ")).value(bound).push(", 0)");
                    }
                }
            }
            Test::Present(_) => {
                self.push(&format!("({column}) IS NOT NULL"));
            }
            Test::Words(_) => {
                self.push("0");
            }
        }
    }

    fn value(&mut self, value: &Value) -> &mut Self {
        match value {
            Value::Text(text) => self.text(text),
            Value::Number(number) => self.number(*number),
            Value::Time(micros) => self.time(*micros),
            Value::Flag(flag) => self.integer((*flag).into()),
            // Ids are texts, and have no order.
            Value::Id(bytes) => self.text(&hex(bytes)),
        }
    }
}

const fn is_text(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Text
            | Kind::ObservationKind
            | Kind::Status
            | Kind::TraceId
            | Kind::SpanId
            | Kind::Ulid
            | Kind::Any
    )
}

/// The values as they are stored.
fn texts(values: &[Value], kind: Kind) -> Vec<String> {
    let text = |value: &Value| match value {
        Value::Text(text) => Some(text.clone()),
        Value::Id(bytes) if kind == Kind::Ulid => {
            let bytes = bytes.as_slice().try_into().ok()?;
            Some(RequestId::from_u128(u128::from_be_bytes(bytes)).to_string())
        }
        Value::Id(bytes) => Some(hex(bytes)),
        Value::Number(_) | Value::Time(_) | Value::Flag(_) => None,
    };
    values.iter().filter_map(text).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A field's column. Those that need more than one are compiled apart.
const fn column(key: Key, subject: Subject) -> &'static str {
    match (key, subject) {
        (Key::Session, Subject::Scores) => "nullIf(o.session_id, '')",
        (Key::Trace, Subject::Scores) => "nullIf(o.trace_id, '')",
        (Key::Span, Subject::Scores) => "nullIf(o.span_id, '')",
        (Key::Time, Subject::Scores) => "o.timestamp",
        (Key::Name, _) => "o.name",
        (Key::Type, _) => "o.kind",
        (Key::Status, _) => "o.status",
        (Key::Model, _) => "o.model_requested",
        (Key::Provider, _) => "o.provider",
        (Key::Connection, _) => "o.connection_id",
        (Key::Operation, _) => "nullIf(o.operation, '')",
        (Key::User, _) => "o.user_id",
        (Key::Session, _) => "o.session_id",
        (Key::Tag, _) => "o.tags",
        // Compiled apart.
        (Key::Bookmarked, _) => "0",
        (Key::Environment, _) => "o.environment_id",
        (Key::ApiKey, _) => "o.key_id",
        (Key::Request, _) => "o.request_id",
        (Key::Trace, _) => "o.trace_id",
        (Key::Span, _) => "o.span_id",
        (Key::Parent, _) => "o.parent_span_id",
        (Key::Time, _) => "o.start_time",
        (Key::Duration, _) => "o.duration_us",
        (Key::FirstToken, _) => "o.first_token_us",
        (Key::Cost, _) => "toFloat64(o.cost)",
        (Key::Tokens, _) => "if(o.usage_known, o.input_tokens + o.output_tokens, NULL)",
        (Key::InputTokens, _) => "if(o.usage_known, o.input_tokens, NULL)",
        (Key::OutputTokens, _) => "if(o.usage_known, o.output_tokens, NULL)",
        (Key::CachedTokens, _) => "if(o.usage_known, o.cached_read, NULL)",
        (Key::ReasoningTokens, _) => "if(o.usage_known, o.reasoning, NULL)",
        (Key::StatusCode, _) => "o.http_status",
        (Key::FinishReason, _) => "o.finish_reason",
        (Key::Error, _) => "o.error_class",
        (Key::Streaming, _) => "toUInt8(o.streaming)",
        (Key::Id, _) => "o.id",
        (Key::DataType, _) => "o.data_type",
        (Key::Source, _) => "o.source",
        (Key::Value, _) => "o.value",
        (Key::Comment, _) => "o.comment",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_keep_their_places_when_statements_are_joined() {
        let mut inner = Sql::new("a = ");
        for n in 0..11 {
            inner.integer(n).push(" b = ");
        }
        let mut outer = Sql::new("x = ");
        outer.text("first").push(" AND ").append(&inner);
        for at in 0..12 {
            assert_eq!(outer.text.matches(&format!("{{p{at}:")).count(), 1, "{}", outer.text);
        }
        assert!(outer.text.contains("a = {p1:Int64}") && outer.text.contains("{p11:Int64}"));
    }
}
