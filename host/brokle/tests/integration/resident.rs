//! What a server keeps in memory of its own program.

use std::time::{Duration, Instant};

use crate::cli::{KEY, Server, brokle};

/// The compiler of components is more of the program than all that calls run, and runs when the first call needs one: a provider, then
/// a dialect. Once could be the start.
#[test]
#[cfg(target_os = "linux")]
fn what_ran_once_of_the_program_is_given_back_again_and_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = brokle(directory.path(), &["serve"]);
    command.env("BROKLE_BOOTSTRAP_API_KEY", KEY);
    let server = Server::start(command);
    for path in ["/v1/chat/completions", "/v1/messages"] {
        let (mut most, begun) = (0, Instant::now());
        std::thread::scope(|scope| {
            let call = scope.spawn(|| {
                let head = format!("POST {path} HTTP/1.1\r\nx-api-key: {KEY}");
                let body =
                    r#"{"model":"echo/echo-1","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#;
                server.send(&head, body)
            });
            loop {
                let now = server.memory("RssFile:");
                most = now.max(most);
                if call.is_finished() && now < most / 4 * 3 {
                    break;
                }
                assert!(begun.elapsed() < Duration::from_secs(60), "{now} of {most} bytes are still there");
                std::thread::yield_now();
            }
            let answer = call.join().unwrap();
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        });
    }
}
