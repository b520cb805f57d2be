//! Log records and metrics, in both encodings.

use brokle_core::signal::{LogRecord, MetricPoint};
use brokle_core::tenancy::Capture;
use serde_json::{Value, json};

use super::super::wire::Writer;
use super::super::{Decoded, Encoding, Signal, decode};
use super::harness::{NOW_US, START_NS, attributes, settings};

fn read(signal: Signal, encoding: Encoding, body: &[u8]) -> Decoded {
    decode(signal, encoding, body, &settings(Capture::Full)).unwrap()
}

fn grouped(outer: &str, inner: &str, items: &str, list: &[Value]) -> Vec<u8> {
    let scope = json!({ "scope": { "name": "lib" }, items: list });
    let resource = json!({ "attributes": attributes(json!({"service.name": "shop"})) });
    json!({ outer: [{ "resource": resource, inner: [scope] }] }).to_string().into_bytes()
}

fn log(more: Value) -> Value {
    let Value::Object(more) = more else { panic!("members are expected: {more}") };
    let mut log = json!({
        "timeUnixNano": START_NS.to_string(), "observedTimeUnixNano": START_NS + 1_000, "severityNumber": "SEVERITY_NUMBER_WARN2",
        "severityText": "WARNING", "body": { "stringValue": "disk almost full" }, "traceId": "5B8EFFF798038103D269B633813FC60C",
        "spanId": "eee19b7ec3c1b174", "attributes": attributes(json!({"disk": "sda", "free": 3})),
    });
    log.as_object_mut().unwrap().extend(more);
    log
}

fn logs_of(list: &[Value]) -> Vec<u8> {
    grouped("resourceLogs", "scopeLogs", "logRecords", list)
}

pub(super) fn logs() -> Vec<u8> {
    logs_of(&[log(json!({})), log(json!({"body": {"intValue": 3}}))])
}

fn metrics_of(list: &[Value]) -> Vec<u8> {
    grouped("resourceMetrics", "scopeMetrics", "metrics", list)
}

pub(super) fn metrics() -> Vec<u8> {
    let point = |more: Value| {
        let Value::Object(more) = more else { panic!("members are expected: {more}") };
        let mut point = json!({ "timeUnixNano": START_NS, "startTimeUnixNano": (START_NS - 1_000_000_000).to_string(),
            "attributes": attributes(json!({"host": "a"})) });
        point.as_object_mut().unwrap().extend(more);
        point
    };
    metrics_of(&[
        json!({ "name": "load", "unit": "1", "gauge": { "dataPoints": [point(json!({"asDouble": 0.5}))] } }),
        json!({ "name": "requests", "sum": { "isMonotonic": true, "aggregationTemporality": 2,
            "dataPoints": [point(json!({"asInt": "7"})), point(json!({"asInt": 9, "flags": 1, "attributes": []}))] } }),
        json!({ "name": "latency", "histogram": { "aggregationTemporality": "AGGREGATION_TEMPORALITY_DELTA", "dataPoints": [
            point(json!({"count": "3", "sum": 4.5, "min": 1, "max": "2", "bucketCounts": ["1", 2], "explicitBounds": [1.5]}))] } }),
        json!({ "name": "sizes", "exponentialHistogram": { "aggregationTemporality": 1, "dataPoints": [
            point(json!({"count": 3, "sum": 4, "scale": 0, "zeroCount": 1, "positive": {"offset": 0, "bucketCounts": [2]}}))] } }),
        json!({ "name": "waits", "summary": { "dataPoints": [
            point(json!({"count": 2, "sum": 3, "quantileValues": [{"quantile": 0.5, "value": 1.25}]}))] } }),
    ])
}

#[test]
fn a_log_record_is_read_and_is_the_same_when_it_comes_again() {
    let decoded = read(Signal::Logs, Encoding::Json, &logs());
    let [one, other] = &decoded.rows.logs[..] else { panic!("{decoded:?}") };
    let LogRecord { time_us, observed_us, severity_number, severity_text, body, service, scope, .. } = one;
    assert_eq!((*time_us, *observed_us), ((START_NS / 1_000) as i64, (START_NS / 1_000) as i64 + 1));
    assert_eq!(
        (*severity_number, severity_text.as_str(), body.as_str()),
        (14, "WARNING", "disk almost full")
    );
    assert_eq!((service.as_str(), scope.as_str()), ("shop", "lib"));
    assert_eq!(one.trace_id.unwrap().to_string(), "5b8efff798038103d269b633813fc60c");
    assert_eq!(json!(one.attributes), json!({"disk": "sda", "free": 3}));
    assert_eq!(other.body, "3", "what isn't a text is JSON");

    let twice = [log(json!({})), log(json!({}))];
    let ids = |body: &[u8]| -> Vec<u128> {
        read(Signal::Logs, Encoding::Json, body).rows.logs.iter().map(|log| log.id).collect()
    };
    let first = ids(&logs_of(&twice));
    assert_ne!(first[0], first[1], "two that say the same are two");
    assert_eq!(first, ids(&logs_of(&twice)), "sent again they are the same");
    assert_ne!(ids(&logs_of(&[log(json!({"severityText": "x"}))])), first[..1]);
}

#[test]
fn a_log_record_in_protobuf_is_the_same_as_in_json() {
    let text = |number, text: &str| Writer::default().bytes(number, text.as_bytes()).finish();
    let pair = |key: &str, value: &[u8]| Writer::default().bytes(1, key.as_bytes()).bytes(2, value).finish();
    let fixed = |number: u8, value: u64| [&[number << 3 | 1][..], &value.to_le_bytes()].concat();
    let record = [
        fixed(1, START_NS),
        fixed(11, START_NS + 1_000),
        Writer::default().integer(2, 14).bytes(3, b"WARNING").bytes(5, &text(1, "disk almost full")).finish(),
        Writer::default().bytes(6, &pair("disk", &text(1, "sda"))).finish(),
        Writer::default().bytes(6, &pair("free", &Writer::default().integer(3, 3).finish())).finish(),
        Writer::default()
            .bytes(9, &0x5b8e_fff7_9803_8103_d269_b633_813f_c60c_u128.to_be_bytes())
            .bytes(10, &0xeee1_9b7e_c3c1_b174_u64.to_be_bytes())
            .finish(),
    ]
    .concat();
    let scope = Writer::default().bytes(1, &text(1, "lib")).bytes(2, &record).finish();
    let resource = Writer::default().bytes(1, &pair("service.name", &text(1, "shop"))).finish();
    let group = Writer::default().bytes(1, &resource).bytes(2, &scope).finish();
    let body = Writer::default().bytes(1, &group).finish();
    let decoded = read(Signal::Logs, Encoding::Protobuf, &body);
    assert_eq!(decoded.rows.logs, read(Signal::Logs, Encoding::Json, &logs()).rows.logs[..1]);
}

#[test]
fn without_capture_a_log_says_nothing() {
    let decoded = decode(Signal::Logs, Encoding::Json, &logs(), &settings(Capture::Metadata)).unwrap();
    let kept = &decoded.rows.logs[0];
    assert_eq!((kept.body.as_str(), &kept.attributes["brokle.withheld"]), ("", &json!(2)));
    assert_eq!((kept.attributes.get("disk"), &kept.attributes["free"]), (None, &json!(3)));
    assert_eq!((kept.severity_number, kept.service.as_str()), (14, "shop"));
    let off = decode(Signal::Logs, Encoding::Json, &logs(), &settings(Capture::Off)).unwrap();
    assert!(off.rows.is_empty());
    assert_eq!(
        off.rejected.message(Signal::Logs),
        "the project keeps no logs: its capture setting is off (2 log records)"
    );
}

#[test]
fn clocks_that_cannot_be_right_are_told() {
    let list = [log(json!({"timeUnixNano": 0})), log(json!({"timeUnixNano": 5, "observedTimeUnixNano": 0}))];
    let decoded = read(Signal::Logs, Encoding::Json, &logs_of(&list));
    assert_eq!(decoded.rows.logs[0].time_us, (START_NS / 1_000) as i64 + 1, "when it was noticed");
    assert_eq!((decoded.rows.logs[1].time_us, decoded.rows.logs[1].observed_us), (NOW_US, NOW_US));
    assert_eq!(decoded.rows.logs[1].attributes["brokle.clock.time_unix_nano"], "5");
}

#[test]
fn points_of_every_kind_are_read() {
    let decoded = read(Signal::Metrics, Encoding::Json, &metrics());
    assert_eq!(decoded.rejected.message(Signal::Metrics), "");
    let points = decoded.rows.points;
    let of = |name: &str| points.iter().filter(|point| point.name == name).collect::<Vec<_>>();
    let [load] = of("load")[..] else { panic!("{points:?}") };
    assert_eq!((load.kind.as_str(), load.value, load.unit.as_str()), ("gauge", Some(0.5), "1"));
    assert_eq!(
        (load.time_us, load.start_us),
        ((START_NS / 1_000) as i64, (START_NS / 1_000) as i64 - 1_000_000)
    );
    assert_eq!((&load.attributes["host"], &load.resource["service.name"]), (&json!("a"), &json!("shop")));
    let [seven, none] = of("requests")[..] else { panic!("{points:?}") };
    assert_eq!((seven.value, none.value, seven.is_monotonic), (Some(7.0), None, true));
    assert_eq!(seven.temporality, "cumulative");
    assert!(seven.series != none.series && seven.series >= 0 && none.series >= 0);
    let [latency] = of("latency")[..] else { panic!("{points:?}") };
    let MetricPoint { count, sum, min, max, bucket_bounds, bucket_counts, temporality, .. } = latency;
    assert_eq!((*count, *sum, *min, *max, temporality.as_str()), (3, 4.5, Some(1.0), Some(2.0), "delta"));
    assert_eq!((&bucket_bounds[..], &bucket_counts[..]), (&[1.5][..], &[1, 2][..]));
    let [sizes] = of("sizes")[..] else { panic!("{points:?}") };
    assert_eq!(
        (&sizes.bucket_bounds[..], &sizes.bucket_counts[..]),
        (&[-0.0, 1.0, 2.0][..], &[0, 1, 2, 0][..])
    );
    let [half, whole] = of("waits")[..] else { panic!("{points:?}") };
    assert_eq!((half.value, &half.attributes["quantile"]), (Some(1.25), &json!("0.5")));
    assert_eq!((whole.count, whole.sum, whole.value), (2, 3.0, None));
}

#[test]
fn a_bad_point_costs_only_itself() {
    let good = json!({ "timeUnixNano": START_NS, "asInt": 1 });
    let list = [
        json!({ "name": "a", "gauge": { "dataPoints": [{"asInt": []}, good] } }),
        json!({ "name": "", "gauge": { "dataPoints": [good] } }),
        json!({ "name": "b", "heap": { "dataPoints": [good] } }),
        json!({ "name": "c", "gauge": { "dataPoints": 3 } }),
        json!({ "name": "d", "histogram": { "dataPoints": [{"bucketCounts": [1, 2], "explicitBounds": [1, 2, 3]}] } }),
        json!({ "name": "e", "gauge": { "dataPoints": [good] } }),
    ];
    let decoded = read(Signal::Metrics, Encoding::Json, &metrics_of(&list));
    let names: Vec<_> = decoded.rows.points.iter().map(|point| point.name.as_str()).collect();
    assert_eq!((names, decoded.rejected.count()), (vec!["a", "e"], 5));
    assert!(decoded.rejected.message(Signal::Metrics).contains("a metric needs a name (1 data point)"));
    let wrong = decode(Signal::Metrics, Encoding::Json, b"[]", &settings(Capture::Full)).unwrap_err();
    assert!(wrong.to_string().starts_with("the body isn't an ExportMetricsServiceRequest"), "{wrong}");
}
