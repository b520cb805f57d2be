"""`client.responses`: native to a mock of OpenAI, translated for the echo."""

import json

import openai
import pytest

from conftest import make_client, trace

MODELS = ["echo/echo-1", "aimock/gpt-4o-mini"]
TOOL = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False},
    "strict": True,
}
CALL = 'call get_weather {"city":"Paris"}'


@pytest.mark.parametrize(("model", "text"), zip(MODELS, ["Hello!", "Hello! How can I help you today?"]))
def test_whole_and_streamed_are_the_same(client, model, text):
    whole = client.responses.create(model=model, input="Hello!", instructions="Be brief.")
    assert (whole.output_text, whole.status, whole.object) == (text, "completed", "response")
    with client.responses.stream(model=model, input="Hello!") as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert events[0].type == "response.created" and events[-1].type == "response.completed"
    if model in MODELS[:1]:  # The mock numbers nothing.
        assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == text
    assert final.output_text == text


@pytest.mark.parametrize("model", MODELS)
def test_the_round_trip_of_a_function(client, model):
    items = [{"role": "user", "content": CALL}]
    first = client.responses.create(model=model, input=items, tools=[TOOL])
    (call,) = [item for item in first.output if item.type == "function_call"]
    assert (call.name, json.loads(call.arguments)) == ("get_weather", {"city": "Paris"})
    events = list(client.responses.create(model=model, input=items, tools=[TOOL], stream=True))
    (done,) = [event for event in events if event.type == "response.function_call_arguments.done"]
    assert json.loads(done.arguments) == {"city": "Paris"}
    items += [item.model_dump(exclude_none=True) for item in first.output]
    items.append({"type": "function_call_output", "call_id": call.call_id, "output": "18°C and sunny"})
    last = client.responses.create(model=model, input=items, tools=[TOOL])
    assert last.output_text == "18°C and sunny"


def test_a_schema_is_kept(client):
    schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"], "additionalProperties": False}
    form = {"format": {"type": "json_schema", "name": "city", "schema": schema, "strict": True}}
    made = client.responses.create(model="echo/echo-1", input="a city as JSON", text=form)
    assert isinstance(json.loads(made.output_text)["name"], str)
    assert made.text.format.name == "city"


@pytest.mark.parametrize(
    ("more", "param"), [({"previous_response_id": "resp_1"}, "previous_response_id"), ({"store": True}, "store")]
)
def test_what_needs_a_memory_is_refused(client, more, param):
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="echo/echo-1", input="x", **more)
    assert (caught.value.code, caught.value.param) == ("unsupported", param)


@pytest.mark.parametrize(
    ("key", "model", "error"),
    [("bk_" + "x" * 40, "echo/echo-1", openai.AuthenticationError), (None, "nobody/x", openai.NotFoundError)],
)
def test_errors_have_openais_form(client, key, model, error):
    with (make_client(key) if key else client) as asking, pytest.raises(error) as caught:
        asking.responses.create(model=model, input="x")
    assert caught.value.code


def test_a_stream_that_dies_has_failed(client):
    asked = {"model": "misbehaving-claude/claude-haiku-4-5!close-at=1500;events=49", "input": "x"}
    events = list(client.responses.create(**asked, stream=True))
    error, failed = events[-2:]
    assert (error.type, error.code, error.message) == ("error", "upstream_disconnected", "The provider's connection broke.")
    assert (failed.type, failed.response.status) == ("response.failed", "failed")
    assert failed.response.error.code == error.code
    assert failed.response.output_text


def test_a_call_is_on_the_trace(client):
    raw = client.responses.with_raw_response.create(model="echo/echo-1", input="one two")
    root = trace(raw.headers["x-brokle-trace-id"])
    assert (root["status"], root["provider"], root["usage"]["output"]) == ("ok", "echo", 2)
