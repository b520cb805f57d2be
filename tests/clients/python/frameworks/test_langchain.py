"""LangChain: what it makes of the client's answers, over Chat Completions, Responses and Messages."""

import base64

import openai
import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

from conftest import BROKLE_URL, KEY

RED_DOT = base64.b64encode(b"\x89PNG").decode()
CALLS = 'call get_weather {"city":"Paris"}\ncall get_time {"zone":"CET"}'


@tool
def get_weather(city: str) -> str:
    """The weather."""
    return f"{city}: 18°C and sunny"


@tool
def get_time(zone: str) -> str:
    """The time."""
    return f"{zone}: 12:00"


class City(BaseModel):
    name: str
    population: int


def openai_chat(model, **options):
    # With a base URL of one's own it asks for no usage in streams unless it is told to.
    return ChatOpenAI(model=model, base_url=f"{BROKLE_URL}/v1", api_key=KEY, max_retries=0, stream_usage=True, **options)


def openai_responses(model, **options):
    return openai_chat(model, use_responses_api=True, store=False, **options)


def anthropic_messages(model, **options):
    return ChatAnthropic(model=model, base_url=BROKLE_URL, api_key=KEY, max_retries=0, **options)


DIALECTS = [openai_chat, openai_responses, anthropic_messages]
MODELS = [
    (openai_chat, "echo/echo-1"),
    (openai_chat, "aimock/gpt-4o-mini"),
    (openai_responses, "echo/echo-1"),
    (openai_responses, "aimock/gpt-4o-mini"),
    (anthropic_messages, "echo/echo-1"),
    (anthropic_messages, "anthropic/claude-haiku-4-5"),
]


@pytest.mark.parametrize("make", DIALECTS)
def test_a_stream_adds_up_to_the_answer_with_its_usage(make):
    llm = make("echo/echo-1")
    whole = llm.invoke("one two three")
    pieces = list(llm.stream("one two three"))
    assert len(pieces) > 2
    added = sum(pieces[1:], pieces[0])
    assert added.text == whole.text == "one two three"
    for message in (whole, added):
        usage = message.usage_metadata
        assert (usage["output_tokens"], usage["total_tokens"]) == (3, usage["input_tokens"] + 3)


@pytest.mark.parametrize(("make", "model"), MODELS)
def test_two_tools_at_once_there_and_back(make, model):
    llm = make(model).bind_tools([get_weather, get_time])
    messages = [HumanMessage(CALLS)]
    pieces = list(llm.stream(messages))
    asked = sum(pieces[1:], pieces[0])
    wanted = [("get_weather", {"city": "Paris"}), ("get_time", {"zone": "CET"})]
    assert [(call["name"], call["args"]) for call in asked.tool_calls] == wanted
    whole = llm.invoke(messages)
    assert [(call["name"], call["args"]) for call in whole.tool_calls] == wanted
    tools = {"get_weather": get_weather, "get_time": get_time}
    results = [tools[call["name"]].invoke(call) for call in whole.tool_calls]
    assert all(isinstance(result, ToolMessage) for result in results)
    final = llm.invoke([*messages, whole, *results]).text
    if model == "echo/echo-1":
        assert final == "Paris: 18°C and sunny\nCET: 12:00"
    else:
        assert final == "18°C and sunny\n12:00"


@pytest.mark.parametrize("make", [openai_chat, openai_responses])
@pytest.mark.parametrize("model", ["echo/echo-1", "aimock/gpt-4o-mini"])
def test_an_answer_by_json_schema(make, model):
    llm = make(model).with_structured_output(City, method="json_schema", include_raw=True)
    answer = llm.invoke("a city as JSON")
    assert answer["parsing_error"] is None
    assert isinstance(answer["parsed"], City)


@pytest.mark.parametrize("make", DIALECTS)
def test_an_answer_by_a_forced_tool(make):
    llm = make("echo/echo-1").with_structured_output(City, method="function_calling")
    assert isinstance(llm.invoke("Hello!"), City)


@pytest.mark.parametrize(
    ("make", "model"),
    [(openai_chat, "aimock/gpt-4o-mini"), (openai_chat, "anthropic/claude-haiku-4-5"), (anthropic_messages, "aimock/gpt-4o-mini")],
)
def test_an_image_in(make, model):
    image = {"type": "image", "base64": RED_DOT, "mime_type": "image/png"}
    message = HumanMessage([{"type": "text", "text": "What is in the picture?"}, image])
    assert make(model).invoke([message]).text == "A red dot."


def test_embeddings():
    # It would count tokens with a vocabulary that it fetches; with this it sends texts.
    options = {"check_embedding_ctx_length": False, "dimensions": 16}
    make = OpenAIEmbeddings(model="openai/text-embedding-3-small", base_url=f"{BROKLE_URL}/v1", api_key=KEY, **options)
    one, other, again = make.embed_documents(["a b", "c d", "a b"])
    assert len(one) == 16 and one == again != other
    assert make.embed_query("a b") == pytest.approx(one)


def test_an_error_is_the_clients_own():
    with pytest.raises(openai.RateLimitError) as caught:
        openai_chat("misbehaving/gpt-4o-mini!status=429").invoke("x")
    assert caught.value.response.headers["x-request-id"]


@pytest.mark.parametrize("fault", ["close-at=1500", "error-in-stream=4"])
def test_a_stream_that_breaks_is_an_error(fault):
    with pytest.raises(openai.APIError):
        list(openai_chat(f"misbehaving/gpt-4o-mini!{fault};events=50").stream("x"))




def test_a_reader_that_leaves_frees_the_upstream(mark):
    llm = openai_chat("misbehaving/gpt-4o-mini!delay=100;events=300", default_headers=mark.headers)
    pieces = llm.stream("x")
    assert any(piece.text for piece in pieces)
    pieces.close()
    mark.wait_until_left()
