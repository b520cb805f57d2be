"""Anthropic's own client: native to a mock of Anthropic, translated for everybody else."""



import anthropic
import pytest

from conftest import BROKLE_URL, CONTENT, KEY, trace, user

NATIVE = "anthropic/claude-haiku-4-5"
MODELS = ["echo/echo-1", NATIVE]
TOOL = {
    "name": "get_weather",
    "description": "The weather.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
CALL = 'call get_weather {"city":"Paris"}'


def make(key=KEY, **options):
    return anthropic.Anthropic(base_url=BROKLE_URL, api_key=key, max_retries=0, **options)


@pytest.fixture
def claude():
    with make() as client:
        yield client


@pytest.mark.parametrize(("model", "text"), [("openai/gpt-4o-mini", CONTENT), ("echo/echo-1", "Hello!"), (NATIVE, "Hello! How can I help you today?")])
def test_whole_and_streamed_are_the_same(claude, model, text):
    asked = {"model": model, "max_tokens": 100, "system": "Be brief.", "messages": user("Hello!")}
    whole = claude.messages.create(**asked)
    assert (whole.type, whole.role, whole.stop_reason) == ("message", "assistant", "end_turn")
    assert "".join(block.text for block in whole.content) == text
    assert whole.usage.output_tokens > 0
    with claude.messages.stream(**asked) as stream:
        kinds = [event.type for event in stream]
        streamed = stream.get_final_message()
    assert kinds[0] == "message_start" and kinds[-1] == "message_stop"
    assert [block.text for block in streamed.content] == [text]
    assert streamed.stop_reason == whole.stop_reason
    assert streamed.usage.output_tokens == whole.usage.output_tokens


@pytest.mark.parametrize("model", MODELS)
def test_the_round_trip_of_a_tool(claude, model):
    messages = user(CALL)
    first = claude.messages.create(model=model, max_tokens=100, messages=messages, tools=[TOOL])
    (used,) = [block for block in first.content if block.type == "tool_use"]
    assert (first.stop_reason, used.name, used.input) == ("tool_use", "get_weather", {"city": "Paris"})
    with claude.messages.stream(model=model, max_tokens=100, messages=messages, tools=[TOOL]) as stream:
        again = stream.get_final_message()
    assert [block.input for block in again.content if block.type == "tool_use"] == [{"city": "Paris"}]
    result = {"type": "tool_result", "tool_use_id": used.id, "content": "18°C and sunny"}
    messages += [{"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
    last = claude.messages.create(model=model, max_tokens=100, messages=messages, tools=[TOOL])
    assert (last.content[0].text, last.stop_reason) == ("18°C and sunny", "end_turn")


def test_tokens_are_counted(claude):
    counted = claude.messages.count_tokens(model="echo/echo-1", messages=user("Hello!"))
    assert counted.input_tokens > 0
    raw = claude.messages.with_raw_response.count_tokens(model="echo/echo-1", messages=user("Hello!"))
    assert raw.headers["x-brokle-estimated"] == "true"


@pytest.mark.parametrize(
    ("key", "model", "error", "kind"),
    [
        ("bk_" + "x" * 40, "echo/echo-1", anthropic.AuthenticationError, "authentication_error"),
        (KEY, "nobody/x", anthropic.NotFoundError, "not_found_error"),
        (KEY, "misbehaving/gpt-4o-mini!status=429", anthropic.RateLimitError, "rate_limit_error"),
        (KEY, "misbehaving-claude/claude-sonnet-4-5!status=429", anthropic.RateLimitError, "rate_limit_error"),
        (KEY, "misbehaving-claude/claude-sonnet-4-5!status=400", anthropic.BadRequestError, "invalid_request_error"),
    ],
)
def test_errors_have_anthropics_form(key, model, error, kind):
    with make(key) as client, pytest.raises(error) as caught:
        client.messages.create(model=model, max_tokens=5, messages=user("x"))
    assert caught.value.body["type"] == "error"
    assert caught.value.body["error"]["type"] == kind
    assert caught.value.request_id


@pytest.mark.parametrize("model", ["misbehaving/gpt-4o-mini", "misbehaving-claude/claude-sonnet-4-5"])
def test_a_stream_that_dies_is_an_error(claude, model):
    asked = {"model": f"{model}!close-at=1500;events=50", "max_tokens": 5, "messages": user("x")}
    with pytest.raises(anthropic.APIStatusError) as caught, claude.messages.stream(**asked) as stream:
        stream.get_final_message()
    assert caught.value.body["error"]["type"] == "api_error"


def test_a_call_is_on_the_trace(claude):
    raw = claude.messages.with_raw_response.create(model="echo/echo-1", max_tokens=9, messages=user("one two"))
    root = trace(raw.headers["x-brokle-trace-id"])
    assert (root["status"], root["provider"], root["usage"]["output"]) == ("ok", "echo", 2)
