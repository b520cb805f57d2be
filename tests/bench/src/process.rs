//! Processes that the run starts, waits for, measures from `/proc` and ends by their pid.

use crate::{request::bare, wire::Connection};
use std::{
    fs,
    fs::File,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// `utime` and `stime` are in ticks of `USER_HZ`, which is 100 on every Linux that Brokle runs on (time(7)).
const TICK: Duration = Duration::from_millis(10);
const START_DEADLINE: Duration = Duration::from_secs(60);
const STOP_DEADLINE: Duration = Duration::from_secs(40);
const READY: &str = "/health/ready";
const POLL: Duration = Duration::from_millis(1);

/// A server in a process of its own. Dropping it kills it.
pub(crate) struct Server {
    name: &'static str,
    child: Child,
    log: PathBuf,
    pub(crate) addr: SocketAddr,
    /// From before the process was there to the first 200 on `/health/ready`.
    pub(crate) start: Duration,
}

impl Server {
    /// Starts it and waits until `GET /health/ready` answers 200.
    ///
    /// # Errors
    /// When it can't be started, ends, or isn't ready within a minute; with the end of its log.
    pub(crate) async fn start(
        name: &'static str,
        mut command: Command,
        addr: SocketAddr,
        logs: &Path,
    ) -> io::Result<Self> {
        let log = logs.join(format!("{name}.log"));
        let output = File::create(&log)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let begin = Instant::now();
        let child =
            command.spawn().map_err(|error| io::Error::other(format!("{name} can't be started: {error}")))?;
        let mut server = Self { name, child, log, addr, start: Duration::ZERO };
        while !get(addr, "GET", READY).await.is_ok_and(|(status, _)| status == 200) {
            if let Some(status) = server.child.try_wait()? {
                return Err(server.error(&format!("ended with {status}")));
            }
            if begin.elapsed() > START_DEADLINE {
                return Err(server.error("isn't ready after a minute"));
            }
            tokio::time::sleep(POLL).await;
        }
        server.start = begin.elapsed();
        Ok(server)
    }

    /// CPU time used so far, in user and kernel mode by all threads, in whole ticks of 10 ms (proc(5)).
    pub(crate) fn cpu(&self) -> io::Result<Duration> {
        let stat = fs::read_to_string(self.proc("stat"))?;
        // The name may hold anything, blanks and parentheses too; the third field follows it.
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let ticks: u32 = fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u32>().ok()).sum();
        Ok(TICK * ticks)
    }

    /// Resident memory now and at its highest, in MB (10⁶ bytes).
    pub(crate) fn memory(&self) -> io::Result<(f64, f64)> {
        let status = fs::read_to_string(self.proc("status"))?;
        let field = |name: &str| -> Option<f64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim_end_matches("kB").trim().parse::<f64>().ok()? * 1024.0 / 1e6)
        };
        let missing = || self.error("has no memory figures");
        Ok((field("VmRSS:").ok_or_else(missing)?, field("VmHWM:").ok_or_else(missing)?))
    }

    /// Lets its highest memory be what it has now (proc(5), `clear_refs`).
    pub(crate) fn forget_peak(&self) -> io::Result<()> {
        fs::write(self.proc("clear_refs"), "5")
    }

    /// Files and sockets that it has open.
    pub(crate) fn descriptors(&self) -> io::Result<usize> {
        Ok(fs::read_dir(self.proc("fd"))?.count())
    }

    /// Asks it to end, and waits until it has.
    ///
    /// # Errors
    /// When it doesn't end within 40 seconds.
    pub(crate) async fn stop(self) -> io::Result<()> {
        self.terminate()?;
        self.ended().await
    }

    /// Asks it to end.
    pub(crate) fn terminate(&self) -> io::Result<()> {
        Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status().map(|_| ())
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// When it doesn't end within 40 seconds.
    pub(crate) async fn ended(mut self) -> io::Result<()> {
        let begin = Instant::now();
        while self.child.try_wait()?.is_none() {
            if begin.elapsed() > STOP_DEADLINE {
                return Err(self.error("didn't end within 40 s of SIGTERM"));
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    fn proc(&self, file: &str) -> String {
        format!("/proc/{}/{file}", self.child.id())
    }

    fn error(&self, what: &str) -> io::Error {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let end = lines.get(lines.len().saturating_sub(20)..).unwrap_or_default().join("\n");
        io::Error::other(format!("{} {what}; its log ends with:\n{end}", self.name))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Neither does anything to a process that has ended and been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A request without a body: its status and text.
///
/// # Errors
/// When the connection fails, or there is no answer within two seconds.
pub(crate) async fn get(addr: SocketAddr, method: &str, path: &str) -> io::Result<(u16, String)> {
    let answer = async {
        let mut body = Vec::new();
        let mut connection = Connection::open(addr).await?;
        let status =
            connection.exchange(bare(method, path).as_bytes(), |part| body.extend_from_slice(part)).await?;
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    };
    tokio::time::timeout(Duration::from_secs(2), answer)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
