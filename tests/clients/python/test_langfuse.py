"""Langfuse's own SDK, unmodified but for where it sends."""

import base64

import pytest
from langfuse import Langfuse

from conftest import BROKLE_URL, KEY, call, eventually, trace


def test_a_trace_of_the_sdk():
    client = Langfuse(public_key="pk-lf-any", secret_key=KEY, base_url=BROKLE_URL, flush_at=1)
    with client.start_as_current_observation(as_type="agent", name="plan a trip") as root:
        trace_id = client.get_current_trace_id()
        with root.start_as_current_observation(
            as_type="generation", name="answer", model="gpt-4o-mini", input="Where to?"
        ) as generation:
            generation.update(output="Rome", usage_details={"input": 1000, "output": 100})
    client.flush()

    def whole():
        root = trace(trace_id)
        return root if root["children"] else None

    root = eventually(whole)
    assert (root["name"], root["type"]) == ("plan a trip", "agent")
    (generation,) = root["children"]
    assert (generation["type"], generation["name"], generation["model"]) == ("generation", "answer", "gpt-4o-mini")
    assert (generation["usage"]["input"], generation["usage"]["output"]) == (1000, 100)
    assert generation["cost"] == "0.00021"
    client.shutdown()


@pytest.mark.parametrize(("secret", "status"), [(KEY, 200), ("bk_" + "x" * 40, 401), ("", 401)])
def test_the_pair_is_checked(secret, status):
    pair = base64.b64encode(f"pk-lf-any:{secret}".encode()).decode()
    url = f"{BROKLE_URL}/api/public/otel/v1/traces"
    answered, _, body = call("POST", url, {"resourceSpans": []}, {"Authorization": f"Basic {pair}"})
    assert (answered, body.get("code")) == (status, 16 if status == 401 else None)
