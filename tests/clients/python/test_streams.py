"""Streams that break, clients that leave."""

import asyncio
import json
import urllib.request

import openai
import pytest

from conftest import BROKLE_URL, CONTENT, KEY, make_async_client, read, trace, user

ENDS = ["error-in-stream=3", "stall-after=4", "reset-at=1500", "close-at=1200"]


@pytest.mark.parametrize("fault", ENDS)
def test_a_stream_that_breaks_raises(client, fault):
    raw = client.chat.completions.with_raw_response.create(
        model=f"misbehaving/gpt-4o-mini!{fault}", messages=user("Hello!"), stream=True
    )
    text = ""
    with pytest.raises(openai.APIError) as caught:
        for chunk in raw.parse():
            text += chunk.choices[0].delta.content or ""
    assert caught.value.message
    assert text and CONTENT.startswith(text) and text != CONTENT
    broken = trace(raw.headers["x-brokle-trace-id"])
    assert broken["status"] == ("timeout" if fault.startswith("stall") else "error")
    assert broken["error"]["class"]


@pytest.mark.parametrize("fault", ["error-in-stream=3", "stall-after=4", "reset-at=1500"])
def test_a_translated_stream_that_breaks_raises(client, fault):
    with pytest.raises(openai.APIError) as caught:
        read(
            client.chat.completions.create(
                model=f"misbehaving-claude/claude-haiku-4-5!{fault}", messages=user("Hello!"), stream=True
            )
        )
    assert caught.value.message


SHAPES = ["crlf", "cr", "no-space", "bom", "comment-flood", "split-utf8", "after-done"]


@pytest.mark.parametrize("model", ["misbehaving/gpt-4o-mini", "misbehaving-claude/claude-haiku-4-5"])
@pytest.mark.parametrize("fault", [*(f"malformed-sse={shape}" for shape in SHAPES), "chunk=1", "gzip"])
def test_a_stream_in_an_odd_shape_is_read_all_the_same(client, model, fault):
    stream = client.chat.completions.create(model=f"{model}!{fault}", messages=user("Hello!"), stream=True)
    assert read(stream)[0] == CONTENT


SLOW = "!delay=100;events=300"


@pytest.mark.parametrize("model", ["misbehaving/gpt-4o-mini", "misbehaving-claude/claude-haiku-4-5"])
def test_a_client_that_leaves_a_stream(client, mark, model):
    raw = client.chat.completions.with_raw_response.create(
        model=model + SLOW, messages=user("Hello!"), stream=True, extra_headers=mark.headers
    )
    stream = raw.parse()
    text = ""
    for chunk in stream:
        text += chunk.choices[0].delta.content or ""
        if "🙂" in text:
            break
    stream.close()
    mark.wait_until_left()

    aborted = trace(raw.headers["x-brokle-trace-id"])
    assert (aborted["status"], aborted["status_code"]) == ("aborted", 499)
    assert aborted["error"]["class"] == "client_disconnected"
    assert aborted["streaming"] is True
    assert aborted["time_to_first_token_ms"] > 0


def test_an_asynchronous_client_that_is_cancelled(mark):
    async def run():
        async with make_async_client() as client:
            first = asyncio.Event()

            async def listen():
                stream = await client.chat.completions.create(
                    model="misbehaving/gpt-4o-mini" + SLOW,
                    messages=user("Hello!"),
                    stream=True,
                    extra_headers=mark.headers,
                )
                async with stream:
                    async for _ in stream:
                        first.set()

            task = asyncio.create_task(listen())
            await asyncio.wait_for(first.wait(), 10)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.to_thread(mark.wait_until_left)

    asyncio.run(run())


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_a_client_whose_patience_ends(client, mark, streamed):
    impatient = client.with_options(timeout=0.5)
    with pytest.raises(openai.APITimeoutError):
        impatient.chat.completions.create(
            model="misbehaving/gpt-4o-mini!hang-head",
            messages=user("Hello!"),
            stream=streamed,
            extra_headers=mark.headers,
        )
    mark.wait_until_left()


def test_a_slow_upstream_within_the_clients_patience(client):
    patient = client.with_options(timeout=10)
    answer = patient.chat.completions.create(model="misbehaving/gpt-4o-mini!slow-head=700", messages=user("Hello!"))
    assert answer.choices[0].message.content == CONTENT


def test_an_event_that_is_cut_short_is_followed_by_an_error():
    # The client stumbles over the half event itself, so this looks at the bytes.
    body = {"model": "misbehaving/gpt-4o-mini!truncated-json", "messages": user("Hello!"), "stream": True}
    request = urllib.request.Request(
        f"{BROKLE_URL}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        events = answer.read().decode().strip().split("\n\n")
    assert events[-1] == "data: [DONE]"
    error = json.loads(events[-2].removeprefix("data: "))["error"]
    assert error["message"] and error["code"]
