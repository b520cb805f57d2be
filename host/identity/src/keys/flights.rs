//! Requests that need the same answer share one query.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::OnceCell;

use super::NoAnswer;
use super::cache::Entry;
use crate::api_key::KeyHash;

type Answer = Result<Option<Arc<Entry>>, NoAnswer>;

/// The key asked for and the generation of the caches that it is asked in, so that whoever comes after a change doesn't
/// board a query from before it.
type Route = (KeyHash, u64);

/// The queries under way.
#[derive(Debug, Default)]
pub(super) struct Flights(Mutex<HashMap<Route, Arc<OnceCell<Answer>>>>);

impl Flights {
    /// Waits for the query of this route, or runs it. When the request that runs it goes away, the next one that waits
    /// runs it anew.
    pub(super) async fn join<F>(&self, route: Route, query: impl FnOnce() -> F) -> Answer
    where
        F: Future<Output = Answer>,
    {
        let seat =
            Seat { flights: self, route, answer: Some(Arc::clone(self.0.lock().entry(route).or_default())) };
        match &seat.answer {
            Some(answer) => answer.get_or_init(query).await.clone(),
            None => Err(NoAnswer),
        }
    }
}

/// One request's share in a query. The last one to leave clears up, also when it leaves by being dropped.
struct Seat<'a> {
    flights: &'a Flights,
    route: Route,
    answer: Option<Arc<OnceCell<Answer>>>,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut flights = self.flights.0.lock();
        // Let go of ours under the lock, so that of two that leave together one is the last.
        self.answer = None;
        if flights
            .get(&self.route)
            .is_some_and(|answer| answer.initialized() || Arc::strong_count(answer) == 1)
        {
            flights.remove(&self.route);
        }
    }
}

#[cfg(test)]
mod tests {
    use brokle_core::random::SystemRandom;
    use futures_util::FutureExt;

    use super::*;
    use crate::api_key;

    fn route() -> Route {
        (api_key::hash(&api_key::generate(&SystemRandom)), 0)
    }

    #[tokio::test]
    async fn a_flight_whose_passengers_leave_is_forgotten() {
        let flights = Flights::default();
        let route = route();
        {
            let mut first = Box::pin(flights.join(route, std::future::pending));
            let mut second = Box::pin(flights.join(route, std::future::pending));
            assert!((&mut first).now_or_never().is_none());
            assert!((&mut second).now_or_never().is_none());
            assert_eq!(flights.0.lock().len(), 1);
        }
        assert!(flights.0.lock().is_empty());
    }

    #[tokio::test]
    async fn the_next_one_takes_over_when_the_pilot_leaves() {
        let flights = Flights::default();
        let route = route();
        let mut pilot = Box::pin(flights.join(route, std::future::pending));
        assert!((&mut pilot).now_or_never().is_none());
        let mut waiting = Box::pin(flights.join(route, || async { Ok(None) }));
        assert!((&mut waiting).now_or_never().is_none());
        drop(pilot);
        assert!(matches!(waiting.await, Ok(None)));
        assert!(flights.0.lock().is_empty());
    }
}
