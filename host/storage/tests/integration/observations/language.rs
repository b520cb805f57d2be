//! The filter language by itself.

use brokle_storage::observations::query::filter::{Field, Filter, Op, Term, Test, Value};
use brokle_storage::observations::query::{Key, Subject};
use proptest::prelude::*;

fn parse(text: &str) -> Result<Filter, (usize, String)> {
    Filter::parse(text, Subject::Observations).map_err(|error| (error.at, error.message))
}

#[test]
fn errors_say_where_and_what() {
    let cases = [
        ("nope:1", 0, "there is no such field"),
        ("status:ok colour:red", 10, "there is no such field"),
        ("name:", 5, "a text of at least one character"),
        ("name:a,,b", 7, "a text of at least one character"),
        ("status:fine", 7, "ok, error, aborted or timeout"),
        ("type:thing", 5, "a type is expected"),
        ("duration:>soon", 10, "a duration is expected"),
        ("duration:1s..x", 13, "a duration is expected"),
        ("cost:>inf", 6, "a number is expected"),
        ("cost:>1e999", 6, "a number is expected"),
        ("time:>yesterday", 6, "a time is expected"),
        ("trace:ABC", 6, "a trace's id is expected"),
        ("name:>a", 6, "this field has no order"),
        ("cost:..", 5, "a range has at least one bound"),
        ("name:\"open", 5, "this quote isn't closed"),
        ("\"a\"b", 3, "isn't expected here"),
        ("name:a\"b\"", 6, "isn't expected here"),
        (r#""\n""#, 1, "a backslash stands before"),
        ("metadata.:x", 0, "a name is expected"),
        ("-", 1, "a word is expected"),
        ("äöü nope:1", 7, "there is no such field"),
    ];
    for (text, at, message) in cases {
        let error = parse(text).expect_err(text);
        assert!(error.0 == at && error.1.contains(message), "{text}: {error:?}");
    }
    assert!(Filter::parse("scores.x:1", Subject::Scores).is_err());
    assert!(Filter::parse("value:1", Subject::Observations).is_err());
    for long in ["a".repeat(4_097), "a ".repeat(33), format!("name:{}", vec!["a"; 201].join(","))] {
        assert!(parse(&long).unwrap_err().1.contains("at most"));
    }
    assert!(parse(&"a ".repeat(32)).is_ok() && parse(&format!("name:{}", vec!["a"; 200].join(","))).is_ok());
}

fn value(field: &Field, compared: bool) -> BoxedStrategy<Value> {
    use brokle_storage::observations::query::fields::Kind;
    let text = || "\\PC{1,8}".prop_map(Value::Text).boxed();
    let number = || any::<i32>().prop_map(|number| Value::Number(f64::from(number) / 8.0)).boxed();
    match field.kind() {
        Kind::Any if compared => number(),
        Kind::Text | Kind::Any => text(),
        Kind::ObservationKind => Just(Value::Text("tool".to_owned())).boxed(),
        Kind::Status => Just(Value::Text("aborted".to_owned())).boxed(),
        Kind::Number | Kind::Duration => number(),
        Kind::Time => (0..4_000_000_000_000_000_i64).prop_map(Value::Time).boxed(),
        Kind::TraceId => any::<[u8; 15]>().prop_map(|id| Value::Id([&[1], &id[..]].concat())).boxed(),
        Kind::SpanId => any::<[u8; 7]>().prop_map(|id| Value::Id([&[1], &id[..]].concat())).boxed(),
        Kind::Ulid => any::<[u8; 16]>().prop_map(|id| Value::Id(id.to_vec())).boxed(),
        Kind::Flag => any::<bool>().prop_map(Value::Flag).boxed(),
    }
}

fn term() -> impl Strategy<Value = Term> {
    let keys: Vec<_> = Key::ALL.iter().copied().filter(|key| key.is_of(Subject::Observations)).collect();
    let field = prop_oneof![
        4 => proptest::sample::select(keys).prop_map(Field::Key),
        1 => "\\PC{1,6}".prop_map(Field::Metadata),
        1 => "\\PC{1,6}".prop_map(Field::Score),
    ];
    let test = field.prop_flat_map(|field| {
        let mut tests = vec![
            Just(Test::Present(field.clone())).boxed(),
            proptest::collection::vec(value(&field, false), 1..4)
                .prop_map({
                    let field = field.clone();
                    move |values| Test::AnyOf(field.clone(), values)
                })
                .boxed(),
            "\\PC{1,8}".prop_map(Test::Words).boxed(),
        ];
        if field.kind().has_order() {
            let ops = proptest::sample::select(vec![Op::Greater, Op::AtLeast, Op::Less, Op::AtMost]);
            let compared = field.clone();
            tests.push(
                (ops, value(&field, true))
                    .prop_map(move |(op, value)| Test::Compare(compared.clone(), op, value))
                    .boxed(),
            );
            let bounds = (value(&field, true), proptest::option::of(value(&field, true)), any::<bool>());
            tests.push(
                bounds
                    .prop_map(move |(one, other, first)| {
                        let (from, to) = if first { (Some(one), other) } else { (other, Some(one)) };
                        Test::Range(field.clone(), from, to)
                    })
                    .boxed(),
            );
        }
        proptest::strategy::Union::new(tests)
    });
    (any::<bool>(), test).prop_map(|(negated, test)| Term { negated, test })
}

proptest! {
    #[test]
    fn any_text_is_a_filter_or_an_error(text in "\\PC{0,60}|[a-z:.\"><=,*\\\\ -]{0,40}") {
        if let Err((at, _)) = parse(&text) {
            prop_assert!(at <= text.len() && text.is_char_boundary(at));
        }
    }

    #[test]
    fn the_canonical_text_reads_back(terms in proptest::collection::vec(term(), 0..6)) {
        let filter = Filter { terms };
        let text = filter.to_string();
        prop_assert_eq!(parse(&text), Ok(filter), "{}", text);
    }
}
