//! A routing policy that fails in the way that the model's name says: `panic`, `spin`, `misconfigured`, `stray` (names
//! candidates that there aren't), `empty` (refuses). `twice` names the last candidate again and again, `told` repeats what
//! it was told, of which it names the model only.

use brokle_plugin::Description;
use brokle_plugin::routing::{Candidate, Plan, Refusal, Request, RoutingPolicy};

struct Misrouting;

impl RoutingPolicy for Misrouting {
    fn describe() -> Description {
        Description::routing_policy(["model"])
    }

    #[expect(clippy::panic, reason = "a trap is what is tested")]
    fn decide(request: &Request, candidates: &[Candidate]) -> Result<Plan, Refusal> {
        let last = u32::try_from(candidates.len()).unwrap_or_default().saturating_sub(1);
        let plan = |order: Vec<u32>| Ok(Plan { order, reason: "as told".into() });
        match request.model.as_str() {
            "panic" => panic!("as told"),
            "spin" => loop {
                std::hint::black_box(0);
            },
            "misconfigured" => Err(Refusal::Misconfigured("as told".into())),
            "stray" => plan(vec![last + 1, u32::MAX]),
            "empty" => plan(Vec::new()),
            "told" => Ok(Plan { order: vec![last], reason: format!("{request:?} {candidates:?}") }),
            _ => plan(vec![last; 1_000]),
        }
    }
}

brokle_plugin::export!(routing_policy: Misrouting);
