//! One sandbox: a store, an instance in it, and the guard around every call.
//!
//! # Two ways to call
//! As a rule a guest runs on a stack of its own ([`guarded`]), so that at each tick it can give its thread back and take
//! turns ([`Lane`]). A call that is pure (it has no capability, so a second run is the same as the first) is tried at once,
//! on the caller's stack, before that ([`Session::at_once`]): a fresh instance and a call cost a tenth less so, and the
//! calls of a request are over in microseconds. One that has run for a whole tick is ended; it then runs anew in a
//! fresh store, in the other way and with its whole budget. What a plugin logged until then may stand twice in the log.
//! [`Pace`] keeps plugins that are slow from being tried every time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;
use wasmtime::component::{Instance as ComponentInstance, InstancePre, Resource};
use wasmtime::{Engine, Store, Trap, UpdateDeadline};

use crate::bindings::common;
use crate::bindings::provider::brokle::{host, provider::exchange};
use crate::body::Body;
use crate::capabilities::{self, CallCapabilities, Instance, PluginCapabilities};
use crate::engine::Runtime;
use crate::error::{Fault, PluginError};
use crate::lane::{Lane, Place};
use crate::limits::{Growth, Limits};
use crate::observer::Observer;
use crate::ticks::{Did, Ticks};

/// What an instance is told beside its arguments.
#[derive(Debug, Clone, Default)]
pub struct CallContext {
    /// The plugin's configuration, a JSON object; empty means `{}`.
    pub config: Arc<[u8]>,
    /// Who hears what each export came to.
    pub observer: Option<Arc<dyn Observer>>,
    /// What it was granted, and for whom it is called; none, as for providers: nothing.
    pub capabilities: Option<CallCapabilities>,
}

/// What a plugin cost in one request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// Exports called.
    pub calls: u32,
    /// Time in them, the making of the instance included.
    pub time: Duration,
}

/// Everything that an instance can reach in the host.
pub(crate) struct State {
    pub(crate) growth: Growth,
    pub(crate) log: LogSink,
    pub(crate) capabilities: Option<Box<Instance>>,
    config: Arc<[u8]>,
    pub(crate) body: Option<Body>,
    ticks_left: u32,
    ticks: Ticks,
    out_of_time: bool,
    place: Place,
    lane: Arc<Lane>,
}

/// Whether a plugin's calls are worth trying at once. One that is interrupted has the next [`Pace::PAUSE`] tries
/// made in the other way.
#[derive(Debug, Default)]
pub(crate) struct Pace(AtomicU32);

impl Pace {
    /// So many tries after an interrupted one aren't made.
    const PAUSE: u32 = 15;

    /// Whether the next call is tried at once.
    pub(crate) fn is_quick(&self) -> bool {
        let less = |left: u32| left.checked_sub(1);
        self.0.load(Ordering::Relaxed) == 0
            || self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_err()
    }

    /// It was interrupted.
    pub(crate) fn slow(&self) {
        self.0.store(Self::PAUSE, Ordering::Relaxed);
    }
}

/// A store with its limits. Whoever holds it holds one of the runtime's slots.
pub(crate) struct Session {
    pub(crate) store: Store<State>,
    pub(crate) label: Arc<str>,
    pub(crate) limits: Limits,
    pub(crate) spent: Spent,
    /// Its instance was made at once, so that its calls may be tried at once too.
    pub(crate) is_quick: bool,
    observer: Option<Arc<dyn Observer>>,
    _slot: OwnedSemaphorePermit,
}

impl Session {
    /// A store for one request.
    ///
    /// # Errors
    /// [`Fault::Busy`]: every slot is taken. Not waited for: a queue here would be one without
    /// bound or deadline.
    pub(crate) fn open(
        runtime: &Runtime,
        label: &Arc<str>,
        limits: Limits,
        context: CallContext,
    ) -> Result<Self, PluginError> {
        let limits = context.capabilities.as_ref().map_or(limits, |granted| granted.plugin.limits(limits));
        let slot = runtime.slots.clone().try_acquire_owned().map_err(|_| PluginError {
            plugin: label.clone(),
            export: "instantiate",
            fault: Fault::Busy,
        })?;
        let log = LogSink {
            label: label.clone(),
            lines: limits.log_lines,
            bytes: limits.log_bytes,
            plugin: context.capabilities.as_ref().map(|granted| granted.plugin.clone()),
        };
        let mut state = State::new(&limits, log, context.config, runtime.lane.clone());
        state.capabilities = context.capabilities.map(Into::into);
        let store = store(&runtime.engine, &limits, state);
        let (label, observer) = (label.clone(), context.observer);
        let mut session =
            Self { store, label, limits, spent: Spent::default(), is_quick: false, observer, _slot: slot };
        session.begin();
        Ok(session)
    }

    /// A new call: the CPU budget is whole again.
    pub(crate) fn begin(&mut self) {
        self.allow(self.limits.ticks());
    }

    /// What runs from here on may meet so many ticks, less one.
    fn allow(&mut self, ticks: u32) {
        let state = self.store.data_mut();
        (state.ticks_left, state.ticks) = (ticks, Ticks::default());
        self.store.set_epoch_deadline(1);
    }

    /// A store that nothing ran in, in place of one whose guest was interrupted. Its instance is gone with it.
    pub(crate) fn renew(&mut self) {
        let engine = self.store.engine().clone();
        let old = self.store.data();
        let state = State::new(&self.limits, old.log.clone(), old.config.clone(), old.lane.clone());
        self.store = store(&engine, &self.limits, state);
        self.is_quick = false;
        self.begin();
    }

    /// Whether something may be tried at once in it: only what has no capability is the same when it is done again.
    fn is_pure(&self) -> bool {
        self.store.data().capabilities.is_none()
    }

    /// Tries something for a tick, on this stack. None: it wasn't over by then, and this store is of no more use.
    pub(crate) fn at_once<R>(&mut self, call: impl FnOnce(&mut Store<State>) -> R) -> Option<R> {
        // The first tick may come right after the beginning.
        self.allow(2);
        let outcome = call(&mut self.store);
        (!self.store.data().out_of_time).then_some(outcome)
    }

    /// Lends the caller's body; the handle is for the call's arguments.
    pub(crate) fn lend(&mut self, body: Body) -> Resource<Body> {
        self.store.data_mut().body = Some(body);
        Resource::new_borrow(0)
    }

    /// The call is over: its time is booked, its failure named and logged.
    pub(crate) fn end<R>(
        &mut self,
        export: &'static str,
        started: Instant,
        outcome: Result<wasmtime::Result<R>, tokio::time::error::Elapsed>,
    ) -> Result<R, PluginError> {
        let time = started.elapsed();
        self.store.data_mut().place.leave();
        self.spent.calls += 1;
        self.spent.time += time;
        let fault = match outcome {
            Ok(Ok(value)) => {
                self.tell(export, time, None);
                return Ok(value);
            }
            Ok(Err(error)) => {
                let fault = self.fault_of(&error);
                // Its chain holds the guest's frames, with names.
                tracing::error!(plugin = %self.label, export, class = fault.class(), "plugin failed: {error:?}");
                fault
            }
            Err(_) => {
                let fault = Fault::Deadline(self.limits.deadline.as_millis());
                tracing::error!(plugin = %self.label, export, class = fault.class(), "plugin failed: {fault}");
                fault
            }
        };
        self.tell(export, time, Some(&fault));
        Err(PluginError { plugin: self.label.clone(), export, fault })
    }

    fn tell(&self, export: &'static str, time: Duration, fault: Option<&Fault>) {
        if let Some(observer) = &self.observer {
            observer.called(export, time, self.store.data().growth.peak, fault);
        }
    }

    fn fault_of(&self, error: &wasmtime::Error) -> Fault {
        let state = self.store.data();
        if state.out_of_time {
            return Fault::Cpu(self.limits.cpu.as_millis());
        }
        if state.growth.refused_memory {
            return Fault::Memory(self.limits.memory);
        }
        if state.growth.refused_table {
            return Fault::Table(self.limits.table_elements);
        }
        let root = error.root_cause().to_string();
        match error.downcast_ref::<Trap>() {
            Some(Trap::StackOverflow) => Fault::Stack,
            // A Rust guest runs out of its own stack first, which reads as a bad access.
            Some(Trap::MemoryOutOfBounds) => Fault::Trap(format!("{root}; often a stack overflow")),
            _ if root.contains("fuel allocated for hostcalls") => {
                Fault::HostcallFuel(self.limits.hostcall_fuel)
            }
            _ if root.contains("store handle limit exceeded") => Fault::Handles(self.limits.handles),
            _ => Fault::Trap(root),
        }
    }
}

fn store(engine: &Engine, limits: &Limits, state: State) -> Store<State> {
    let mut store = Store::new(engine, state);
    store.limiter(|state| &mut state.growth);
    store.set_hostcall_fuel(limits.hostcall_fuel);
    store.set_max_component_handles(limits.handles);
    // A guest that has run for a tick gives its thread back, and from then on takes turns with others of its kind.
    store.epoch_deadline_callback(|mut context| {
        let state = context.data_mut();
        let did = if state.place.is_taken() { Did::Run } else { state.ticks.next() };
        if did == Did::Wait {
            return Ok(UpdateDeadline::Continue(1));
        }
        state.ticks_left = state.ticks_left.saturating_sub(1);
        if state.ticks_left == 0 {
            state.out_of_time = true;
            return Ok(UpdateDeadline::Interrupt);
        }
        if did == Did::Unknown {
            return Ok(UpdateDeadline::Continue(1));
        }
        Ok(UpdateDeadline::YieldCustom(1, Box::pin(state.place.next(&state.lane))))
    });
    store
}

/// Runs one export under the deadline. Dropping the future that this awaits poisons the store,
/// which is why every caller gives its instance up on an error.
macro_rules! guarded {
    ($session:expr, $export:expr, $call:expr) => {{
        let started = std::time::Instant::now();
        $session.begin();
        let deadline = $session.limits.deadline;
        let outcome = tokio::time::timeout(deadline, $call).await;
        $session.end($export, started, outcome)
    }};
}
pub(crate) use guarded;

/// Instantiates a component in a session: at once if that may be, else on a stack of its own.
pub(crate) async fn instantiate(
    session: &mut Session,
    pre: &InstancePre<State>,
    pace: &Pace,
) -> Result<ComponentInstance, PluginError> {
    let started = Instant::now();
    let quick = session.is_pure() && pace.is_quick();
    let made = match quick.then(|| session.at_once(|store| pre.instantiate(store))) {
        Some(Some(Ok(instance))) => {
            session.is_quick = true;
            Ok(instance)
        }
        tried => {
            if tried.is_some() {
                // Interrupted; or it has imports that wait (WASI's stubs for guests with `std`), and is refused at next to no cost.
                pace.slow();
                session.renew();
            }
            pre.instantiate_async(&mut session.store).await
        }
    };
    session.spent.time += started.elapsed();
    made.map_err(|error| PluginError {
        plugin: session.label.clone(),
        export: "instantiate",
        fault: Fault::Instantiate(format!("{error:#}")),
    })
}

/// Where a plugin's lines go, while any are left.
#[derive(Clone)]
pub(crate) struct LogSink {
    label: Arc<str>,
    lines: u32,
    bytes: usize,
    /// Whose secrets are masked, and whose rate is kept.
    plugin: Option<Arc<PluginCapabilities>>,
}

impl LogSink {
    fn admit(&mut self, bytes: usize) -> bool {
        let fast = self.plugin.as_ref().is_some_and(|plugin| !plugin.admit_line());
        if self.lines == 0 || self.bytes < bytes || fast {
            return false;
        }
        self.lines -= 1;
        self.bytes -= bytes;
        true
    }

    /// A guest's text as it may be logged: credentials masked, control characters escaped.
    fn clean(&self, text: &str) -> String {
        capabilities::masked(text, self.plugin.as_deref()).escape_debug().to_string()
    }

    /// A line on standard output or error: a panic's message, most often.
    pub(crate) fn output(&mut self, text: &str) {
        let text = text.trim_end();
        if !text.is_empty() && self.admit(text.len()) {
            tracing::warn!(plugin = %self.label, "plugin output: {}", self.clean(text));
        }
    }

    fn line(&mut self, level: host::log::Level, message: &str, fields: &[host::log::Field]) {
        let size =
            message.len() + fields.iter().map(|field| field.name.len() + field.value.len()).sum::<usize>();
        if !self.admit(size) {
            return;
        }
        let mut text = self.clean(message);
        for field in fields {
            text.push_str(&format!(" {}={}", self.clean(&field.name), self.clean(&field.value)));
        }
        let plugin = &self.label;
        match level {
            host::log::Level::Error => tracing::error!(%plugin, "{text}"),
            host::log::Level::Warn => tracing::warn!(%plugin, "{text}"),
            host::log::Level::Info => tracing::info!(%plugin, "{text}"),
            host::log::Level::Debug => tracing::debug!(%plugin, "{text}"),
            host::log::Level::Trace => tracing::trace!(%plugin, "{text}"),
        }
    }
}

impl State {
    fn new(limits: &Limits, log: LogSink, config: Arc<[u8]>, lane: Arc<Lane>) -> Self {
        Self {
            growth: Growth::new(limits),
            log,
            capabilities: None,
            config,
            body: None,
            ticks_left: 0,
            ticks: Ticks::default(),
            out_of_time: false,
            place: Place::default(),
            lane,
        }
    }

    fn config(&self) -> &[u8] {
        if self.config.is_empty() { b"{}" } else { &self.config }
    }
}

impl common::Host for State {}
impl exchange::Host for State {}

impl host::log::Host for State {
    fn log(
        &mut self,
        level: host::log::Level,
        message: String,
        fields: Vec<host::log::Field>,
    ) -> wasmtime::Result<()> {
        self.log.line(level, &message, &fields);
        Ok(())
    }
}

impl host::config::Host for State {
    fn get(&mut self) -> wasmtime::Result<Vec<u8>> {
        Ok(self.config().to_vec())
    }

    fn value(&mut self, pointer: String) -> wasmtime::Result<Option<Vec<u8>>> {
        let config = self.config();
        Ok(brokle_core::json::find(config, &pointer).and_then(|range| config.get(range)).map(<[u8]>::to_vec))
    }
}

impl exchange::HostBody for State {
    fn size(&mut self, _: Resource<Body>) -> wasmtime::Result<u64> {
        Ok(self.body.as_ref().map_or(0, Body::size))
    }

    fn read(&mut self, _: Resource<Body>, offset: u64, length: u32) -> wasmtime::Result<Vec<u8>> {
        Ok(self.body.as_ref().map(|body| body.read(offset, length)).unwrap_or_default())
    }

    fn abridged(&mut self, _: Resource<Body>) -> wasmtime::Result<Vec<u8>> {
        Ok(self.body.as_ref().map(Body::abridged).unwrap_or_default())
    }

    fn get(&mut self, _: Resource<Body>, pointer: String) -> wasmtime::Result<Option<Vec<u8>>> {
        Ok(self.body.as_ref().and_then(|body| body.get(&pointer)))
    }

    fn form_field(&mut self, _: Resource<Body>, name: String) -> wasmtime::Result<Option<String>> {
        Ok(self.body.as_ref().and_then(|body| body.form_field(&name)))
    }

    fn drop(&mut self, _: Resource<Body>) -> wasmtime::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_plugin_isnt_tried_for_a_while() {
        let pace = Pace::default();
        assert!(pace.is_quick() && pace.is_quick());
        pace.slow();
        assert_eq!((0..100).take_while(|_| !pace.is_quick()).count(), Pace::PAUSE as usize);
        assert!(pace.is_quick());
    }
}
