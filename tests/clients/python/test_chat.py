"""Chat completions that go well."""

import asyncio
import json

import pytest
from pydantic import BaseModel

from conftest import CONTENT, make_async_client, read, user

#: Each way to a provider, and what it answers to "Hello!".
ROUTES = {
    "gpt-4o-mini": CONTENT,
    "openai/gpt-4o-mini": CONTENT,
    "aimock/gpt-4o-mini": "Hello! How can I help you today?",
    "anthropic/claude-haiku-4-5": "Hello! How can I help you today?",
    "claude-haiku-4-5": "Hello! How can I help you today?",
    "misbehaving-claude/claude-haiku-4-5": CONTENT,
    "echo/echo-1": "Hello!",
    "echo-1": "Hello!",
}


@pytest.mark.parametrize("model", ROUTES)
def test_an_answer(client, model):
    answer = client.chat.completions.create(model=model, messages=user("Hello!"))
    (choice,) = answer.choices
    assert answer.object == "chat.completion"
    assert answer.model == model.split("/")[-1]
    assert choice.message.role == "assistant"
    assert choice.message.content == ROUTES[model]
    assert choice.finish_reason == "stop"
    assert answer.usage.completion_tokens > 0
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


@pytest.mark.parametrize("model", ROUTES)
def test_a_streamed_answer_is_the_same(client, model):
    text, chunks = read(client.chat.completions.create(model=model, messages=user("Hello!"), stream=True))
    assert text == ROUTES[model]
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] == ["stop"]
    # Usage only for those who ask, although the gateway itself always asks.
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)


@pytest.mark.parametrize("model", ROUTES)
def test_usage_in_a_stream_for_those_who_ask(client, model):
    whole = client.chat.completions.create(model=model, messages=user("Hello!"))
    stream = client.chat.completions.create(
        model=model, messages=user("Hello!"), stream=True, stream_options={"include_usage": True}
    )
    text, chunks = read(stream)
    assert text == ROUTES[model]
    assert chunks[-1].choices == []
    assert chunks[-1].usage.prompt_tokens == whole.usage.prompt_tokens
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_many_asynchronous_calls_each_get_their_own_answer():
    async def run():
        async with make_async_client() as client:

            async def ask(text):
                answer = await client.chat.completions.create(model="echo/echo-1", messages=user(text))
                return answer.choices[0].message.content

            async def ask_streamed(text):
                stream = await client.chat.completions.create(model="echo/echo-1", messages=user(text), stream=True)
                return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

            texts = [f"number {n} of many" for n in range(40)]
            calls = [(ask_streamed if n % 2 else ask)(text) for n, text in enumerate(texts)]
            assert await asyncio.gather(*calls) == texts

    asyncio.run(run())


def test_the_clients_own_stream_helper(client):
    with client.chat.completions.stream(model="gpt-4o-mini", messages=user("one two three")) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert "content.delta" in kinds and "content.done" in kinds
    assert final.choices[0].message.content == CONTENT


def test_several_choices(client):
    answer = client.chat.completions.create(model="echo/echo-1", messages=user("Hello!"), n=3)
    assert [(choice.index, choice.message.content) for choice in answer.choices] == [(n, "Hello!") for n in range(3)]


def test_stop_sequences_and_limits(client):
    def ask(**parameters):
        (choice,) = client.chat.completions.create(
            model="echo/echo-1", messages=user("one two three"), **parameters
        ).choices
        return choice.message.content.strip(), choice.finish_reason

    assert ask(stop="three") == ("one two", "stop")
    assert ask(stop=["three", "two"]) == ("one", "stop")
    assert ask(max_tokens=1) == ("one", "length")
    assert ask(max_completion_tokens=2) == ("one two", "length")
    assert ask(seed=7) == ask(seed=8) == ("one two three", "stop")


def test_what_the_gateway_does_not_know_reaches_the_provider(client, mark):
    parameters = {
        "n": 1,
        "stop": ["END"],
        "seed": 7,
        "temperature": 0.25,
        "top_p": 0.5,
        "logit_bias": {"50256": -100},
        "metadata": {"team": "search"},
        "user": "u-1",
    }
    extra = {"x_new_parameter": {"deep": [1, 2.50, None, "é"]}}
    client.chat.completions.create(
        model="openai/gpt-4o-mini", messages=user("Hello!"), extra_body=extra, extra_headers=mark.headers, **parameters
    )
    assert mark.bodies() == [{"model": "gpt-4o-mini", "messages": user("Hello!"), **parameters, **extra}]


PICTURE = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
PARTS = [
    {"type": "text", "text": "What is in the picture?"},
    {"type": "image_url", "image_url": {"url": PICTURE, "detail": "low"}},
]


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("openai/gpt-4o-mini", CONTENT),
        ("anthropic/claude-haiku-4-5", "A red dot."),
        ("echo/echo-1", "What is in the picture?\n[image]"),
    ],
)
def test_images(client, mark, model, expected):
    messages = [{"role": "user", "content": PARTS}]
    answer = client.chat.completions.create(model=model, messages=messages, extra_headers=mark.headers)
    assert answer.choices[0].message.content == expected
    if model.startswith("openai/"):
        assert mark.bodies()[0]["messages"] == messages


def test_images_in_anthropics_form(client, mark):
    client.chat.completions.create(
        model="misbehaving-claude/claude-haiku-4-5",
        messages=[{"role": "user", "content": PARTS}],
        extra_headers=mark.headers,
    )
    (body,) = mark.bodies()
    (image,) = [part for part in body["messages"][0]["content"] if part["type"] == "image"]
    data = PICTURE.split(",")[1]
    assert image["source"] == {"type": "base64", "media_type": "image/png", "data": data}


class City(BaseModel):
    name: str
    population: int


@pytest.mark.parametrize("model", ["echo/echo-1", "aimock/gpt-4o-mini", "anthropic/claude-haiku-4-5"])
def test_an_answer_that_fits_a_schema(client, model):
    answer = client.chat.completions.parse(model=model, messages=user("a city as JSON"), response_format=City)
    city = answer.choices[0].message.parsed
    assert isinstance(city, City)
    if not model.startswith("echo/"):
        assert city == City(name="Paris", population=2_100_000)


def test_the_schema_reaches_the_provider_untouched(client, mark):
    schema = {"type": "object", "properties": {"b": {"type": "string"}, "a": {"type": "integer"}}, "required": ["b"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "thing", "strict": True, "schema": schema}}
    client.chat.completions.create(
        model="openai/gpt-4o-mini", messages=user("Hello!"), response_format=wanted, extra_headers=mark.headers
    )
    (body,) = mark.bodies()
    assert json.dumps(body["response_format"], sort_keys=True) == json.dumps(wanted, sort_keys=True)


def test_json_mode(client):
    answer = client.chat.completions.create(
        model="echo/echo-1", messages=user("Hello!"), response_format={"type": "json_object"}
    )
    assert json.loads(answer.choices[0].message.content) == {"echo": "Hello!"}


def test_a_long_conversation_of_many_kilobytes(client):
    text = "".join(f"{n} ünïcödé 🙂 " for n in range(20_000)).strip()
    messages = [{"role": "system", "content": "Be brief."}, *user("a" * 1000), {"role": "assistant", "content": "b"}]
    answer = client.chat.completions.create(model="echo/echo-1", messages=[*messages, *user(text)])
    assert answer.choices[0].message.content == text


def test_a_large_answer(client):
    model = "misbehaving/gpt-4o-mini!large-body=3000000"
    whole = client.chat.completions.create(model=model, messages=user("Hello!")).choices[0].message.content
    streamed, _ = read(client.chat.completions.create(model=model, messages=user("Hello!"), stream=True))
    assert len(whole.encode()) == 3_000_000
    assert streamed == whole
