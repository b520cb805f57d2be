"""pydantic-ai: one agent over each of the four dialects."""

import asyncio
import json

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, BinaryContent, ModelHTTPError, NativeOutput
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.google import GoogleModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.google import GoogleProvider
from pydantic_ai.providers.openai import OpenAIProvider

from conftest import BROKLE_URL, KEY


class City(BaseModel):
    name: str
    population: int


def chat(model, key=KEY):
    return OpenAIChatModel(model, provider=OpenAIProvider(base_url=f"{BROKLE_URL}/v1", api_key=key))


def responses(model, key=KEY):
    return OpenAIResponsesModel(model, provider=OpenAIProvider(base_url=f"{BROKLE_URL}/v1", api_key=key))


def messages(model, key=KEY):
    return AnthropicModel(model, provider=AnthropicProvider(base_url=BROKLE_URL, api_key=key))


def gemini(model, key=KEY):
    return GoogleModel(model, provider=GoogleProvider(base_url=BROKLE_URL, api_key=key))


DIALECTS = [chat, responses, messages, gemini]
MODELS = [
    *((make, "echo/echo-1") for make in DIALECTS),
    (chat, "aimock/gpt-4o-mini"),
    (responses, "aimock/gpt-4o-mini"),
    (messages, "anthropic/claude-haiku-4-5"),
    (gemini, "gemini/gemini-2.5-flash"),
]


@pytest.mark.parametrize(("make", "model"), MODELS)
def test_an_agent_runs_its_tool(make, model):
    agent, asked = Agent(make(model)), []

    @agent.tool_plain
    def get_weather(city: str) -> str:
        """The weather."""
        asked.append(city)
        return "18°C and sunny"

    result = agent.run_sync('call get_weather {"city":"Paris"}')
    assert asked == ["Paris"]
    # A function's result is an object in Gemini's dialect.
    wrapped = (make, model) == (gemini, "echo/echo-1")
    assert (json.loads(result.output)["return_value"] if wrapped else result.output) == "18°C and sunny"
    assert (result.usage.requests, result.usage.tool_calls) == (2, 1)


async def read(agent, prompt):
    """A stream's pieces of text, and its output tokens."""
    async with agent.run_stream(prompt) as run:
        pieces = [piece async for piece in run.stream_text(delta=True, debounce_by=None)]
    return pieces, run.usage.output_tokens


@pytest.mark.parametrize("make", DIALECTS)
def test_a_stream(make):
    pieces, tokens = asyncio.run(read(Agent(make("echo/echo-1")), "one two three"))
    assert len(pieces) > 1 and "".join(pieces) == "one two three"
    assert tokens == 3


@pytest.mark.parametrize("make", DIALECTS)
def test_an_answer_by_a_forced_tool(make):
    assert isinstance(Agent(make("echo/echo-1"), output_type=City).run_sync("Paris").output, City)


@pytest.mark.parametrize(("make", "model"), [*((make, "echo/echo-1") for make in (chat, responses, gemini)), (chat, "aimock/gpt-4o-mini")])
def test_an_answer_by_schema(make, model):
    agent = Agent(make(model), output_type=NativeOutput(City))
    assert isinstance(agent.run_sync("a city as JSON").output, City)


@pytest.mark.parametrize("make", DIALECTS)
def test_an_image_in(make):
    picture = BinaryContent(b"\x89PNG", media_type="image/png")
    result = Agent(make("aimock/gpt-4o-mini")).run_sync(["What is in the picture?", picture])
    assert result.output == "A red dot."


@pytest.mark.parametrize("make", DIALECTS)
@pytest.mark.parametrize(
    ("key", "model", "status"),
    [("bk_" + "x" * 40, "echo/echo-1", 401), (KEY, "nobody/x", 404), (KEY, "misbehaving/gpt-4o-mini!status=400", 400)],
)
def test_an_error_says_its_status(make, key, model, status):
    with pytest.raises(ModelHTTPError) as caught:
        Agent(make(model, key)).run_sync("x")
    assert caught.value.status_code == status


# Over Responses it takes `response.failed` for an end like any other: what the gateway says there, test_responses.py reads.
@pytest.mark.parametrize(("events", "make"), enumerate([chat, messages, gemini], 50))
def test_a_stream_that_dies_is_an_error(make, events):
    # What each client makes of it differs; the gateway's words are in all of them. A name for each: failures add up
    # against a name, and then its circuit opens.
    with pytest.raises(Exception, match="connection broke"):
        asyncio.run(read(Agent(make(f"misbehaving/gpt-4o-mini!close-at=1500;events={events}")), "x"))
