//! Lines are masked and bounded.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use brokle_testkit::mocks::MockHost;

use crate::harness::{Fixture, everything};

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn capture(&self) -> tracing::subscriber::DefaultGuard {
        // With a subscriber for the whole process, no other thread's test can have a callsite taken for one that nobody
        // reads. It is there once, whoever comes first.
        let nowhere = tracing_subscriber::fmt().with_writer(std::io::sink).finish();
        let _ = tracing::subscriber::set_global_default(nowhere);
        let lines = self.clone();
        tracing::subscriber::set_default(
            tracing_subscriber::fmt().with_writer(move || lines.clone()).with_ansi(false).finish(),
        )
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

#[tokio::test]
async fn known_secrets_and_credentials_are_masked() {
    let fixture = Fixture::new().await;
    let granted = fixture.grant(&everything());
    let lines = Lines::default();
    let guard = lines.capture();
    fixture.tell(&granted, "log the token is Jefe and sk-0123456789abcdefghij").await;
    fixture.tell(&granted, "print Jefe again").await;
    drop(guard);
    let text = lines.text();
    assert!(text.contains("the token is [redacted] and [redacted] field=[redacted]"), "{text}");
    assert!(text.contains("plugin output: [redacted] again"), "{text}");
    assert!(!text.contains("Jefe") && !text.contains("sk-0123"), "{text}");
}

#[tokio::test]
async fn lines_are_counted_for_each_instance_and_each_second() {
    let fixture = Fixture::new().await;
    let granted = fixture.grant(&everything());
    let lines = Lines::default();
    let guard = lines.capture();
    let many = vec!["log again"; 100];
    for _ in 0..4 {
        fixture.try_tell(&granted, MockHost::tenant(1), None, &many).await.unwrap();
    }
    // 64 an instance; the third and fourth meet the limit of 200 a second.
    let written = |lines: &Lines| lines.text().matches("again").count() / 2;
    let first = written(&lines);
    assert!(first <= 200 && granted.log_lines_dropped() >= 200, "{first} {}", granted.log_lines_dropped());
    fixture.host.monotonic.advance(Duration::from_secs(1));
    fixture.tell(&granted, "log again").await;
    assert_eq!(written(&lines), first + 1, "the next second has room");
    drop(guard);
}
