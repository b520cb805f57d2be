//! Large inputs and outputs: blobs beside rows, whichever store has the rows.

use std::sync::Arc;

use brokle_core::observation::Observation;
use brokle_storage::blobs::{BlobStore as _, Folder};
use brokle_storage::observations::payloads::{MAX_EXPORTED, PREVIEW};
use brokle_storage::observations::query::{Filter, Query};
use brokle_storage::observations::{AnalyticsError, Arrivals, Inserted, Mark, Month, Payloads};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::super::tenant;
use super::{Store, at, on_every_store, year};

const INLINE: usize = 4 << 10;

on_every_store!(
    a_large_body_is_short_in_lists_and_whole_in_its_trace,
    no_attribute_leads_to_anothers_blob,
    blobs_go_with_their_rows,
    without_blobs_rows_keep_everything,
    what_goes_elsewhere_is_whole_and_bounded,
    what_goes_elsewhere_waits_for_its_blobs,
);

/// The store with blobs around it.
fn apart(mut store: Store) -> (Store, Arc<Folder>, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let blobs = Arc::new(Folder::new(directory.path().join("blobs")));
    store.store = Arc::new(Payloads::new(store.store, blobs.clone(), INLINE).unwrap());
    (store, blobs, directory)
}

/// JSON of so many bytes.
fn body(letter: char, bytes: usize) -> String {
    json!(letter.to_string().repeat(bytes - 2)).to_string()
}

fn large(store: &Store, start: &str) -> Observation {
    let (input, output) = (body('i', INLINE + 1), body('é', 3 * INLINE));
    Observation { input: Some(input.into()), output: Some(output.into()), ..store.call(start, start) }
}

async fn listed(store: &Store) -> Vec<(Value, Value, Value)> {
    let query = Query { bodies: true, ..year() };
    let page = store.store.observations(store.tenant.project, query).await.unwrap();
    let json = |raw: &serde_json::value::RawValue| serde_json::from_str(raw.get()).unwrap();
    let shown = page.data.iter().map(|row| {
        let attributes = Value::Object(row.summary.attributes.clone());
        (
            row.input.as_deref().map_or(Value::Null, json),
            row.output.as_deref().map_or(Value::Null, json),
            attributes,
        )
    });
    shown.collect()
}

fn path(call: &Observation, field: &str) -> String {
    format!("{}/payloads/{}/{}-{field}", call.tenant.project, call.trace_id, call.span_id)
}

async fn a_large_body_is_short_in_lists_and_whole_in_its_trace(store: Store) {
    let (store, blobs, _directory) = apart(store);
    let call = large(&store, "2026-03-01T00:00:00Z");
    let small =
        Observation { input: Some(body('s', INLINE).into()), ..store.call("small", "2026-03-02T00:00:00Z") };
    store.store.insert(&[call.clone(), small], &mut Inserted::default()).unwrap();
    // It comes again, and says something else: the first stays.
    let again = Observation { input: Some(body('x', 2 * INLINE).into()), ..call.clone() };
    let mut inserted = Inserted::default();
    store.store.insert(&[again], &mut inserted).unwrap();
    assert_eq!(inserted, Inserted { rows: 0, duplicates: 1 });

    let rows = listed(&store).await;
    assert_eq!(rows[0].0, json!("s".repeat(INLINE - 2)), "not a byte too many");
    assert!(rows[0].2.as_object().unwrap().is_empty(), "{}", rows[0].2);
    let (input, output, attributes) = &rows[1];
    assert_eq!(input.as_str().unwrap(), &body('i', INLINE + 1)[..PREVIEW]);
    let output = output.as_str().unwrap();
    assert!((PREVIEW - 1..=PREVIEW).contains(&output.len()) && !output.contains('\u{fffd}'), "{output}");
    let whole = json!({"brokle.input.blob_bytes": INLINE + 1, "brokle.output.blob_bytes": call.output.as_ref().unwrap().len()});
    assert_eq!(attributes, &whole);
    assert!(
        blobs.exists(&path(&call, "input")).await.unwrap()
            && blobs.exists(&path(&call, "output")).await.unwrap()
    );

    let trace = store.store.trace(store.tenant.project, call.trace_id).await.unwrap().unwrap();
    let node = &trace.observations[0];
    assert_eq!(node.input.as_ref().unwrap().get(), body('i', INLINE + 1));
    assert_eq!(node.output.as_ref().unwrap().get().as_bytes(), call.output.as_ref().unwrap());
    assert!(store.store.trace(tenant().project, call.trace_id).await.unwrap().is_none(), "another project");
}

async fn no_attribute_leads_to_anothers_blob(mut store: Store) {
    let ours = store.tenant;
    store.tenant = tenant();
    let (mut store, _, _directory) = apart(store);
    let theirs = large(&store, "2026-03-01T00:00:00Z");
    store.store.insert(std::slice::from_ref(&theirs), &mut Inserted::default()).unwrap();
    // The same trace and span in another project, and it claims to have a blob.
    store.tenant = ours;
    let mut forged =
        Observation { tenant: ours, input: Some(r#""mine""#.into()), output: None, ..theirs.clone() };
    forged.attributes.insert("brokle.input.blob_bytes".to_owned(), json!(INLINE + 1));
    store.store.insert(&[forged], &mut Inserted::default()).unwrap();
    let trace = store.store.trace(ours.project, theirs.trace_id).await.unwrap().unwrap();
    assert_eq!(trace.observations[0].input.as_ref().unwrap().get(), r#""mine""#);
    assert!(trace.observations[0].summary.attributes.is_empty());
}

async fn blobs_go_with_their_rows(store: Store) {
    let (store, blobs, _directory) = apart(store);
    let calls: Vec<_> = ["2026-01-31T00:00:00Z", "2026-03-01T00:00:00Z", "2026-03-02T00:00:00Z"]
        .map(|start| large(&store, start))
        .into();
    store.store.insert(&calls, &mut Inserted::default()).unwrap();
    let there = async || {
        let mut there = Vec::new();
        for call in &calls {
            there.push(blobs.exists(&path(call, "output")).await.unwrap());
        }
        there
    };
    let march = Month::new(2026, 3).unwrap();
    assert_eq!(store.store.retain(march, true).await.unwrap().blobs, 2);
    assert_eq!(there().await, [true; 3], "a dry run deletes nothing");
    let removed = store.store.retain(march, false).await.unwrap();
    assert_eq!((removed.observations, removed.blobs), (1, 2));
    assert_eq!(there().await, [false, true, true]);
    let (project, time) = (store.tenant.project, at("2026-01-01T00:00:00Z")..at("2026-03-02T00:00:00Z"));
    let removed = store.store.expire(project, time.clone(), false).await.unwrap();
    assert_eq!((removed.observations, removed.blobs), (1, 2));
    assert_eq!(there().await, [false, false, true]);
    assert_eq!(store.store.expire(project, time, false).await.unwrap(), Default::default());
}

async fn arrivals(store: &Store, after: &Mark) -> Result<Arrivals, AnalyticsError> {
    store.store.arrivals(store.tenant.project, Filter::default(), after.clone(), None, 100).await
}

async fn what_goes_elsewhere_is_whole_and_bounded(store: Store) {
    let (store, _, _directory) = apart(store);
    let most = usize::try_from(MAX_EXPORTED).unwrap();
    let call = |name, letter, bytes| Observation {
        input: Some(body(letter, bytes).into()),
        ..store.call(name, "2026-03-01T00:00:00Z")
    };
    let mut calls: Vec<_> = (0..7).map(|n| call("large", char::from(b'a' + n), 1 << 20)).collect();
    calls.push(call("most", 'm', most));
    calls.push(call("too large", 't', most + 1));
    calls.push(call("small", 's', 100));
    store.store.insert(&calls, &mut Inserted::default()).unwrap();
    let (mut mark, mut found) = (Mark::default(), Vec::new());
    loop {
        let page = arrivals(&store, &mark).await.unwrap();
        let bodies: usize = page.rows.iter().map(|row| row.node.input.as_ref().unwrap().get().len()).sum();
        assert!(bodies < (2 << 20) + most, "an answer has {bodies} bytes");
        mark = page.end;
        found.extend(page.rows);
        if !page.more {
            break;
        }
    }
    assert_eq!(found.len(), calls.len(), "each once");
    for (call, row) in calls.iter().zip(&found) {
        assert_eq!(row.node.summary.span_id, call.span_id);
        let (given, got) = (call.input.as_ref().unwrap(), row.node.input.as_ref().unwrap().get().as_bytes());
        if call.name == "too large" {
            assert!(
                got.len() <= PREVIEW + 10
                    && row.node.summary.attributes.contains_key("brokle.input.blob_bytes")
            );
        } else {
            assert_eq!(got, given, "{}", call.name);
        }
    }
}

async fn what_goes_elsewhere_waits_for_its_blobs(store: Store) {
    let (store, blobs, directory) = apart(store);
    let call = large(&store, "2026-03-01T00:00:00Z");
    store.store.insert(std::slice::from_ref(&call), &mut Inserted::default()).unwrap();
    // Another file system that isn't mounted, so to say.
    let [there, away] = ["blobs", "away"].map(|name| directory.path().join(name));
    std::fs::rename(&there, &away).unwrap();
    std::fs::write(&there, "a file").unwrap();
    let answer = arrivals(&store, &Mark::default()).await;
    assert!(matches!(answer, Err(AnalyticsError::Unavailable(_))), "{answer:?}");
    std::fs::remove_file(&there).unwrap();
    std::fs::rename(&away, &there).unwrap();
    let page = arrivals(&store, &Mark::default()).await.unwrap();
    assert_eq!(page.rows[0].node.output.as_ref().unwrap().get().as_bytes(), call.output.as_ref().unwrap());
    // One that somebody deleted holds nothing up.
    blobs.delete(&path(&call, "output")).await.unwrap();
    let page = arrivals(&store, &Mark::default()).await.unwrap();
    assert!(page.rows[0].node.output.as_ref().unwrap().get().len() <= PREVIEW + 10);
}

async fn without_blobs_rows_keep_everything(store: Store) {
    let (store, _, directory) = apart(store);
    // Nobody can make a folder there.
    std::fs::write(directory.path().join("blobs"), "a file").unwrap();
    let call = large(&store, "2026-03-01T00:00:00Z");
    store.store.insert(std::slice::from_ref(&call), &mut Inserted::default()).unwrap();
    let trace = store.store.trace(store.tenant.project, call.trace_id).await.unwrap().unwrap();
    assert_eq!(trace.observations[0].input.as_ref().unwrap().get(), body('i', INLINE + 1));
    assert!(trace.observations[0].summary.attributes.is_empty());
}
