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


def test_scores_of_the_sdk():
    # The SDK keeps one client for each public key, and the other test's is shut down.
    client = Langfuse(public_key="pk-lf-scores", secret_key=KEY, base_url=BROKLE_URL, flush_at=1)
    with client.start_as_current_observation(as_type="generation", name="scored") as generation:
        trace_id, span_id = generation.trace_id, generation.id
    client.create_score(
        score_id=f"thumb-{trace_id}", trace_id=trace_id, name="helpfulness", value=0.9, comment="to the point"
    )
    client.create_score(trace_id=trace_id, observation_id=span_id, name="tone", value="kind", data_type="CATEGORICAL")
    client.create_score(trace_id=trace_id, name="correct", value=1, data_type="BOOLEAN")
    client.flush()

    def all_three():
        url = f"{BROKLE_URL}/v1/scores?trace_id={trace_id}"
        _, _, body = call("GET", url, headers={"Authorization": f"Bearer {KEY}"})
        return {score["name"]: score for score in body["data"]} if len(body["data"]) == 3 else None

    scores = eventually(all_three)
    assert (scores["helpfulness"]["value"], scores["helpfulness"]["comment"]) == (0.9, "to the point")
    assert scores["helpfulness"]["id"] == f"thumb-{trace_id}"
    assert (scores["tone"]["value"], scores["tone"]["span_id"]) == ("kind", span_id)
    assert (scores["correct"]["value"], scores["correct"]["data_type"]) == (True, "boolean")
    client.shutdown()
