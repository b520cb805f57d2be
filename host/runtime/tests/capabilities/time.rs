//! Time and randomness are the host's.

use std::time::Duration;

use chrono::TimeDelta;

use crate::harness::{Fixture, everything};

#[tokio::test]
async fn time_is_what_the_host_says_and_coarse() {
    let fixture = Fixture::new().await;
    let granted = fixture.grant(&everything());
    fixture.host.clock.advance(TimeDelta::microseconds(7));
    fixture.host.monotonic.advance(Duration::from_nanos(1_234_567));
    assert_eq!(fixture.tell(&granted, "clock").await, "Ok(1767225600.000007s) Ok(1.2ms)");
}

#[tokio::test]
async fn randomness_comes_from_the_host_within_bounds() {
    let (one, other) = (Fixture::new().await, Fixture::new().await);
    let (granted, again) = (one.grant(&everything()), other.grant(&everything()));
    let first = one.tell(&granted, "random 16").await;
    assert_eq!(first.len(), 32);
    assert_eq!(first, other.tell(&again, "random 16").await, "the seed decides");
    assert_ne!(first, one.tell(&granted, "random 16").await);
    assert_eq!(one.tell(&granted, "crypto-random 4").await.len(), 8);
    assert!(one.tell(&granted, "number").await.starts_with("Ok("));
    for words in ["random 65537", "crypto-random 65537"] {
        assert!(one.tell(&granted, words).await.contains("65536 are the most"), "{words}");
    }
}
