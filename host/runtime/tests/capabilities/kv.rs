//! Keys and values: apart by tenant, within quotas, gone in time.

use brokle_testkit::mocks::MockHost;
use chrono::TimeDelta;

use crate::harness::{Fixture, everything};

#[tokio::test]
async fn values_outlive_the_instance_and_stay_with_their_tenant() {
    let fixture = Fixture::new().await;
    let granted = fixture.grant(&everything());
    let (ours, theirs) = (MockHost::tenant(1), MockHost::tenant(2));
    assert_eq!(fixture.tell_for(&granted, ours, "kv set a/1 one").await, "Ok(1)");
    assert_eq!(fixture.tell_for(&granted, ours, "kv get a/1").await, r#"Ok(Some(("one", 1, None)))"#);
    // Another tenant sees, lists, changes and deletes nothing of it.
    assert_eq!(fixture.tell_for(&granted, theirs, "kv get a/1").await, "Ok(None)");
    assert_eq!(fixture.tell_for(&granted, theirs, "kv list  none 10").await, "Ok(([], None))");
    assert_eq!(fixture.tell_for(&granted, theirs, "kv delete a/1").await, "Ok(false)");
    assert_eq!(fixture.tell_for(&granted, theirs, "kv cas a/1 1 x").await, "Err(Error::Conflict(None))");
    assert_eq!(fixture.tell_for(&granted, theirs, "kv set a/1 theirs").await, "Ok(1)");
    assert_eq!(fixture.tell_for(&granted, ours, "kv get a/1").await, r#"Ok(Some(("one", 1, None)))"#);
    assert_eq!(fixture.tell_for(&granted, ours, "kv delete a/1").await, "Ok(true)");
    assert_eq!(fixture.tell_for(&granted, theirs, "kv get a/1").await, r#"Ok(Some(("theirs", 1, None)))"#);
    // A revision isn't used twice.
    assert_eq!(fixture.tell_for(&granted, ours, "kv set a/1 again").await, "Ok(2)");
}

#[tokio::test]
async fn lists_go_page_by_page() {
    let fixture = Fixture::new().await;
    let granted = fixture.grant(&everything());
    for key in ["a/2", "a/1", "b", "a/3"] {
        fixture.tell(&granted, &format!("kv set {key} x")).await;
    }
    assert_eq!(fixture.tell(&granted, "kv list a/ none 2").await, r#"Ok((["a/1", "a/2"], Some("a/2")))"#);
    assert_eq!(fixture.tell(&granted, "kv list a/ a/2 2").await, r#"Ok((["a/3"], None))"#);
    assert!(fixture.tell(&granted, "kv list a/ none 0").await.contains("Invalid"));
    assert!(fixture.tell(&granted, "kv list a/ none 1001").await.contains("Invalid"));
}

#[tokio::test]
async fn values_are_gone_in_time() {
    let fixture = Fixture::new().await;
    let granted = fixture.grant(&everything());
    fixture.tell(&granted, "kv set a x 1000").await;
    fixture.host.clock.advance(TimeDelta::milliseconds(400));
    assert_eq!(fixture.tell(&granted, "kv get a").await, r#"Ok(Some(("x", 1, Some(600))))"#);
    fixture.host.clock.advance(TimeDelta::milliseconds(600));
    assert_eq!(fixture.tell(&granted, "kv get a").await, "Ok(None)");
    assert_eq!(fixture.tell(&granted, "kv list  none 9").await, "Ok(([], None))");
    assert_eq!(fixture.tell(&granted, "kv delete a").await, "Ok(false)");
    assert_eq!(fixture.tell(&granted, "kv cas a none y").await, "Ok(2)");
    assert!(fixture.tell(&granted, "kv set a x 99999999999").await.contains("Invalid"));
}

#[tokio::test]
async fn of_many_that_expect_the_same_one_succeeds() {
    let fixture = Fixture::new().await;
    let granted = fixture.grant(&everything());
    fixture.tell(&granted, "kv set n 0").await;
    let race = ["kv cas n 1 a", "kv cas n 1 b", "kv cas n 1 c"];
    let (a, b, c) = tokio::join!(
        fixture.tell(&granted, race[0]),
        fixture.tell(&granted, race[1]),
        fixture.tell(&granted, race[2])
    );
    let mut came = [a, b, c];
    came.sort();
    assert_eq!(came, ["Err(Error::Conflict(Some(2)))", "Err(Error::Conflict(Some(2)))", "Ok(2)"]);
    fixture.tell(&granted, "kv set n 0").await;
    let (a, b) =
        tokio::join!(fixture.tell(&granted, "kv increment n"), fixture.tell(&granted, "kv increment n"));
    let mut came = [a, b];
    came.sort();
    assert_eq!(came, [r#"Ok("1")"#, r#"Ok("2")"#]);
}

#[tokio::test]
async fn quotas_hold_for_each_tenant() {
    let fixture = Fixture::new().await;
    let granted = fixture.grant(&everything());
    let long = "x".repeat(101);
    assert!(fixture.tell(&granted, &format!("kv set a {long}")).await.contains("100 are the most"));
    let value = "x".repeat(90);
    assert_eq!(fixture.tell(&granted, &format!("kv set a {value}")).await, "Ok(1)");
    assert_eq!(fixture.tell(&granted, &format!("kv set b {value}")).await, "Ok(2)");
    assert!(fixture.tell(&granted, &format!("kv set c {value}")).await.contains("more than 200 bytes"));
    // What is replaced counts once, and another tenant has its own quota.
    assert_eq!(fixture.tell(&granted, &format!("kv set b {value}")).await, "Ok(3)");
    let theirs = MockHost::tenant(2);
    assert_eq!(fixture.tell_for(&granted, theirs, &format!("kv set c {value}")).await, "Ok(1)");
    fixture.tell(&granted, "kv delete a").await;
    for key in ["c", "d", "e", "f"] {
        fixture.tell(&granted, &format!("kv set {key} 1")).await;
    }
    assert!(fixture.tell(&granted, "kv set g 1").await.contains("more than 5 keys"));
    assert!(fixture.tell(&granted, &format!("kv set {} 1", "k".repeat(257))).await.contains("Invalid"));
}
