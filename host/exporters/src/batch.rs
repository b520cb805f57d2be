//! From what has arrived to what is sent.

use brokle_storage::observations::{Arrival, Node};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Observations in a batch at most.
pub const MAX_ROWS: usize = 500;
/// A batch is closed before its JSON has more bytes; one that has more alone is a batch.
pub const MAX_BATCH_BYTES: usize = 768 << 10;
/// An observation's JSON of more bytes goes without its bodies.
pub const MAX_OBSERVATION: usize = 4 << 20;
/// The attribute that says of an observation what it goes without, and why.
pub const WITHHELD: &str = "brokle.export.withheld";

/// Observations to be sent together.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// Each one's JSON.
    pub(crate) observations: Vec<Vec<u8>>,
    digest: Sha256,
}

impl Batch {
    /// As many of these as fit.
    pub(crate) fn of(arrivals: &[Arrival]) -> Result<Self, serde_json::Error> {
        let (mut batch, mut bytes) = (Self::default(), 0);
        for arrival in arrivals.iter().take(MAX_ROWS) {
            let json = json(&arrival.node)?;
            if bytes > 0 && bytes + json.len() > MAX_BATCH_BYTES {
                break;
            }
            bytes += json.len();
            batch.digest.update(arrival.node.summary.trace_id.as_bytes());
            batch.digest.update(arrival.node.summary.span_id.as_bytes());
            batch.observations.push(json);
        }
        Ok(batch)
    }

    /// The same for the same observations that go the same way.
    pub(crate) fn id(&self, exporter: &str, project: &str) -> String {
        let mut digest = self.digest.clone();
        digest.update(project);
        digest.update(exporter);
        digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

fn json(node: &Node) -> Result<Vec<u8>, serde_json::Error> {
    let whole = serde_json::to_vec(node)?;
    if whole.len() <= MAX_OBSERVATION {
        return Ok(whole);
    }
    let mut node = Node { input: None, output: None, ..node.clone() };
    node.summary.attributes.insert(WITHHELD.to_owned(), Value::from("input, output: too large"));
    serde_json::to_vec(&node)
}

#[cfg(test)]
mod tests {
    use brokle_core::ids::{EnvironmentId, OrganizationId, ProjectId};
    use brokle_core::observation::{Kind, Observation, SpanId, TraceId};
    use brokle_core::random::SeededRandom;
    use brokle_core::tenancy::Tenant;
    use serde_json::value::to_raw_value;

    use super::*;

    fn arrivals(bodies: &[usize]) -> Vec<Arrival> {
        let random = SeededRandom::new(7);
        let tenant = Tenant {
            organization: OrganizationId::from_u128(1),
            project: ProjectId::from_u128(2),
            environment: EnvironmentId::from_u128(3),
        };
        let arrival = |(row, body): (usize, &usize)| {
            let (trace, span) = (TraceId::generate(&random), SpanId::generate(&random));
            let summary = (&Observation::new(tenant, trace, span, Kind::Span, 0)).into();
            let input = Some(to_raw_value(&"x".repeat(*body)).unwrap());
            let node = Node { summary, input, output: None, children: Vec::new() };
            Arrival { part: "202603".into(), row: i64::try_from(row).unwrap(), node }
        };
        bodies.iter().enumerate().map(arrival).collect()
    }

    #[test]
    fn a_batch_is_bounded_and_never_empty() {
        let count = |bodies: &[usize]| Batch::of(&arrivals(bodies)).unwrap().observations.len();
        assert_eq!(count(&[10; 600]), MAX_ROWS);
        assert_eq!(count(&[300 << 10; 4]), 2);
        assert_eq!(count(&[2 << 20, 10]), 1, "alone");
        assert_eq!(count(&[10, 2 << 20, 10]), 1);
    }

    #[test]
    fn what_is_too_large_goes_without_its_bodies() {
        let batch = Batch::of(&arrivals(&[5 << 20])).unwrap();
        let sent: Value = serde_json::from_slice(&batch.observations[0]).unwrap();
        assert_eq!((&sent["input"], &sent["output"]), (&Value::Null, &Value::Null));
        assert_eq!(sent["attributes"][WITHHELD], "input, output: too large");
    }

    #[test]
    fn an_id_says_what_is_in_it_and_where_it_goes() {
        let rows = arrivals(&[1, 2, 3]);
        let id = |rows: &[Arrival], exporter, project| Batch::of(rows).unwrap().id(exporter, project);
        let whole = id(&rows, "out", "p");
        assert_eq!((whole.len(), &whole), (64, &id(&rows, "out", "p")));
        for other in [id(&rows[1..], "out", "p"), id(&rows, "else", "p"), id(&rows, "out", "q")] {
            assert_ne!(other, whole);
        }
    }
}
