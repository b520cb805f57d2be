"""Instructor: answers as models of pydantic, by each of its ways, with its own retries."""

import anthropic
import instructor
import openai
import pytest
from instructor.core import InstructorRetryException
from pydantic import BaseModel, field_validator

from conftest import BROKLE_URL, KEY, make_client, user


class City(BaseModel):
    name: str
    population: int


MODES = [instructor.Mode.TOOLS, instructor.Mode.JSON, instructor.Mode.JSON_SCHEMA]


@pytest.mark.parametrize("mode", MODES)
def test_a_model_by_each_way(mode):
    client = instructor.from_openai(make_client(), mode=mode)
    model = "echo/echo-1" if mode != instructor.Mode.JSON else "aimock/gpt-4o-mini"
    city, raw = client.chat.completions.create_with_completion(
        model=model, messages=user("a city as JSON"), response_model=City, max_retries=0
    )
    assert isinstance(city, City)
    assert raw.usage.total_tokens > 0


def test_responses():
    client = instructor.from_openai(make_client(), mode=instructor.Mode.RESPONSES_TOOLS)
    city = client.responses.create(model="echo/echo-1", input="Paris", response_model=City, max_retries=0)
    assert isinstance(city, City)


def test_messages():
    asking = anthropic.Anthropic(base_url=BROKLE_URL, api_key=KEY, max_retries=0)
    client = instructor.from_anthropic(asking)
    city = client.messages.create(
        model="echo/echo-1", max_tokens=100, messages=user("Paris"), response_model=City, max_retries=0
    )
    assert isinstance(city, City)


def test_parts_of_a_stream():
    client = instructor.from_openai(make_client(), mode=instructor.Mode.JSON_SCHEMA)
    parts = list(
        client.chat.completions.create_partial(model="aimock/gpt-4o-mini", messages=user("a city as JSON"), response_model=City)
    )
    assert (parts[-1].name, parts[-1].population) == ("Paris", 2_100_000)


@pytest.mark.parametrize("mode", MODES[::2])
def test_what_is_not_valid_is_asked_for_again(mode):
    seen = []

    class Strict(City):
        @field_validator("name")
        @classmethod
        def twice(cls, name):
            seen.append(name)
            if len(seen) == 1:
                raise ValueError("say it again")
            return name

    client = instructor.from_openai(make_client(), mode=mode)
    city = client.chat.completions.create(
        model="echo/echo-1", messages=user("call Strict"), response_model=Strict, max_retries=2
    )
    assert len(seen) == 2 and city.name == seen[0]


def test_the_gateways_error_is_inside():
    client = instructor.from_openai(make_client("bk_" + "x" * 40))
    with pytest.raises(InstructorRetryException) as caught:
        client.chat.completions.create(
            model="echo/echo-1", messages=user("x"), response_model=City, max_retries=0
        )
    assert isinstance(caught.value.__cause__, openai.AuthenticationError)
