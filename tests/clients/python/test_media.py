"""Images, speech and transcripts, by the official client against a mock that other people wrote."""

import base64
import io
import json

import openai
import pytest

from conftest import eventually, trace
from vendors import Vendor, vendor


def recording():
    file = io.BytesIO(b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(range(256)))
    file.name = "said.wav"
    return file


def observation(raw):
    """What is kept of a call."""
    return eventually(lambda: trace(raw.headers["x-brokle-trace-id"]))


def test_an_image_is_made(client):
    raw = client.images.with_raw_response.generate(model="aimock/gpt-image-1", prompt="a red dot")
    (image,) = raw.parse().data
    assert base64.b64decode(image.b64_json) == b"hello"
    kept = observation(raw)
    assert (kept["type"], kept["name"]) == ("image", "image_generation aimock/gpt-image-1")


def test_an_image_is_changed(client):
    picture = io.BytesIO(b"\x89PNG\r\n\x1a\n" + bytes(64))
    picture.name = "dot.png"
    raw = client.images.with_raw_response.edit(model="aimock/gpt-image-1", image=picture, prompt="a red dot")
    assert base64.b64decode(raw.parse().data[0].b64_json) == b"hello"
    assert observation(raw)["type"] == "image"


def test_a_text_is_read_aloud(client):
    raw = client.audio.speech.with_raw_response.create(model="aimock/tts-1", voice="alloy", input="Read this.")
    assert raw.content == base64.b64decode("SUQzBAAAAAAAAA==")
    assert raw.headers["content-type"] == "audio/mpeg"
    assert observation(raw)["type"] == "audio"


def test_what_is_said_is_written_down(client):
    raw = client.audio.transcriptions.with_raw_response.create(model="aimock/whisper-1", file=recording())
    assert raw.parse().text == "What was said."
    kept = observation(raw)
    assert (kept["type"], kept["name"]) == ("audio", "transcription aimock/whisper-1")


def test_and_in_english(client):
    answer = client.audio.translations.create(model="aimock/whisper-1", file=recording())
    assert answer.text == "What was said, in English."


@pytest.mark.parametrize(
    ("call", "param"),
    [
        (lambda client: client.images.generate(model="aimock/gpt-image-1", prompt=5), "prompt"),
        (lambda client: client.audio.transcriptions.create(model="", file=recording()), "model"),
    ],
)
def test_a_wrong_request_names_its_field(client, call, param):
    with pytest.raises(openai.BadRequestError) as error:
        call(client)
    assert error.value.param == param


def test_a_provider_without_it_says_so(client):
    with pytest.raises(openai.BadRequestError) as error:
        client.images.generate(model="anthropic/claude-haiku-4-5", prompt="a red dot")
    assert error.value.code == "unsupported"


# As OpenAI's API description has them.
STREAMS = {
    "/v1/images/generations": [
        {"type": "image_generation.partial_image", "b64_json": "A" * 200_000, "partial_image_index": 0},
        {
            "type": "image_generation.completed",
            "b64_json": "aGVsbG8=",
            "usage": {"total_tokens": 100, "input_tokens": 50, "output_tokens": 50},
        },
    ],
    "/v1/audio/transcriptions": [
        {"type": "transcript.text.delta", "delta": "What was said."},
        {
            "type": "transcript.text.done",
            "text": "What was said.",
            "usage": {"type": "tokens", "input_tokens": 14, "output_tokens": 45, "total_tokens": 59},
        },
    ],
}


class Streaming(Vendor):
    """A vendor that streams what the mock answers whole."""

    def do_POST(self):
        self.body()
        events = (f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in STREAMS[self.path])
        self.answer("".join(events).encode(), kind="text/event-stream")


@pytest.fixture
def streaming():
    with vendor(Streaming, "openai", "/v1") as (_, name):
        yield name


def test_an_image_comes_as_it_is_drawn(client, streaming):
    raw = client.images.with_raw_response.generate(
        model=f"{streaming}/gpt-image-1", prompt="a red dot", stream=True, partial_images=1
    )
    draft, image = list(raw.parse())
    assert (draft.type, draft.partial_image_index, len(draft.b64_json)) == ("image_generation.partial_image", 0, 200_000)
    assert base64.b64decode(image.b64_json) == b"hello"
    assert observation(raw)["usage"]["output"] == image.usage.output_tokens == 50


def test_a_transcript_comes_as_it_is_written(client, streaming):
    events = client.audio.transcriptions.create(
        model=f"{streaming}/gpt-4o-transcribe", file=recording(), stream=True
    )
    assert [event.type for event in events] == ["transcript.text.delta", "transcript.text.done"]
