"""Google's own client: native to a mock of Gemini, translated for everybody else."""

import pytest
from google import genai
from google.genai import errors, types

from conftest import BROKLE_URL, CONTENT, KEY, call

NATIVE = "gemini/gemini-2.5-flash"


def make(key=KEY, **options):
    return genai.Client(api_key=key, http_options=types.HttpOptions(base_url=BROKLE_URL, **options))


@pytest.fixture
def gemini():
    return make()


@pytest.mark.parametrize(("model", "text"), [("openai/gpt-4o-mini", CONTENT), ("echo/echo-1", "Hello!"), (NATIVE, "Hello! How can I help you today?")])
def test_whole_and_streamed_are_the_same(gemini, model, text):
    config = types.GenerateContentConfig(system_instruction="Be brief.", max_output_tokens=100)
    whole = gemini.models.generate_content(model=model, contents="Hello!", config=config)
    assert (whole.text, whole.candidates[0].finish_reason) == (text, types.FinishReason.STOP)
    assert whole.usage_metadata.total_token_count > 0
    pieces = list(gemini.models.generate_content_stream(model=model, contents="Hello!", config=config))
    assert "".join(piece.text or "" for piece in pieces) == text
    assert pieces[-1].candidates[0].finish_reason == types.FinishReason.STOP


@pytest.mark.parametrize("version", ["v1", "v1beta"])
def test_both_versions_are_served(version):
    client = make(api_version=version)
    assert client.models.generate_content(model="echo/echo-1", contents="Hello!").text == "Hello!"


@pytest.mark.parametrize("model", ["echo/echo-1", NATIVE])
def test_the_round_trip_of_a_function(gemini, model):
    schema = types.Schema(type="OBJECT", properties={"city": types.Schema(type="STRING")}, required=["city"])
    declared = types.FunctionDeclaration(name="get_weather", description="The weather.", parameters=schema)
    config = types.GenerateContentConfig(tools=[types.Tool(function_declarations=[declared])])
    contents = [types.Content(role="user", parts=[types.Part(text='call get_weather {"city":"Paris"}')])]
    first = gemini.models.generate_content(model=model, contents=contents, config=config)
    (wanted,) = first.function_calls
    assert (wanted.name, wanted.args) == ("get_weather", {"city": "Paris"})
    result = types.Part.from_function_response(name="get_weather", response={"result": "18°C and sunny"})
    contents += [first.candidates[0].content, types.Content(role="user", parts=[result])]
    last = gemini.models.generate_content(model=model, contents=contents, config=config)
    assert last.text == "18°C and sunny"


def test_tokens_are_counted(gemini):
    assert gemini.models.count_tokens(model="echo/echo-1", contents="Hello!").total_tokens > 0


@pytest.mark.parametrize(
    ("key", "model", "status"),
    [("bk_" + "x" * 40, "echo/echo-1", "UNAUTHENTICATED"), (KEY, "nobody/x", "NOT_FOUND")],
)
def test_errors_have_googles_form(key, model, status):
    client = make(key)
    with pytest.raises(errors.ClientError) as caught:
        client.models.generate_content(model=model, contents="x")
    assert caught.value.status == status


def test_a_key_in_the_url_is_refused_and_not_used():
    body = {"contents": [{"parts": [{"text": "x"}]}]}
    status, _, error = call("POST", f"{BROKLE_URL}/v1beta/models/echo/echo-1:generateContent?key={KEY}", body)
    assert (status, error["error"]["status"]) == (400, "INVALID_ARGUMENT")
    assert "x-goog-api-key" in error["error"]["message"]


def test_an_array_without_alt_sse():
    body = {"contents": [{"parts": [{"text": "one two"}]}]}
    url = f"{BROKLE_URL}/v1beta/models/echo/echo-1:streamGenerateContent"
    status, head, pieces = call("POST", url, body, {"x-goog-api-key": KEY})
    assert (status, head.get_content_type()) == (200, "application/json")
    assert "".join(piece["candidates"][0]["content"]["parts"][0]["text"] for piece in pieces) == "one two"
