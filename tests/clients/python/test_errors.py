"""Each failure is the exception that the client has for it, and says what a caller needs to mend it."""

import os

import openai
import pytest

from conftest import BROKLE_URL, CONTENT, KEY, UPSTREAM_URL, call, make_client, user


def refused(kind, status, make):
    with pytest.raises(kind) as caught:
        make()
    assert type(caught.value) is kind
    assert caught.value.status_code == status
    assert caught.value.request_id
    assert caught.value.body["message"]
    return caught.value


def chat(client, model="echo/echo-1", text="Hello!", **parameters):
    return client.chat.completions.create(model=model, messages=user(text), **parameters)


@pytest.mark.parametrize("key", ["bk_" + "x" * 40, "sk-something-else", "bk_short"])
def test_a_key_that_is_none(key):
    for make in (lambda client: chat(client), lambda client: client.models.list()):
        error = refused(openai.AuthenticationError, 401, lambda: make(make_client(key)))
        assert (error.code, error.type) == ("invalid_api_key", "authentication_error")
        assert key not in str(error)


def test_the_other_header_for_the_key():
    body = {"model": "echo/echo-1", "messages": user("Hello!")}
    url = f"{BROKLE_URL}/v1/chat/completions"
    assert call("POST", url, body, {"X-API-Key": KEY})[0] == 200
    status, _, answer = call("POST", url, body)
    assert (status, answer["error"]["code"]) == (401, "invalid_api_key")


def test_a_key_without_the_scope():
    client = make_client(os.environ["BROKLE_READ_ONLY_KEY"])
    assert refused(openai.PermissionDeniedError, 403, lambda: chat(client)).code == "insufficient_scope"


def test_a_key_beyond_its_own_limit():
    client = make_client(os.environ["BROKLE_LIMITED_KEY_PYTHON"])
    head = client.chat.completions.with_raw_response.create(model="echo/echo-1", messages=user("Hello!")).headers
    assert (head["x-ratelimit-limit-requests"], head["x-ratelimit-remaining-requests"]) == ("1", "0")
    error = refused(openai.RateLimitError, 429, lambda: chat(client))
    assert error.code == "rate_limit_exceeded"
    assert 0 < int(error.response.headers["retry-after"]) <= 60


@pytest.mark.parametrize("model", ["no-such-model", "openai/", "nobody/gpt-4o-mini"])
def test_a_model_that_is_none(client, model):
    error = refused(openai.NotFoundError, 404, lambda: chat(client, model))
    assert (error.code, error.param, error.type) == ("model_not_found", "model", "invalid_request_error")


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"model": "echo/echo-1"}, "messages", "missing_required_parameter"),
        ({"messages": user("Hello!")}, "model", "missing_required_parameter"),
        ({"model": "echo/echo-1", "messages": []}, "messages", "empty_array"),
        ({"model": "echo/echo-1", "messages": "Hello!"}, "messages", "invalid_type"),
        ({"model": "echo/echo-1", "messages": [{"content": "x"}]}, "messages[0].role", "missing_required_parameter"),
        ({"model": "echo/echo-1", "messages": user("x"), "temperature": "hot"}, "temperature", "invalid_type"),
        ({"model": "echo/echo-1", "messages": user("x"), "n": 0}, "n", None),
    ],
)
def test_a_request_that_is_wrong(client, body, param, code):
    error = refused(
        openai.BadRequestError, 400, lambda: client.post("/chat/completions", body=body, cast_to=object)
    )
    assert (error.param, error.type) == (param, "invalid_request_error")
    assert code is None or error.code == code


def test_a_path_that_is_none(client):
    error = refused(openai.NotFoundError, 404, lambda: client.post("/nothing/here", body={}, cast_to=object))
    assert error.code == "unknown_url"


STATUSES = [
    (400, openai.BadRequestError),
    (404, openai.NotFoundError),
    (429, openai.RateLimitError),
    (500, openai.InternalServerError),
    (502, openai.InternalServerError),
    (503, openai.InternalServerError),
]


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("status", "kind"), STATUSES)
def test_the_providers_errors(client, status, kind, streamed):
    refused(kind, status, lambda: chat(client, f"misbehaving/gpt-4o-mini!status={status}", stream=streamed))


#: Anthropic's statuses, and what becomes of them: its 5xx say less to an OpenAI client than the gateway's own.
TRANSLATED = [
    (400, 400, openai.BadRequestError),
    (404, 404, openai.NotFoundError),
    (429, 429, openai.RateLimitError),
    (500, 502, openai.InternalServerError),
    (529, 503, openai.InternalServerError),
]


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("theirs", "ours", "kind"), TRANSLATED)
def test_anthropics_errors(client, theirs, ours, kind, streamed):
    model = f"misbehaving-claude/claude-haiku-4-5!status={theirs}"
    refused(kind, ours, lambda: chat(client, model, stream=streamed))


def test_the_providers_error_is_passed_on_in_its_own_words(client):
    error = refused(openai.RateLimitError, 429, lambda: chat(client, "misbehaving/gpt-4o-mini!status=429"))
    assert (error.body["message"], error.type, error.code) == (
        "Rate limit reached for requests.",
        "requests",
        "rate_limit_exceeded",
    )


@pytest.mark.parametrize("model", ["misbehaving/gpt-4o-mini", "misbehaving-claude/claude-haiku-4-5"])
def test_how_long_to_wait_is_passed_on(client, model):
    error = refused(openai.RateLimitError, 429, lambda: chat(client, f"{model}!status=429;retry-after=7"))
    assert error.response.headers["retry-after"] == "7"


@pytest.mark.parametrize("status", [400, 429, 500, 503])
def test_a_plugins_own_errors(client, status):
    kind = dict(STATUSES)[status]
    error = refused(kind, status, lambda: chat(client, text=f"error {status}"))
    if status == 429:
        assert error.response.headers["retry-after"] == "1"


def test_a_prompt_that_does_not_fit(client):
    error = refused(openai.BadRequestError, 400, lambda: chat(client, text="error context_length"))
    assert error.code == "context_length_exceeded"


@pytest.mark.parametrize("fault", ["refuse", "truncated-json", "close-at=100", "reset-at=300"])
def test_an_upstream_that_breaks_before_its_answer_is_whole(client, fault):
    refused(openai.InternalServerError, 502, lambda: chat(client, f"misbehaving/gpt-4o-mini!{fault}"))


def test_an_upstream_that_does_not_answer(client):
    error = refused(openai.InternalServerError, 504, lambda: chat(client, "misbehaving/gpt-4o-mini!hang-head"))
    assert error.code == "upstream_timeout"


def test_the_clients_own_retry():
    # The gateway has one candidate for this name, so each of the client's tries is one request upstream.
    script = {"faults": ["status=429;retry-after=1", "status=500", ""], "key": "sk-test"}
    call("POST", f"{UPSTREAM_URL}/__script", script)
    answer = chat(make_client(max_retries=2), "misbehaving/gpt-4o-mini")
    assert answer.choices[0].message.content == CONTENT
