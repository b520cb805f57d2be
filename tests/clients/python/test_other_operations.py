"""Embeddings, legacy completions, the list of models."""

import base64
import math
import struct

import openai
import pytest

from conftest import CONTENT

EMBEDDING_MODELS = ["openai/text-embedding-3-small", "text-embedding-3-small", "echo/echo-embedding"]


def near(a, b):
    return len(a) == len(b) and all(math.isclose(x, y, abs_tol=1e-6) for x, y in zip(a, b))


@pytest.mark.parametrize("model", EMBEDDING_MODELS)
def test_floats_and_base64_are_the_same_vector(client, model):
    def embed(**parameters):
        answer = client.embeddings.create(model=model, input="one two three", **parameters)
        assert answer.usage.prompt_tokens == answer.usage.total_tokens == 3
        return answer.data[0].embedding

    floats = embed(encoding_format="float")
    # Unless told otherwise the client asks for base64 and decodes it.
    assert near(embed(), floats)
    encoded = embed(encoding_format="base64")
    assert isinstance(encoded, str)
    raw = base64.b64decode(encoded)
    assert near(struct.unpack(f"<{len(raw) // 4}f", raw), floats)
    assert math.isclose(sum(x * x for x in floats), 1.0, abs_tol=1e-4)


@pytest.mark.parametrize("model", EMBEDDING_MODELS)
def test_a_batch_keeps_its_order(client, model):
    texts = ["one", "two words", "three words here", "one"]
    answer = client.embeddings.create(model=model, input=texts)
    assert [item.index for item in answer.data] == [0, 1, 2, 3]
    for text, item in zip(texts, answer.data):
        assert near(client.embeddings.create(model=model, input=text).data[0].embedding, item.embedding)
    assert near(answer.data[0].embedding, answer.data[3].embedding)
    assert not near(answer.data[0].embedding, answer.data[1].embedding)


@pytest.mark.parametrize("model", EMBEDDING_MODELS)
def test_dimensions(client, model):
    answer = client.embeddings.create(model=model, input="Hello!", dimensions=16)
    assert len(answer.data[0].embedding) == 16


@pytest.mark.parametrize("model", EMBEDDING_MODELS)
def test_tokens_instead_of_text(client, model):
    answer = client.embeddings.create(model=model, input=[[1, 2, 3], [4, 5]])
    assert len(answer.data) == 2
    assert not near(answer.data[0].embedding, answer.data[1].embedding)


@pytest.mark.parametrize(
    ("model", "expected"),
    [("openai/gpt-3.5-turbo-instruct", CONTENT), ("echo/echo-1", "one two three")],
)
def test_legacy_completions(client, model, expected):
    whole = client.completions.create(model=model, prompt="one two three")
    assert (whole.object, whole.choices[0].text, whole.choices[0].finish_reason) == (
        "text_completion",
        expected,
        "stop",
    )
    assert whole.usage.prompt_tokens == 3

    chunks = list(client.completions.create(model=model, prompt="one two three", stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == expected
    assert all(chunk.usage is None for chunk in chunks)

    asked = {"include_usage": True}
    chunks = list(client.completions.create(model=model, prompt="one two three", stream=True, stream_options=asked))
    assert chunks[-1].usage.total_tokens == whole.usage.total_tokens


def test_models(client):
    models = {model.id: model for model in client.models.list()}
    assert models["gpt-4o-mini"].owned_by == "openai"
    assert models["claude-haiku-4-5"].owned_by == "anthropic"
    assert models["echo-1"].owned_by == "echo"
    # A name that only a connection lists.
    assert models["refused-first"].owned_by == "openai"
    assert {model.object for model in models.values()} == {"model"}

    assert client.models.retrieve("gpt-4o-mini") == models["gpt-4o-mini"]
    assert client.models.retrieve("echo/echo-1").id == "echo/echo-1"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("no-such-model")
    assert caught.value.code == "model_not_found"
