"""Each batch of observations as lines of JSON, one observation a line."""

import json

import wit_world
from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import config, http
from wit_world.imports.batches import (
    Batch,
    Delay,
    Failure,
    Failure_Misconfigured,
    Failure_Refused,
    Failure_Retry,
    Receipt,
)

# How often a batch is tried that the receiver answers with an error of its own.
MAX_ATTEMPTS = 10


class WitWorld(wit_world.WitWorld):
    def describe(self) -> bytes:
        return b"{}"

    # The schema in plugin.json says all there is to say.
    def check_config(self, config: bytes) -> None:
        pass

    def self_test(self) -> None:
        assert outcome(503, 1) is not None


class Sink(exports.Sink):
    def export(self, batch: Batch) -> Receipt:
        request = http.Request(
            upstream="receiver",
            host=None,
            method="POST",
            path=json.loads(config.value("/path") or '"/"'),
            headers=[
                http.Header("content-type", "application/x-ndjson"),
                # The same when the batch comes again: what the receiver tells a repetition by.
                http.Header("idempotency-key", batch.id),
            ],
            # The host puts the secret in; nobody here sees it.
            credential=http.Credential_Bearer("token"),
            body=b"\n".join(batch.observations),
        )
        try:
            response = http.send(request)
        except Err as error:
            raise Err(unsent(error.value))
        after = next((header.value for header in response.headers if header.name == "retry-after"), "")
        if failure := outcome(response.status, batch.attempt, after):
            raise Err(failure)
        return Receipt(rejected=0, message="")


def outcome(status: int, attempt: int, after: str = "") -> Failure | None:
    """What an answer says of a batch. 2xx: the receiver has it. 429 and the like: again later. 400: never."""
    if 200 <= status < 300:
        return None
    reason = f"the receiver answered {status}"
    later = status in (401, 403, 404, 408, 425, 429, 502, 503, 504)
    if later or (status >= 500 and attempt < MAX_ATTEMPTS):
        after_ms = int(after) * 1000 if after.isdecimal() and len(after) < 8 else None
        return Failure_Retry(Delay(reason=reason, after_ms=after_ms))
    return Failure_Refused(reason)


def unsent(error: http.Error) -> Failure:
    """What a request without an answer says: again, unless it can't be sent as it is."""
    match error:
        case http.Error_RequestTooLarge(most):
            return Failure_Refused(f"it has more than {most} bytes")
        case http.Error_Invalid(detail):
            return Failure_Misconfigured(detail)
        case http.Error_Denied(what):
            return Failure_Misconfigured(f"not granted: {what}")
    return Failure_Retry(Delay(reason="no answer", after_ms=None))
