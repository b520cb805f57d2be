//! A mixed load for a long time, one client in a hundred leaving in the middle: nothing may grow.

use super::{Promise, Stage, always, figure};
use crate::{paced::Paced, process::get, request};
use std::{io, time::Duration};

const PER_SECOND: u32 = 200;
/// Rounds after the first, which is the warm-up.
const ROUNDS: u32 = 6;

pub(super) async fn play(stage: &Stage) -> io::Result<Vec<Promise>> {
    stage.pause(Duration::ZERO).await?;
    let server = stage.brokle("steady", "").await?;
    let load = Paced {
        addr: server.addr,
        requests: vec![
            request::chat(200, false),
            request::chat(2_000, true),
            request::chat(50_000, false),
            request::chat(2_000, false),
        ],
        per_second: stage.of(PER_SECOND, 50),
        left_each: stage.of(100, 20),
    };
    let round = stage.of(Duration::from_secs(60) * stage.minutes, Duration::from_secs(7)) / (ROUNDS + 1);
    load.run(round).await;
    let descriptors = server.descriptors()?;
    let (mut errors, mut left, mut resident) = (0, 0, vec![server.memory()?.0]);
    for _ in 0..ROUNDS {
        let seen = load.run(round).await;
        errors += seen.errors + seen.shed.len() as u64;
        left += seen.left;
        if let Some(why) = &seen.first_error {
            eprintln!("first error of the round: {why}");
        }
        resident.push(server.memory()?.0);
        eprintln!("{:.1} MB", server.memory()?.0);
    }
    let rise = resident.last().copied().unwrap_or_default() - resident.first().copied().unwrap_or_default();
    let ten_minutes = round.as_secs_f64() * f64::from(ROUNDS) / 600.0;
    let (_, health) = get(server.addr, "GET", "/health/providers").await?;
    let health: serde_json::Value = serde_json::from_str(&health)?;
    let in_flight =
        health.get("in_flight").and_then(serde_json::Value::as_u64).map_or(f64::NAN, |n| n as f64);
    let more = server.descriptors()?.saturating_sub(descriptors);
    server.stop().await?;
    eprintln!("{left} left in the middle");
    Ok(vec![
        always("calls that failed", 0.0, errors as f64, ""),
        always("places that weren't given back", 0.0, in_flight, ""),
        always("descriptors more than after the warm-up", 20.0, more as f64, ""),
        figure("memory's growth in ten minutes", 1.0, rise / ten_minutes, "MB"),
    ])
}
