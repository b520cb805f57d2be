//! A guardrail that does with the host what the text tells it to, and answers with what came of it. For the host's
//! tests, and for the kit's.
//!
//! The text is a list of words; binary values are in hexadecimal. The answer is an annotation, `came`.

use std::time::Duration;

use brokle_plugin::Description;
use brokle_plugin::guardrail::{Call, Document, Failure, Guardrail, Ruling, Text};
use brokle_plugin::host::{self, Level, clock, crypto, http, kv, random, secrets, telemetry};

struct Capable;

impl Guardrail for Capable {
    fn describe() -> Description {
        Description::guardrail(["request"])
    }

    fn new() -> Result<Self, Failure> {
        Ok(Self)
    }

    fn on_request(&mut self, _: &Call, _: &Document, texts: &[Text]) -> Result<Ruling, Failure> {
        let came: Vec<String> =
            texts.iter().map(|text| obey(&text.value.split(' ').collect::<Vec<_>>())).collect();
        Ok(Ruling::allow().annotate("came", &came))
    }
}

fn obey(words: &[&str]) -> String {
    match words {
        ["kv", "get", key] => format!(
            "{:?}",
            kv::get(key).map(|entry| entry.map(|e| (text(&e.value), e.revision, e.expires_in_ms)))
        ),
        ["kv", "set", key, value] => format!("{:?}", kv::set(key, value.as_bytes(), None)),
        ["kv", "set", key, value, ttl] => {
            format!("{:?}", kv::set(key, value.as_bytes(), Some(Duration::from_millis(number(ttl)))))
        }
        ["kv", "cas", key, expected, value] => {
            let expected = (*expected != "none").then(|| number(expected));
            format!("{:?}", kv::compare_and_set(key, expected, value.as_bytes(), None))
        }
        ["kv", "increment", key] => {
            let add =
                |value: Option<&[u8]>| (value.map_or(0, |v| number(&text(v))) + 1).to_string().into_bytes();
            format!("{:?}", kv::update(key, None, add).map(|value| text(&value)))
        }
        ["kv", "delete", key] => format!("{:?}", kv::delete(key)),
        ["kv", "list", prefix, cursor, limit] => {
            let cursor = (*cursor != "none").then_some(*cursor);
            let limit = u32::try_from(number(limit)).unwrap_or(u32::MAX);
            format!("{:?}", kv::list(prefix, cursor, limit).map(|page| (page.keys, page.cursor)))
        }
        ["http", method, upstream, host, path, credential, header, body] => {
            let mut request = http::Request::new(method, upstream, path).body(body.as_bytes());
            if *host != "none" {
                request = request.host(host);
            }
            if let Some((name, value)) = header.split_once(':') {
                request = request.header(name, value);
            }
            request = match credential.split_once(':') {
                Some(("bearer", secret)) => request.bearer(secret),
                Some(("basic", secret)) => {
                    request.credential(http::Credential::Basic(http::BasicCredential {
                        username: "user".into(),
                        secret: secret.into(),
                    }))
                }
                Some((name, secret)) => {
                    request.credential(http::Credential::Header(http::HeaderCredential {
                        name: name.into(),
                        prefix: "key ".into(),
                        secret: secret.into(),
                    }))
                }
                None => request,
            };
            let headers = |response: &http::Response| {
                response.headers.iter().map(|h| format!("{}: {}", h.name, h.value)).collect::<Vec<_>>()
            };
            format!("{:?}", request.send().map(|r| (r.status, headers(&r), text(&r.body))))
        }
        ["secret", name] => format!("{:?}", secrets::open(name).map(drop)),
        ["hoard-secrets", name] => {
            let mut held = Vec::new();
            loop {
                held.push(secrets::open(name));
            }
        }
        ["digest", algorithm, data] => shown(crypto::digest(algorithm, &unhex(data))),
        ["hmac", algorithm, key, data] => with(key, |key| shown(crypto::hmac(algorithm, key, &unhex(data)))),
        ["hmac-verify", algorithm, key, data, mac] => {
            with(key, |key| format!("{:?}", crypto::hmac_verify(algorithm, key, &unhex(data), &unhex(mac))))
        }
        ["sign", algorithm, key, data] => with(key, |key| shown(crypto::sign(algorithm, key, &unhex(data)))),
        ["verify", algorithm, key, data, made] => {
            format!("{:?}", crypto::verify(algorithm, &unhex(key), &unhex(data), &unhex(made)))
        }
        ["verify-own", algorithm, key, data, made] => {
            with(key, |key| format!("{:?}", crypto::verify_own(algorithm, key, &unhex(data), &unhex(made))))
        }
        ["equal", left, right] => {
            format!("{:?}", crypto::constant_time_equal(left.as_bytes(), right.as_bytes()))
        }
        ["crypto-random", length] => {
            shown(crypto::random_bytes(u32::try_from(number(length)).unwrap_or(u32::MAX)))
        }
        ["random", length] => shown(random::bytes(u32::try_from(number(length)).unwrap_or(u32::MAX))),
        ["number"] => format!("{:?}", random::number()),
        ["clock"] => format!(
            "{:?} {:?}",
            clock::now().map(|now| now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default()),
            clock::monotonic()
        ),
        ["span", name, attribute, value, failure] => match telemetry::start(name, &[("first", "1")]) {
            Ok(span) => {
                span.set(attribute, value);
                if *failure != "none" {
                    span.fail(failure);
                }
                "Ok".into()
            }
            Err(error) => format!("{error:?}"),
        },
        ["leave-span", name] => format!("{:?}", telemetry::start(name, &[]).map(std::mem::forget)),
        ["add", metric, amount, label, value] => {
            format!("{:?}", telemetry::add(metric, number(amount), &[(label, value)]))
        }
        ["observe", metric, value] => {
            format!("{:?}", telemetry::observe(metric, value.parse().unwrap_or(f64::NAN), &[]))
        }
        ["log", line @ ..] => {
            host::log(Level::Info, &line.join(" "), &[("field", line.last().unwrap_or(&""))]);
            "Ok".into()
        }
        ["print", line @ ..] => {
            #[expect(clippy::print_stdout, reason = "what a guest prints is what is tested")]
            {
                println!("{}", line.join(" "));
            }
            "Ok".into()
        }
        ["spin"] => loop {
            std::hint::black_box(words);
        },
        _ => format!("not understood: {words:?}"),
    }
}

fn with(name: &str, run: impl FnOnce(&secrets::Secret) -> String) -> String {
    match secrets::open(name) {
        Ok(secret) => run(&secret),
        Err(error) => format!("open: {error:?}"),
    }
}

fn shown<E: std::fmt::Debug>(bytes: Result<Vec<u8>, E>) -> String {
    match bytes {
        Ok(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        Err(error) => format!("{error:?}"),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn number(word: &str) -> u64 {
    word.parse().unwrap_or_default()
}

/// `-` is nothing; an odd digit at the end is left out.
fn unhex(word: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        word.chars().filter_map(|c| c.to_digit(16)).filter_map(|d| u8::try_from(d).ok()).collect();
    digits.chunks_exact(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect()
}

brokle_plugin::export!(guardrail: Capable);
