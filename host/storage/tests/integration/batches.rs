//! Files and batches over both databases: quotas, leases, and answers that are counted once.

use brokle_core::clock::SystemClock;
use brokle_core::ids::{ApiKeyId, BatchId, FileId};
use brokle_core::money::Usd;
use brokle_core::random::SystemRandom;
use brokle_core::tenancy::Tenant;
use brokle_storage::sql::batches::{Batch, BatchLine, BatchStatus, End, Lease, Progress};
use brokle_storage::sql::budgets::SpendKey;
use brokle_storage::sql::files::{BeginError, File, Quota};
use brokle_storage::sql::{Database, Page, StorageError};
use serde_json::{Value, json};

use crate::harness::{Fixture, add_tenant, at, on_both_databases};

on_both_databases!(
    a_quota_holds_for_uploads_at_the_same_time,
    files_are_their_projects_and_have_an_end,
    a_lease_is_one_servers,
    answers_are_counted_once_and_leave_with_the_end,
    open_batches_are_bounded_and_found,
    a_providers_batch_is_looked_at_when_its_time_has_come,
);

fn file(tenant: Tenant, purpose: &str, bytes: i64) -> File {
    let id = FileId::generate(&SystemClock, &SystemRandom);
    File {
        id,
        organization: tenant.organization,
        project: tenant.project,
        filename: "lines.jsonl".into(),
        purpose: purpose.into(),
        bytes,
        blob: format!("{}/{id}", tenant.project),
        connection: None,
        vendor_id: None,
        created_at: at(0),
        expires_at: at(1_000),
    }
}

const ROOM: Quota = Quota { bytes: 1_000, files: 100 };

async fn stored(database: &Database, file: &File) {
    database.files().begin(file.organization, file, ROOM).await.unwrap();
    database.files().finish(file.organization, file.id).await.unwrap();
}

fn batch(tenant: Tenant, input: FileId) -> Batch {
    Batch {
        id: BatchId::generate(&SystemClock, &SystemRandom),
        tenant,
        key: ApiKeyId::generate(&SystemClock, &SystemRandom),
        endpoint: "/v1/embeddings".into(),
        input,
        metadata: json!({"a": "b"}),
        status: BatchStatus::Validating,
        errors: json!([]),
        counts: (0, 0, 0),
        output: None,
        failures: None,
        created_at: at(0),
        expires_at: at(500),
        in_progress_at: None,
        finalizing_at: None,
        cancelling_at: None,
        ended_at: None,
        connection: None,
        vendor_id: None,
    }
}

fn lease(batch: &Batch, holder: &str) -> Lease {
    Lease { organization: batch.tenant.organization, batch: batch.id, holder: holder.into() }
}

/// A file, a batch of it, and an answer.
pub(crate) async fn add_batch(database: &Database, tenant: Tenant) {
    let input = file(tenant, "batch", 1);
    stored(database, &input).await;
    let (one, batches) = (batch(tenant, input.id), database.batches());
    batches.create(tenant, &one, 10).await.unwrap();
    let held = lease(&one, "a");
    batches.lease(&held, at(1), at(10)).await.unwrap();
    let line = BatchLine { line: 0, succeeded: true, result: "{}".into() };
    batches.answer(&held, &line).await.unwrap();
}

async fn a_quota_holds_for_uploads_at_the_same_time(fixture: Fixture) {
    let database = fixture.migrated().await;
    let tenant = add_tenant(database, "acme").await;
    let quota = Quota { bytes: 1_000, files: 5 };
    let mut uploads = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let (database, file) = (database.clone(), file(tenant, "batch", 150));
        uploads.spawn(async move { database.files().begin(tenant.organization, &file, quota).await });
    }
    let answers = uploads.join_all().await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 5);
    assert!(answers.iter().flat_map(|answer| answer.as_ref().err()).all(|e| matches!(e, BeginError::Quota)));
    let big = file(tenant, "batch", 900);
    let refused = database.files().begin(tenant.organization, &big, ROOM).await;
    assert!(matches!(refused, Err(BeginError::Quota)));
    // Those that never ended are found, and make room.
    let stale = database.files().forgettable(at(1), at(1)).await.unwrap();
    assert_eq!(stale.len(), 5);
    for one in stale {
        database.files().delete(tenant.organization, tenant.project, one.id).await.unwrap();
    }
    stored(database, &big).await;
}

async fn files_are_their_projects_and_have_an_end(fixture: Fixture) {
    let database = fixture.migrated().await;
    let (ours, theirs) = (add_tenant(database, "acme").await, add_tenant(database, "umbrella").await);
    let files = database.files();
    let unfinished = file(ours, "batch", 1);
    files.begin(ours.organization, &unfinished, ROOM).await.unwrap();
    let (first, second) = (file(ours, "batch", 1), file(ours, "user_data", 2));
    stored(database, &first).await;
    stored(database, &second).await;
    assert_eq!(files.get(ours.organization, ours.project, first.id, at(1)).await.unwrap(), first);
    for (tenant, id, now) in
        [(theirs, first.id, at(1)), (ours, unfinished.id, at(1)), (ours, first.id, at(1_000))]
    {
        let missing = files.get(tenant.organization, tenant.project, id, now).await;
        assert!(matches!(missing, Err(StorageError::NotFound)));
    }
    let list = async |purpose, newest_first, after| {
        let page = Page { after, limit: 10 };
        let listed = files.list(ours.organization, ours.project, purpose, newest_first, page, at(1)).await;
        listed.unwrap().into_iter().map(|file| file.id).collect::<Vec<_>>()
    };
    let (older, newer) = (first.id.min(second.id), first.id.max(second.id));
    assert_eq!(list("", true, None).await, [newer, older]);
    assert_eq!(list("", true, Some(newer)).await, [older]);
    assert_eq!(list("", false, Some(older)).await, [newer]);
    assert_eq!(list("user_data", true, None).await, [second.id]);
    let foreign = files.delete(theirs.organization, theirs.project, first.id).await;
    assert!(matches!(foreign, Err(StorageError::NotFound)));
    // What a batch needs yet stays.
    let asked = batch(ours, first.id);
    assert!(database.batches().create(ours, &asked, 10).await.unwrap());
    let old = files.forgettable(at(1_000), at(0)).await.unwrap();
    assert_eq!(old.iter().filter(|file| file.id == first.id).count(), 0, "{old:?}");
    assert_eq!(old.iter().filter(|file| file.id == second.id).count(), 1);
    assert!(database.batches().uses(ours.organization, ours.project, first.id).await.unwrap());
    assert!(!database.batches().uses(theirs.organization, theirs.project, first.id).await.unwrap());
}

async fn a_lease_is_one_servers(fixture: Fixture) {
    let database = fixture.migrated().await;
    let tenant = add_tenant(database, "acme").await;
    let one = batch(tenant, FileId::generate(&SystemClock, &SystemRandom));
    let batches = database.batches();
    batches.create(tenant, &one, 10).await.unwrap();
    let (a, b) = (lease(&one, "a"), lease(&one, "b"));
    assert_eq!(batches.lease(&a, at(1), at(10)).await.unwrap().unwrap().metadata, one.metadata);
    assert!(batches.lease(&b, at(5), at(15)).await.unwrap().is_none());
    assert!(batches.lease(&a, at(5), at(15)).await.unwrap().is_some(), "it is kept");
    assert!(matches!(batches.begin(&b, 2, at(6)).await, Err(StorageError::NotFound)));
    batches.begin(&a, 2, at(6)).await.unwrap();
    assert_eq!(batches.next(at(6), 4).await.unwrap(), None);
    assert_eq!(batches.next(at(16), 4).await.unwrap(), Some((tenant.organization, one.id)));
    assert!(batches.lease(&b, at(16), at(26)).await.unwrap().is_some(), "the first one is late");
    let line = BatchLine { line: 0, succeeded: true, result: "{}".into() };
    assert!(matches!(batches.answer(&a, &line).await, Err(StorageError::NotFound)));
    batches.answer(&b, &line).await.unwrap();
    batches.release(&b).await.unwrap();
    assert!(batches.next(at(17), 4).await.unwrap().is_some());
    let now = batches.get(tenant.organization, tenant.project, one.id).await.unwrap();
    assert_eq!((now.status, now.counts), (BatchStatus::InProgress, (2, 1, 0)));
}

async fn answers_are_counted_once_and_leave_with_the_end(fixture: Fixture) {
    let database = fixture.migrated().await;
    let (tenant, other) = (add_tenant(database, "acme").await, add_tenant(database, "umbrella").await);
    let one = batch(tenant, FileId::generate(&SystemClock, &SystemRandom));
    let (batches, held) = (database.batches(), lease(&one, "a"));
    batches.create(tenant, &one, 10).await.unwrap();
    batches.lease(&held, at(1), at(10)).await.unwrap();
    batches.begin(&held, 3, at(2)).await.unwrap();
    for (line, succeeded) in [(2, true), (0, true), (1, false)] {
        let answer = BatchLine { line, succeeded, result: format!("{{\"n\":{line}}}") };
        batches.answer(&held, &answer).await.unwrap();
        assert!(matches!(batches.answer(&held, &answer).await, Err(StorageError::Conflict(_))));
    }
    let mut answered = batches.answered(tenant.organization, one.id).await.unwrap();
    answered.sort_unstable();
    assert_eq!(answered, [0, 1, 2]);
    assert!(batches.answered(other.organization, one.id).await.unwrap().is_empty());
    let good = batches.answers(tenant.organization, one.id, true, -1, 1).await.unwrap();
    assert_eq!(good, [BatchLine { line: 0, succeeded: true, result: "{\"n\":0}".into() }]);
    assert_eq!(batches.answers(tenant.organization, one.id, true, 0, 9).await.unwrap()[0].line, 2);
    batches.finalize(&held, at(3)).await.unwrap();
    // It is too late to end it otherwise.
    let late = batches.cancel(tenant.organization, tenant.project, one.id, at(4)).await.unwrap();
    assert_eq!((late.status, late.counts), (BatchStatus::Finalizing, (3, 2, 1)));
    let (output, failures) = (file(tenant, "batch_output", 9), file(tenant, "batch_output", 9));
    let (output, failures) = (Some(&output), Some(&failures));
    let key = |organization, subject: &str| SpendKey {
        organization,
        budget: "monthly".into(),
        subject: subject.into(),
        period: "month",
        start: at(0),
    };
    let errors = &Value::Array(Vec::new());
    let ended = |spent| End { status: BatchStatus::Completed, errors, output, failures, spent };
    let dollars = |text: &str| text.parse::<Usd>().unwrap();
    let theirs = [(key(other.organization, "b"), dollars("1"))];
    let refused = batches.end(&held, ended(&theirs), at(5)).await;
    assert!(matches!(refused, Err(StorageError::NotFound)), "{refused:?}");
    let spent =
        [(key(tenant.organization, "b"), dollars("2")), (key(tenant.organization, "a"), dollars("1"))];
    let sums = batches.end(&held, ended(&spent), at(5)).await.unwrap();
    assert_eq!(sums, [dollars("2"), dollars("1")]);
    let again = batches.end(&held, ended(&spent), at(5)).await;
    assert!(matches!(again, Err(StorageError::NotFound)), "{again:?}");
    let sums = database.budgets().changed(at(0), at(0)).await.unwrap();
    assert_eq!(sums.iter().map(|row| row.spent).sum::<Usd>(), dollars("3"), "charged once, and with the end");
    let now = batches.get(tenant.organization, tenant.project, one.id).await.unwrap();
    assert_eq!((now.output, now.ended_at), (output.map(|file| file.id), Some(at(5))));
    assert!(
        database.files().get(tenant.organization, tenant.project, now.failures.unwrap(), at(5)).await.is_ok()
    );
    assert!(batches.answered(tenant.organization, one.id).await.unwrap().is_empty());
    assert!(batches.lease(&held, at(6), at(16)).await.unwrap().is_none(), "it has ended");
}

async fn open_batches_are_bounded_and_found(fixture: Fixture) {
    let database = fixture.migrated().await;
    let (ours, theirs) = (add_tenant(database, "acme").await, add_tenant(database, "umbrella").await);
    let batches = database.batches();
    let input = FileId::generate(&SystemClock, &SystemRandom);
    let (first, second) = (batch(ours, input), batch(ours, input));
    assert!(batches.create(ours, &first, 2).await.unwrap());
    assert!(batches.create(ours, &second, 2).await.unwrap());
    assert!(!batches.create(ours, &batch(ours, input), 2).await.unwrap());
    let third = batch(theirs, input);
    assert!(batches.create(theirs, &third, 2).await.unwrap(), "others have their own");
    let (older, newer) = (first.id.min(second.id), first.id.max(second.id));
    // Whoever has fewest at work is next, and nobody has more than one here. Ids of one millisecond have any order.
    let mut expected = [(older, ours.organization), (third.id, theirs.organization)];
    expected.sort_unstable();
    let mut taken = Vec::new();
    while let Some((organization, id)) = batches.next(at(1), 1).await.unwrap() {
        let held = Lease { organization, batch: id, holder: "a".into() };
        batches.lease(&held, at(1), at(10)).await.unwrap();
        taken.push(organization);
    }
    assert_eq!(taken, expected.map(|(_, organization)| organization));
    assert_eq!(batches.next(at(1), 2).await.unwrap().unwrap().0, ours.organization);
    let cancelled = batches.cancel(ours.organization, ours.project, first.id, at(2)).await.unwrap();
    assert_eq!((cancelled.status, cancelled.cancelling_at), (BatchStatus::Cancelling, Some(at(2))));
    for (tenant, id) in [(theirs, first.id), (ours, BatchId::generate(&SystemClock, &SystemRandom))] {
        let missing = batches.get(tenant.organization, tenant.project, id).await;
        assert!(matches!(missing, Err(StorageError::NotFound)));
        let missing = batches.cancel(tenant.organization, tenant.project, id, at(3)).await;
        assert!(matches!(missing, Err(StorageError::NotFound)));
    }
    let list = async |after| {
        let listed = batches.list(ours.organization, ours.project, Page { after, limit: 10 }).await.unwrap();
        listed.into_iter().map(|batch| batch.id).collect::<Vec<_>>()
    };
    assert_eq!(list(None).await, [newer, older]);
    assert_eq!(list(Some(newer)).await, [older]);
}

async fn a_providers_batch_is_looked_at_when_its_time_has_come(fixture: Fixture) {
    let database = fixture.migrated().await;
    let tenant = add_tenant(database, "acme").await;
    let input = File { blob: String::new(), connection: Some("theirs".into()), ..file(tenant, "batch", 9) };
    database.files().begin(tenant.organization, &input, ROOM).await.unwrap();
    let kept =
        File { vendor_id: Some("file-1".into()), bytes: 7, filename: "named.jsonl".into(), ..input.clone() };
    database.files().finish_native(&kept).await.unwrap();
    let read = database.files().get(tenant.organization, tenant.project, input.id, at(1)).await.unwrap();
    assert_eq!(read, kept);
    let twice = database.files().finish_native(&kept).await;
    assert!(matches!(twice, Err(StorageError::NotFound)));
    let (batches, one) =
        (database.batches(), Batch { connection: Some("theirs".into()), ..batch(tenant, input.id) });
    batches.create(tenant, &one, 10).await.unwrap();
    let (held, late) = (lease(&one, "a"), lease(&one, "b"));
    batches.lease(&held, at(1), at(10)).await.unwrap();
    batches.name(&held, Some("batch_1")).await.unwrap();
    assert!(matches!(batches.name(&late, None).await, Err(StorageError::NotFound)));
    let progress = Progress {
        status: BatchStatus::InProgress,
        counts: (3, 1, 0),
        in_progress_at: Some(at(2)),
        finalizing_at: None,
    };
    assert!(matches!(batches.progress(&late, &progress).await, Err(StorageError::NotFound)));
    let now = batches.progress(&held, &progress).await.unwrap();
    let later = Progress { in_progress_at: Some(at(3)), ..progress.clone() };
    assert_eq!(
        batches.progress(&held, &later).await.unwrap().in_progress_at,
        Some(at(2)),
        "the first time counts"
    );
    assert_eq!(
        (now.vendor_id.as_deref(), now.counts, now.status),
        (Some("batch_1"), (3, 1, 0), BatchStatus::InProgress)
    );
    batches.ask_again(&held, BatchStatus::InProgress, at(20)).await.unwrap();
    assert_eq!(batches.next(at(19), 4).await.unwrap(), None, "nobody looks before");
    assert!(batches.next(at(20), 4).await.unwrap().is_some());
    // Cancelled, it is looked at at once, also when that comes in the middle of a look.
    batches.cancel(tenant.organization, tenant.project, one.id, at(5)).await.unwrap();
    assert!(batches.next(at(6), 4).await.unwrap().is_some());
    batches.lease(&held, at(6), at(10)).await.unwrap();
    batches.ask_again(&held, BatchStatus::InProgress, at(20)).await.unwrap();
    assert!(batches.next(at(7), 4).await.unwrap().is_some());
    batches.lease(&held, at(7), at(10)).await.unwrap();
    assert_eq!(batches.progress(&held, &progress).await.unwrap().status, BatchStatus::Cancelling);
    batches.ask_again(&held, BatchStatus::Cancelling, at(20)).await.unwrap();
    assert_eq!(batches.next(at(8), 4).await.unwrap(), None);
}
