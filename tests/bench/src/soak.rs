//! Load that isn't fair, and what may come of it: clients that dawdle, more calls than there is room for, many streams, a
//! stop in the middle of all that, an hour of everyday.
//!
//! Each scenario starts Brokle anew and holds what it saw against a promise. Two kinds of promise are told apart: what must
//! hold anywhere (nothing fails, breaks or is lost) and what is a matter of time, memory or processors. `--short` takes less
//! of everything, for builds that aren't optimized and machines that do other things too, and judges only the first kind.

mod drain;
mod overload;
mod slow;
mod steady;
mod streaming;

use crate::{
    candidate::{Candidate, serving, start_floor, start_upstream},
    process::Server,
    report::{Machine, Target, table},
    run::machine,
};
use clap::ValueEnum;
use std::{fs, io, path::PathBuf, time::Duration};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Brokle's binary, started with `serve`.
    #[arg(long)]
    brokle: PathBuf,
    /// The floor's binary, for what is measured against it.
    #[arg(long)]
    floor: PathBuf,
    /// Only these.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Scenario>,
    /// Less of everything, and only what must hold anywhere is judged.
    #[arg(long)]
    short: bool,
    /// How long an everyday lasts.
    #[arg(long, default_value_t = 60)]
    minutes: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// Heads and bodies that trickle in beside good calls.
    SlowClients,
    /// More calls than there is room for, and more than the processors can serve.
    Overload,
    /// Hundreds of streams at once.
    Streams,
    /// SIGTERM among streams and new calls.
    Drain,
    /// A mixed load for a long time.
    Steady,
}

/// Where a scenario plays.
struct Stage {
    upstream: Server,
    floor: Server,
    words: Vec<String>,
    work: PathBuf,
    short: bool,
    minutes: u32,
}

/// A promise, and whether it is a matter of the machine.
struct Promise {
    target: Target,
    of_the_machine: bool,
}

/// What must hold anywhere.
fn always(name: &'static str, limit: f64, measured: f64, unit: &'static str) -> Promise {
    Promise { target: Target::at_most(name, limit, measured, unit), of_the_machine: false }
}

/// What depends on the machine and what else it does.
fn figure(name: &'static str, limit: f64, measured: f64, unit: &'static str) -> Promise {
    Promise { target: Target::at_most(name, limit, measured, unit), of_the_machine: true }
}

impl Stage {
    /// So many, or fewer in a short run.
    fn of<T>(&self, whole: T, short: T) -> T {
        if self.short { short } else { whole }
    }

    /// Brokle with this configuration and a data directory of this name.
    async fn brokle(&self, name: &str, config: &str) -> io::Result<Server> {
        let work = self.work.join(name);
        let data = work.join("data");
        fs::create_dir_all(&data)?;
        fs::write(work.join("brokle.toml"), config)?;
        Candidate::new(self.words.clone(), self.upstream.addr, &work)?.start(&data).await
    }

    /// The pause between an upstream's chunks.
    async fn pause(&self, pause: Duration) -> io::Result<()> {
        self.tell(&format!("/__delay/{}", pause.as_millis())).await
    }

    /// How long an upstream takes for a whole answer.
    async fn think(&self, pause: Duration) -> io::Result<()> {
        self.tell(&format!("/__think/{}", pause.as_millis())).await
    }

    async fn tell(&self, path: &str) -> io::Result<()> {
        crate::process::get(self.upstream.addr, "POST", path).await?;
        Ok(())
    }
}

/// Plays; true when every promise was kept.
///
/// # Errors
/// When a server can't be started or measured.
pub(crate) async fn run(args: &Args) -> io::Result<bool> {
    let Machine { cpu, cores, kernel, load_average_before } = machine();
    let work = tempfile::tempdir()?;
    let upstream = start_upstream(work.path()).await?;
    let stage = Stage {
        floor: start_floor(&args.floor, upstream.addr, work.path()).await?,
        upstream,
        words: serving(&fs::canonicalize(&args.brokle)?),
        work: work.path().to_owned(),
        short: args.short,
        minutes: args.minutes,
    };
    println!("{cores} × {cpu}, Linux {kernel}, load average before it {load_average_before}\n");
    let mut kept = true;
    for scenario in Scenario::value_variants() {
        if !args.only.is_empty() && !args.only.contains(scenario) {
            continue;
        }
        eprintln!("{scenario:?} …");
        let promises = match scenario {
            Scenario::SlowClients => slow::play(&stage).await?,
            Scenario::Overload => overload::play(&stage).await?,
            Scenario::Streams => streaming::play(&stage).await?,
            Scenario::Drain => drain::play(&stage).await?,
            Scenario::Steady => steady::play(&stage).await?,
        };
        let judged = |promise: &Promise| !(stage.short && promise.of_the_machine);
        kept &= promises.iter().all(|promise| promise.target.pass || !judged(promise));
        let rows = promises.iter().map(|promise| {
            let mut row = promise.target.row();
            if !judged(promise)
                && let Some(verdict) = row.last_mut()
            {
                "not judged".clone_into(verdict);
            }
            row
        });
        let name = scenario.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        let mut out = String::new();
        table(&mut out, &[name.as_str(), "at most", "measured", ""], rows);
        println!("{out}");
    }
    Ok(kept)
}
