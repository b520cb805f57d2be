//! The accept loop, a connection's way, and the handle that tests hold.

use crate::{
    DEADLINE, Fault, NeverSeen, Outcome, Seen,
    answer::{Answer, answer},
    control::control,
    inbound::{Head, Inbound, Received},
    journal::Journal,
    plan::{Step, plan},
    play::play,
};
use bytes::Bytes;
use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinSet,
};

/// Connections that may wait to be accepted. tokio's default is 128; of a burst of 500 the kernel then drops some, and
/// their clients try again a second later.
const BACKLOG: u32 = 4096;

/// A running upstream. Dropping it closes the listener and every connection.
#[derive(Debug)]
pub struct Upstream {
    addr: SocketAddr,
    journal: Arc<Journal>,
    tasks: JoinSet<()>,
}

impl Upstream {
    /// Starts on a free loopback port.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start() -> io::Result<Self> {
        Self::listen((Ipv4Addr::LOCALHOST, 0).into()).await
    }

    /// Starts on this address.
    ///
    /// # Errors
    /// When the address is taken, or isn't on the loopback interface: an upstream that does what any client says is
    /// for this machine only.
    pub async fn listen(addr: SocketAddr) -> io::Result<Self> {
        if !addr.ip().is_loopback() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{addr} is not a loopback address"),
            ));
        }
        let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(addr)?;
        let listener = socket.listen(BACKLOG)?;
        let addr = listener.local_addr()?;
        let journal = Arc::new(Journal::new());
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&journal)));
        Ok(Self { addr, journal, tasks })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://127.0.0.1:PORT`: Anthropic's base URL.
    pub fn origin(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// `http://127.0.0.1:PORT/v1`: OpenAI's base URL.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.addr)
    }

    /// Every request so far, oldest first.
    pub fn requests(&self) -> Vec<Seen> {
        self.journal.requests()
    }

    /// The requests whose client left before the answer's end.
    pub fn disconnects(&self) -> Vec<Seen> {
        self.journal.requests().into_iter().filter(Seen::client_left).collect()
    }

    /// Waits for a request, past or to come, for which `wanted` holds.
    ///
    /// # Errors
    /// When there is none within [`DEADLINE`]; the error lists what there was.
    pub async fn wait_for(&self, mut wanted: impl FnMut(&Seen) -> bool) -> Result<Seen, NeverSeen> {
        self.journal.wait(DEADLINE, |seen| seen.iter().find(|seen| wanted(seen)).cloned()).await
    }

    /// Waits until `wanted` holds for all requests together: for a count, for instance.
    ///
    /// # Errors
    /// As [`wait_for`](Self::wait_for).
    pub async fn wait_until(&self, mut wanted: impl FnMut(&[Seen]) -> bool) -> Result<Vec<Seen>, NeverSeen> {
        self.journal.wait(DEADLINE, |seen| wanted(seen).then(|| seen.to_vec())).await
    }

    /// Adds lines to the script for everybody: the next `POST` requests suffer these, in order.
    pub fn script(&self, faults: impl IntoIterator<Item = Fault>) {
        self.journal.script(None, faults);
    }

    /// Adds lines to the script for the requests made with this provider key.
    pub fn script_for(&self, key: &str, faults: impl IntoIterator<Item = Fault>) {
        self.journal.script(Some(key.to_owned()), faults);
    }

    /// Forgets requests and scripts.
    pub fn reset(&self) {
        self.journal.reset();
    }

    /// Stops, and returns once the port is free.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

async fn accept(listener: TcpListener, journal: Arc<Journal>) {
    let mut connections = JoinSet::new();
    let mut count = 0;
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    count += 1;
                    connections.spawn(connection(stream, count, Arc::clone(&journal)));
                }
                // Out of file descriptors, say: those in use may come back.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Serves one connection until either side ends it.
async fn connection(stream: TcpStream, number: u64, journal: Arc<Journal>) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let mut inbound = Inbound::new(stream);
    loop {
        match exchange(&mut inbound, number, &journal).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                let mut steps = plan(Answer::json(format!("{error}\n")).with_status(400), &Fault::default());
                steps.push(Step::Close);
                play(&mut inbound, steps).await;
                return;
            }
        }
    }
}

/// One request and its answer; true when the connection goes on.
async fn exchange(inbound: &mut Inbound, connection: u64, journal: &Journal) -> io::Result<bool> {
    let Some(head) = inbound.head().await? else { return Ok(false) };
    let Received { body, whole } = inbound.body(&head).await?;
    let keeps_alive = head.keeps_alive();
    let seen = seen(head, body, connection, journal);
    if let Some(answer) = control(journal, &seen) {
        let played = play(inbound, plan(answer, &Fault::default())).await;
        return Ok(keeps_alive && played.outcome == Outcome::Answered);
    }
    if !whole {
        let seen = journal.begin(seen);
        journal.end(seen.id, Outcome::ClientLeft, 0);
        return Ok(false);
    }
    let fault = journal.fault(&seen);
    let seen = journal.begin(Seen { fault: fault.clone().unwrap_or_default(), ..seen });
    let steps = fault.and_then(|fault| Ok(plan(answer(&seen, &fault)?, &fault)));
    // An answer that says that the fault can't be isn't to suffer it.
    let steps = steps.unwrap_or_else(|error| plan(Answer::fault_error(&error), &Fault::default()));
    let played = play(inbound, steps).await;
    journal.end(seen.id, played.outcome, played.bytes_sent);
    Ok(keeps_alive && played.outcome == Outcome::Answered)
}

fn seen(head: Head, body: Bytes, connection: u64, journal: &Journal) -> Seen {
    let received_at = journal.since_start(head.first_byte);
    let Head { method, path, headers, .. } = head;
    Seen { id: 0, connection, method, path, headers, body, received_at, fault: Fault::default(), end: None }
}
