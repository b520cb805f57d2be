"""The cheapest candidate that answers fast enough."""

import json

import wit_world
from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import config
from wit_world.imports.common import ConfigProblem
from wit_world.imports.facts import Candidate, Plan, Request

# What holds where an operator set nothing; the schema is in plugin.json.
MAX_FIRST_TOKEN_MS = 2_000.0


class WitWorld(wit_world.WitWorld):
    def describe(self) -> bytes:
        return json.dumps({"facts": ["available", "input-price", "output-price", "first-token-ms"]}).encode()

    # What the schema can't say. This one could: it is here to show where such checks go.
    def check_config(self, config: bytes) -> None:
        bound = json.loads(config).get("max_first_token_ms", MAX_FIRST_TOKEN_MS)
        if not bound > 0:
            raise Err([ConfigProblem(pointer="/max_first_token_ms", message="Must be more than 0.")])

    def self_test(self) -> None:
        self.describe()


class Policy(exports.Policy):
    def decide(self, request: Request, candidates: list[Candidate]) -> Plan:
        bound = json.loads(config.value("/max_first_token_ms") or "null") or MAX_FIRST_TOKEN_MS

        def cost(candidate: Candidate) -> float:
            # Dollars for a million calls like this one; unknown prices come after known ones.
            if candidate.input_price is None or candidate.output_price is None:
                return float("inf")
            output = 256 if request.max_output_tokens is None else request.max_output_tokens
            return candidate.input_price * request.input_tokens + candidate.output_price * output

        def place(index: int) -> tuple:
            candidate = candidates[index]
            first_token = candidate.stats.first_token_ms
            slow = first_token is not None and first_token > bound
            # The unavailable come last in any case, so that no request is refused while all are cooling down.
            return (not candidate.available, slow, cost(candidate), candidate.priority)

        return Plan(order=sorted(range(len(candidates)), key=place), reason="cheapest that is fast enough")
