//! More calls than there is room for: what is beyond it is refused at once, and what is in it is served as ever.
//!
//! Twice. **A ramp** to three times what an upstream that thinks for 50 ms lets through: who waits is the upstream, as with real ones, and
//! the figures are of this. **Flat out**: twice what an instant upstream lets through, which is what the processors
//! can do. The generator is on them too, and what it takes to ask and to be refused is missing to those that are served, so that what
//! is left of them is told and not promised; that each call is served or refused is.

use super::{Promise, Stage, always, figure};
use crate::{
    load::{Load, Round, percentile},
    paced::{Outcome, Paced},
    process::Server,
    request,
    run::ms,
};
use std::{io, time::Duration};

/// Calls at once.
const ROOM: usize = 64;
const THINKS: Duration = Duration::from_millis(50);
/// Calls a second, the last ones about three times what there is room for.
const RAMP: [u32; 8] = [500, 1_000, 1_500, 2_000, 2_500, 3_000, 3_500, 4_000];

pub(super) async fn play(stage: &Stage) -> io::Result<Vec<Promise>> {
    let server = stage.brokle("overload", &format!("[gateway]\nmax_in_flight = {ROOM}\n")).await?;
    stage.think(THINKS).await?;
    let length = stage.of(Duration::from_secs(3), Duration::from_millis(300));
    let full = knee(&server, length).await;
    let mut steps = Vec::new();
    for per_second in RAMP {
        steps.push((per_second, paced(&server, per_second, length).await));
    }
    stage.think(Duration::ZERO).await?;
    let after = Load::new(server.addr, request::chat(200, false), false, 16).round(length).await;
    let room = per_second(full.latencies.len(), full.elapsed);
    let over: Vec<_> = steps.iter().filter(|(offered, _)| f64::from(*offered) > room).collect();
    let goodput = |one: &Outcome| per_second(one.served.len(), one.elapsed);
    // Without a step beyond the room nothing was measured: not a number, and not kept.
    let least = over.iter().map(|(_, one)| goodput(one)).reduce(f64::min).unwrap_or(f64::NAN);
    let slowest = |times: fn(&Outcome) -> &[u32]| {
        over.iter().map(|(_, one)| ms(percentile(times(one), 99))).reduce(f64::max).unwrap_or(f64::NAN)
    };
    eprintln!("{room:.0} calls/s with room for all");
    for (offered, one) in &steps {
        eprintln!("{offered} offered: {:.0} served, {} refused", goodput(one), one.shed.len());
    }
    let flat_out = flat_out(&server, stage.of(Duration::from_secs(10), Duration::from_secs(1))).await;
    server.stop().await?;
    let ramp_errors: u64 = steps.iter().map(|(_, one)| one.errors).sum();
    if let Some(why) = steps.iter().find_map(|(_, one)| one.first_error.as_ref()) {
        eprintln!("first error: {why}");
    }
    Ok(vec![
        always("errors up to the knee", 0.0, full.errors as f64, ""),
        always(
            "calls beyond it that were neither served nor refused",
            0.0,
            (ramp_errors + flat_out.errors) as f64,
            "",
        ),
        always("errors when it is over", 0.0, after.errors as f64, ""),
        figure("goodput lost", 10.0, (1.0 - least / room) * 100.0, "%"),
        figure(
            "p99 of what is served, over the knee's",
            2.0,
            slowest(|one| &one.served) / ms(percentile(&full.latencies, 99)),
            "×",
        ),
        figure("p99 of a refusal", 5.0, slowest(|one| &one.shed), "ms"),
    ])
}

/// As many calls at once as there is room for; the first quarter doesn't count. Latencies are sorted.
async fn knee(server: &Server, length: Duration) -> Round {
    let mut load = Load::new(server.addr, request::chat(200, false), false, ROOM);
    load.round(length / 4).await;
    let mut full = load.round(length).await;
    full.latencies.sort_unstable();
    full
}

async fn paced(server: &Server, per_second: u32, length: Duration) -> Outcome {
    let requests = vec![request::chat(200, false)];
    Paced { addr: server.addr, requests, per_second, left_each: 0 }.run(length).await
}

/// Twice what the processors can do; what is left of it is told.
async fn flat_out(server: &Server, length: Duration) -> Outcome {
    let full = knee(server, length).await;
    let most = per_second(full.latencies.len(), full.elapsed);
    let over = paced(server, (most * 2.0) as u32, length).await;
    eprintln!(
        "flat out: {most:.0} calls/s with room for all; {:.0} offered: {:.0} served, {} refused, p99 {:.1} ms",
        most * 2.0,
        per_second(over.served.len(), over.elapsed),
        over.shed.len(),
        ms(percentile(&over.shed, 99)),
    );
    if let Some(why) = &over.first_error {
        eprintln!("first error: {why}");
    }
    over
}

fn per_second(calls: usize, elapsed: Duration) -> f64 {
    calls as f64 / elapsed.as_secs_f64()
}
