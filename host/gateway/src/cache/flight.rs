//! Calls under way whose answer others wait for.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::Key;

/// The calls that others wait for.
#[derive(Debug, Default)]
pub(super) struct Flights(Mutex<HashMap<Key, watch::Receiver<()>>>);

/// A call that others may wait for. It has landed when this is dropped, whatever became of it.
#[derive(Debug)]
pub(crate) struct Flight {
    flights: Arc<Flights>,
    key: Key,
    _landing: watch::Sender<()>,
}

/// Somebody else's call.
#[derive(Debug)]
pub(super) struct Landing(watch::Receiver<()>);

/// Whose turn it is.
pub(super) enum Join {
    First(Flight),
    Wait(Landing),
}

impl Flights {
    pub(super) fn join(self: &Arc<Self>, key: Key) -> Join {
        let mut flights = self.0.lock();
        if let Some(landing) = flights.get(&key) {
            return Join::Wait(Landing(landing.clone()));
        }
        let (landing, landed) = watch::channel(());
        flights.insert(key, landed);
        Join::First(Flight { flights: Arc::clone(self), key, _landing: landing })
    }
}

impl Landing {
    pub(super) async fn landed(mut self) {
        // Nothing is ever sent: the end of the sender is the landing.
        while self.0.changed().await.is_ok() {}
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        // Before the sender goes, so that nobody joins a call that has landed.
        self.flights.0.lock().remove(&self.key);
    }
}
