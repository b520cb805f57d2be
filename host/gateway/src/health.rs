//! How the instance's own connections are: those of the configuration and the environment. What tenants added is theirs, and
//! is shown to nobody here. Nor are models' names that only a caller wrote: a name can tell whose it is. Shown are the
//! models that the configuration or the catalogue knows; what happens with the others is in the connection's sums.

use serde::Serialize;

use crate::checks::CheckHealth;
use crate::connections::Connection;
use crate::gateway::Gateway;
use crate::routing::stats::Reading;

/// Models that are listed for one connection at most.
const MODELS: usize = 100;

/// What a circuit does with calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CircuitState {
    /// They go through.
    Closed,
    /// They go elsewhere.
    Open,
    /// One goes through, to try whether it works again.
    HalfOpen,
}

/// A connection.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProviderHealth {
    /// The connection's name.
    pub connection: String,
    /// The provider's.
    pub provider: String,
    /// Whether every model's circuit is closed, and health checks haven't taken it down.
    pub healthy: bool,
    /// Calls under way, all models together.
    pub in_flight: u32,
    /// Calls that wait for a place (`max_in_flight`).
    pub waiting: u64,
    /// What the last health check found; null where nobody checks (`health_check_seconds`).
    pub check: Option<CheckHealth>,
    /// The models that were asked for within the last hour.
    pub models: Vec<ModelHealth>,
}

/// A model at a connection.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelHealth {
    /// As the provider names it.
    pub model: String,
    /// Whether calls go through.
    pub circuit: CircuitState,
    /// Milliseconds that it stays open; null when it isn't.
    pub open_ms: Option<u64>,
    /// Milliseconds that it cools down yet after a 429 and the like; null when it doesn't.
    pub cooling_ms: Option<u64>,
    /// Failed calls as a share of all, 0 to 1, over the last minutes; null when there were none.
    pub error_rate: Option<f64>,
    /// Calls under way.
    pub in_flight: u32,
    /// The code of the last failure.
    pub last_error: Option<String>,
}

impl Gateway {
    /// How the instance's own connections are, in the operator's order.
    pub fn provider_health(&self) -> Vec<ProviderHealth> {
        let plugins = self.parts.plugins.load();
        let connections = self.parts.connections.fixed(plugins.instance());
        connections.iter().map(|connection| self.health_of(connection)).collect()
    }

    /// How many calls there are now.
    pub fn in_flight(&self) -> usize {
        self.room.taken()
    }

    fn health_of(&self, connection: &Connection) -> ProviderHealth {
        let asked = self.facts.of(connection);
        let is_down = self.facts.checks().down(connection).is_some();
        let healthy = !is_down && asked.iter().all(|(_, reading)| state(reading) == CircuitState::Closed);
        let in_flight = asked.iter().map(|(_, reading)| reading.stats.in_flight).sum();
        let known = asked.into_iter().filter(|(model, _)| self.knows(connection, model));
        ProviderHealth {
            connection: connection.name.clone(),
            provider: connection.provider.to_string(),
            healthy,
            in_flight,
            check: self.facts.checks().health(connection),
            waiting: connection.gate.as_ref().map_or(0, |gate| gate.waiting() as u64),
            models: known.take(MODELS).map(|(model, reading)| health(model, &reading)).collect(),
        }
    }

    fn knows(&self, connection: &Connection, model: &str) -> bool {
        let routes = &self.parts.routing.routes;
        connection.models.iter().any(|listed| listed == model)
            || self.parts.books.catalogue.find(&connection.catalogue, model).is_some()
            || routes.iter().any(|route| route.candidates.iter().any(|candidate| candidate.model == model))
    }
}

fn state(reading: &Reading) -> CircuitState {
    use crate::routing::stats::breaker::Circuit;
    match reading.circuit {
        Circuit::Closed => CircuitState::Closed,
        Circuit::Open(_) => CircuitState::Open,
        Circuit::HalfOpen(_) => CircuitState::HalfOpen,
    }
}

fn health(model: String, reading: &Reading) -> ModelHealth {
    use crate::routing::stats::breaker::Circuit;
    let millis = |left: std::time::Duration| u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
    let open = match reading.circuit {
        Circuit::Open(left) => Some(millis(left)),
        Circuit::Closed | Circuit::HalfOpen(_) => None,
    };
    ModelHealth {
        model,
        circuit: state(reading),
        open_ms: open,
        cooling_ms: reading.cooling.map(millis),
        error_rate: reading.stats.error_rate,
        in_flight: reading.stats.in_flight,
        last_error: reading.last_error.as_ref().map(ToString::to_string),
    }
}
