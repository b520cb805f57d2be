"""LlamaIndex: `OpenAILike`, which takes any model's name, and its embeddings."""

import openai
import pytest
from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel

from conftest import BROKLE_URL, KEY

# Decoded by LlamaIndex on its way: a whole PNG of one pixel.
RED_DOT = (
    b"iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
)


class City(BaseModel):
    """A city."""

    name: str
    population: int


def get_weather(city: str) -> str:
    """The weather."""
    return f"{city}: 18°C and sunny"


def make(model, **options):
    options.setdefault("max_retries", 0)
    known = {"is_chat_model": True, "is_function_calling_model": True, "context_window": 128_000}
    return OpenAILike(model=model, api_base=f"{BROKLE_URL}/v1", api_key=KEY, **known, **options)


def test_whole_and_streamed_are_the_same():
    llm = make("echo/echo-1")
    asked = [ChatMessage(role="system", content="Be brief."), ChatMessage(role="user", content="one two three")]
    assert llm.chat(asked).message.content == "one two three"
    *_, last = llm.stream_chat(asked)
    assert last.message.content == "one two three"
    assert llm.complete("one two").text == "one two"


@pytest.mark.parametrize("model", ["echo/echo-1", "aimock/gpt-4o-mini", "anthropic/claude-haiku-4-5"])
def test_a_tool_there_and_back(model):
    llm, weather = make(model), FunctionTool.from_defaults(get_weather)
    asked = ChatMessage(role="user", content='call get_weather {"city":"Paris"}')
    first = llm.chat_with_tools([weather], chat_history=[asked])
    (call,) = llm.get_tool_calls_from_response(first)
    assert (call.tool_name, call.tool_kwargs) == ("get_weather", {"city": "Paris"})
    *_, streamed = llm.stream_chat_with_tools([weather], chat_history=[asked])
    assert [call.tool_kwargs for call in llm.get_tool_calls_from_response(streamed)] == [{"city": "Paris"}]
    result = ChatMessage(
        role="tool", content=str(weather(**call.tool_kwargs)), additional_kwargs={"tool_call_id": call.tool_id}
    )
    last = llm.chat_with_tools([weather], chat_history=[asked, first.message, result])
    assert "18°C and sunny" in last.message.content


def test_structured_output():
    llm = make("echo/echo-1", should_use_structured_outputs=True).as_structured_llm(City)
    assert isinstance(llm.complete("a city").raw, City)


def test_an_image_in():
    blocks = [TextBlock(text="What is in the picture?"), ImageBlock(image=RED_DOT, image_mimetype="image/png")]
    answer = make("aimock/gpt-4o-mini").chat([ChatMessage(role="user", blocks=blocks)])
    assert answer.message.content == "A red dot."


def test_embeddings():
    embed = OpenAIEmbedding(model_name="openai/text-embedding-3-small", api_base=f"{BROKLE_URL}/v1", api_key=KEY)
    one, other, again = embed.get_text_embedding_batch(["a b", "c d", "a b"])
    assert one == again != other


def test_an_error_is_the_clients_own():
    with pytest.raises(openai.BadRequestError):
        make("misbehaving/gpt-4o-mini!status=400").complete("x")


def test_its_own_retry(mark):
    llm = make("misbehaving/gpt-4o-mini!status=503", max_retries=1, default_headers=mark.headers)
    with pytest.raises(openai.InternalServerError):
        llm.complete("x")
    assert len(mark.requests()) == 2
