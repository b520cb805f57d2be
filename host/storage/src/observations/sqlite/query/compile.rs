//! From a filter to SQL.
//!
//! Rows are called `o` in every question. Each condition is true or false, never NULL (`IS TRUE`), so that its negation
//! is what people mean by it: `-user:ann` finds rows without a user too.

use rusqlite::types::Value as Parameter;

use super::super::super::query::filter::{Field, Filter, METADATA, Test, Value};
use super::super::super::query::parse::number;
use super::super::super::query::{Key, Query, SortBy, Subject};
use super::super::scores::SCHEMA;
use super::Beside;

/// A statement in the making.
pub(in super::super) struct Sql {
    pub(in super::super) text: String,
    pub(in super::super) values: Vec<Parameter>,
}

impl Sql {
    pub(in super::super) fn new(text: &str) -> Self {
        Self { text: text.to_owned(), values: Vec::new() }
    }

    /// Adds SQL. Never anything that a client wrote.
    pub(in super::super) fn push(&mut self, text: &str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    /// Adds a parameter.
    pub(in super::super) fn bind(&mut self, value: Parameter) -> &mut Self {
        self.values.push(value);
        self.text.push_str(&format!("?{}", self.values.len()));
        self
    }

    /// `(?, ?, …)`
    pub(in super::super) fn bind_all(&mut self, values: impl IntoIterator<Item = Parameter>) -> &mut Self {
        self.push("(");
        for (at, value) in values.into_iter().enumerate() {
            if at > 0 {
                self.push(", ");
            }
            self.bind(value);
        }
        self.push(")")
    }

    /// Narrows to what passes the filter. Nothing has what isn't beside the month's tables.
    pub(in super::super) fn filter(&mut self, filter: &Filter, subject: Subject, beside: Beside) {
        for term in &filter.terms {
            self.push(if term.negated { " AND NOT (" } else { " AND (" });
            self.test(&term.test, subject, beside);
            self.push(")");
        }
    }

    /// Orders, goes on after the place, and takes one row more than the page has.
    pub(in super::super) fn page(&mut self, query: &Query, value: &str, time: &str) {
        let by_time = query.sort.by == SortBy::Time;
        let columns: &[&str] = if by_time { &[time, "o.rid"] } else { &[value, time, "o.rid"] };
        let (comparison, direction) = if query.sort.descending { ("<", " DESC") } else { (">", "") };
        if let Some(after) = &query.after {
            self.push(&format!(" AND ({}) {comparison} ", columns.join(", ")));
            let place = [Parameter::Integer(after.start_us), Parameter::Integer(after.rid)];
            let first = (!by_time).then_some(Parameter::Real(after.value));
            self.bind_all(first.into_iter().chain(place));
        }
        let order = columns.join(&format!("{direction}, "));
        self.push(&format!(" ORDER BY {order}{direction} LIMIT "));
        self.bind(Parameter::Integer(i64::from(query.limit) + 1));
    }

    fn test(&mut self, test: &Test, subject: Subject, beside: Beside) {
        match test {
            Test::Words(text) => self.words(&text.to_lowercase(), subject),
            Test::AnyOf(field, _)
            | Test::Compare(field, ..)
            | Test::Range(field, ..)
            | Test::Present(field) => match field {
                Field::Score(_) if !beside.scores => {
                    self.push("FALSE");
                }
                Field::Score(name) => self.scores(name, test),
                Field::Metadata(name) => self.metadata(name, test, subject),
                Field::Key(Key::Tag) => self.tags(test, beside),
                Field::Key(Key::User) if beside.updates => {
                    let said = Self::said("user");
                    let column = format!(
                        "CASE WHEN EXISTS (SELECT 1 {said}) THEN (SELECT json_extract(u.value, '$') {said}) ELSE o.user END"
                    );
                    self.compare(&column, test);
                }
                Field::Key(Key::Bookmarked) if beside.updates => {
                    let said = Self::said("bookmarked");
                    self.compare(&format!("EXISTS (SELECT 1 {said} AND u.value = 'true')"), test);
                }
                Field::Key(Key::Model) => {
                    self.compare("o.model_requested", test);
                    self.push(" OR ");
                    self.compare("o.model_served", test);
                }
                Field::Key(Key::Value) => self.score_value("o", test),
                Field::Key(key) => self.compare(column(*key, subject), test),
            },
        }
    }

    /// What was said of the row's trace.
    fn said(member: &'static str) -> String {
        format!(
            "FROM {SCHEMA}.trace_updates u
             WHERE u.project = o.project AND u.trace_id = o.trace_id AND u.member = '{member}'"
        )
    }

    /// Its own, unless its trace was given others.
    fn tags(&mut self, test: &Test, beside: Beside) {
        let said = Self::said("tags");
        if beside.updates {
            self.push(&format!("(NOT EXISTS (SELECT 1 {said}) AND "));
        }
        self.push("EXISTS (SELECT 1 FROM json_each(o.tags) AS tag WHERE ");
        self.compare("tag.value", test);
        self.push(")");
        if beside.updates {
            let from = said.replacen("trace_updates u", "trace_updates u, json_each(u.value) AS tag", 1);
            self.push(&format!(") OR EXISTS (SELECT 1 {from} AND "));
            self.compare("tag.value", test);
            self.push(")");
        }
    }

    /// Full text: in names and bodies, or in a score's name, text and comment.
    fn words(&mut self, needle: &str, subject: Subject) {
        let text = || Parameter::Text(needle.to_owned());
        match subject {
            Subject::Observations => {
                self.push("brokle_has(o.name, ").bind(text());
                for body in ["input", "output"] {
                    self.push(
                        ") OR EXISTS (SELECT 1 FROM bodies b WHERE b.rid = o.rid AND brokle_body_has(b.",
                    );
                    self.push(body).push(", ").bind(text()).push(")");
                }
                self.push(")");
            }
            Subject::Scores => {
                for (at, column) in ["o.name", "o.text", "o.comment"].into_iter().enumerate() {
                    self.push(if at > 0 { ") OR brokle_has(" } else { "brokle_has(" });
                    self.push(column).push(", ").bind(text());
                }
                self.push(")");
            }
        }
    }

    fn metadata(&mut self, name: &str, test: &Test, subject: Subject) {
        let (column, prefixes) = match subject {
            Subject::Observations => ("o.attributes", &METADATA[..]),
            Subject::Scores => ("o.metadata", METADATA.split_at(1).0),
        };
        self.push(&format!("EXISTS (SELECT 1 FROM json_each({column}) AS item WHERE item.key IN "));
        self.bind_all(prefixes.iter().map(|prefix| Parameter::Text(format!("{prefix}{name}"))));
        self.push(" AND ");
        match test {
            Test::Compare(..) | Test::Range(..) => self.compare("brokle_number(item.value)", test),
            Test::Present(_) => {
                self.push("item.type <> 'null'");
            }
            _ => self.compare(
                "CASE item.type WHEN 'true' THEN 'true' WHEN 'false' THEN 'false' ELSE CAST(item.value AS TEXT) END",
                test,
            ),
        }
        self.push(")");
    }

    /// Scores on the observation, on its trace as a whole, or on its session.
    fn scores(&mut self, name: &str, test: &Test) {
        let places = [
            "s.trace_id = o.trace_id AND (s.span_id IS NULL OR s.span_id = o.span_id)",
            "s.session = o.session",
        ];
        for (at, place) in places.into_iter().enumerate() {
            self.push(if at > 0 { " OR " } else { "" });
            self.push(&format!("EXISTS (SELECT 1 FROM {SCHEMA}.scores s WHERE s.project = o.project AND {place} AND s.name = "));
            self.bind(Parameter::Text(name.to_owned()));
            self.push(" AND (");
            self.score_value("s", test);
            self.push("))");
        }
    }

    fn score_value(&mut self, table: &str, test: &Test) {
        let Test::AnyOf(_, values) = test else {
            if matches!(test, Test::Present(_)) {
                self.push("TRUE");
            } else {
                self.compare(&format!("{table}.value"), test);
            }
            return;
        };
        for (at, value) in values.iter().enumerate() {
            let Value::Text(text) = value else { continue };
            self.push(if at > 0 { " OR " } else { "" });
            self.push(&format!("({table}.text = ")).bind(Parameter::Text(text.clone())).push(") IS TRUE");
            if let Some(number) = number(text) {
                self.push(&format!(" OR ({table}.value = ")).bind(Parameter::Real(number)).push(") IS TRUE");
            }
            if let Ok(flag) = text.parse::<bool>() {
                self.push(&format!(" OR ({table}.data_type = 'boolean' AND {table}.value = "));
                self.bind(Parameter::Real(f64::from(u8::from(flag)))).push(")");
            }
        }
    }

    fn compare(&mut self, column: &str, test: &Test) {
        match test {
            Test::AnyOf(_, values) => {
                self.push(&format!("(({column}) IN "));
                self.bind_all(values.iter().map(parameter));
                self.push(") IS TRUE");
            }
            Test::Compare(_, op, value) => {
                self.push(&format!("(({column}) {} ", op.as_str())).bind(parameter(value)).push(") IS TRUE");
            }
            Test::Range(_, from, to) => {
                self.push("(TRUE");
                for (comparison, bound) in [(">=", from), ("<=", to)] {
                    if let Some(bound) = bound {
                        self.push(&format!(" AND ({column}) {comparison} ")).bind(parameter(bound));
                    }
                }
                self.push(") IS TRUE");
            }
            Test::Present(_) => {
                self.push(&format!("({column}) IS NOT NULL"));
            }
            Test::Words(_) => {
                self.push("FALSE");
            }
        }
    }
}

fn parameter(value: &Value) -> Parameter {
    match value {
        Value::Text(text) => Parameter::Text(text.clone()),
        Value::Number(number) => Parameter::Real(*number),
        Value::Time(micros) => Parameter::Integer(*micros),
        Value::Id(bytes) => Parameter::Blob(bytes.clone()),
        Value::Flag(flag) => Parameter::Integer((*flag).into()),
    }
}

/// A field's column. Those that need more than one are compiled apart.
const fn column(key: Key, subject: Subject) -> &'static str {
    match key {
        Key::Name => "o.name",
        Key::Type => "o.kind",
        Key::Status => "o.status",
        Key::Model => "o.model_requested",
        Key::Provider => "o.provider",
        Key::Connection => "o.connection",
        Key::Operation => "nullif(o.operation, '')",
        Key::User => "o.user",
        Key::Session => "o.session",
        Key::Tag => "o.tags",
        // Nobody said anything of any trace.
        Key::Bookmarked => "0",
        Key::Environment => "o.environment",
        Key::ApiKey => "o.key_id",
        Key::Request => "o.request_id",
        Key::Trace => "o.trace_id",
        Key::Span => "o.span_id",
        Key::Parent => "o.parent_span_id",
        Key::Time => match subject {
            Subject::Observations => "o.start_us",
            Subject::Scores => "o.timestamp_us",
        },
        Key::Duration => "o.duration_us",
        Key::FirstToken => "o.first_token_us",
        Key::Cost => "CAST(o.cost AS REAL)",
        Key::Tokens => "CASE WHEN o.usage_known THEN o.input_tokens + o.output_tokens END",
        Key::InputTokens => "CASE WHEN o.usage_known THEN o.input_tokens END",
        Key::OutputTokens => "CASE WHEN o.usage_known THEN o.output_tokens END",
        Key::CachedTokens => "CASE WHEN o.usage_known THEN o.cached_read END",
        Key::ReasoningTokens => "CASE WHEN o.usage_known THEN o.reasoning END",
        Key::StatusCode => "o.http_status",
        Key::FinishReason => "o.finish_reason",
        Key::Error => "o.error_class",
        Key::Streaming => "o.streaming",
        Key::Id => "o.id",
        Key::DataType => "o.data_type",
        Key::Source => "o.source",
        Key::Value => "o.value",
        Key::Comment => "o.comment",
    }
}
