//! More calls than can be served: what is beyond the room is refused at once, and what is in it is served as ever.

use super::{Promise, Stage, always, figure};
use crate::{
    load::{Load, percentile},
    paced::Paced,
    request,
    run::ms,
};
use std::{io, time::Duration};

/// Calls at once.
const ROOM: usize = 64;

pub(super) async fn play(stage: &Stage) -> io::Result<Vec<Promise>> {
    let server = stage.brokle("overload", &format!("[gateway]\nmax_in_flight = {ROOM}\n")).await?;
    let length = stage.of(Duration::from_secs(10), Duration::from_secs(1));
    let mut full = Load::new(server.addr, request::chat(200, false), false, ROOM);
    full.round(length / 4).await;
    let cpu = server.cpu()?;
    let mut knee = full.round(length).await;
    let knee_cpu = (server.cpu()? - cpu).as_secs_f64() / knee.latencies.len() as f64;
    knee.latencies.sort_unstable();
    drop(full);
    let at_knee = knee.latencies.len() as f64 / knee.elapsed.as_secs_f64();
    let beyond = Paced {
        addr: server.addr,
        requests: vec![request::chat(200, false)],
        per_second: (at_knee * 2.0) as u32,
        left_each: 0,
    };
    let cpu = server.cpu()?;
    let over = beyond.run(length).await;
    let over_cpu = (server.cpu()? - cpu).as_secs_f64() / over.served.len() as f64;
    let goodput = over.served.len() as f64 / over.elapsed.as_secs_f64();
    eprintln!(
        "{at_knee:.0} calls/s with room for all; {:.0} offered: {goodput:.0} served, {} refused; CPU per served call {:.2} ×",
        at_knee * 2.0,
        over.shed.len(),
        over_cpu / knee_cpu
    );
    if let Some(why) = &over.first_error {
        eprintln!("first error: {why}");
    }
    let after = Load::new(server.addr, request::chat(200, false), false, 16).round(length / 4).await;
    server.stop().await?;
    Ok(vec![
        always("errors up to the knee", 0.0, knee.errors as f64, ""),
        always("calls beyond it that were neither served nor refused", 0.0, over.errors as f64, ""),
        always("errors when it is over", 0.0, after.errors as f64, ""),
        figure("goodput lost", 10.0, (1.0 - goodput / at_knee) * 100.0, "%"),
        figure(
            "p99 of what is served, over the knee's",
            2.0,
            ms(percentile(&over.served, 99)) / ms(percentile(&knee.latencies, 99)),
            "×",
        ),
        figure("p99 of a refusal", 5.0, ms(percentile(&over.shed, 99)), "ms"),
    ])
}
