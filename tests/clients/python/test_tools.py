"""Tools: one call, several at once, streamed, and the way back."""

import json

import pytest

from conftest import user

MODELS = ["echo/echo-1", "aimock/gpt-4o-mini", "anthropic/claude-haiku-4-5"]


def tool(name, parameter):
    schema = {"type": "object", "properties": {parameter: {"type": "string"}}, "required": [parameter]}
    return {"type": "function", "function": {"name": name, "description": name, "parameters": schema}}


TOOLS = [tool("get_weather", "city"), tool("get_time", "zone")]
ONE = 'call get_weather {"city":"Paris"}'
TWO = ONE + '\ncall get_time {"zone":"CET"}'
RESULTS = {"get_weather": "18°C and sunny", "get_time": "12:00"}


def wanted(calls):
    return [(call.type, call.function.name, json.loads(call.function.arguments)) for call in calls]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("prompt", "expected", "final"),
    [
        (ONE, [("function", "get_weather", {"city": "Paris"})], "18°C and sunny"),
        (
            TWO,
            [("function", "get_weather", {"city": "Paris"}), ("function", "get_time", {"zone": "CET"})],
            "18°C and sunny\n12:00",
        ),
    ],
    ids=["one", "parallel"],
)
def test_the_round_trip(client, model, prompt, expected, final):
    messages = user(prompt)
    (choice,) = client.chat.completions.create(model=model, messages=messages, tools=TOOLS).choices
    calls = choice.message.tool_calls
    assert choice.finish_reason == "tool_calls"
    assert wanted(calls) == expected
    assert len({call.id for call in calls}) == len(calls)

    messages.append(choice.message.model_dump(exclude_none=True))
    for call in calls:
        messages.append({"role": "tool", "tool_call_id": call.id, "content": RESULTS[call.function.name]})
    (choice,) = client.chat.completions.create(model=model, messages=messages, tools=TOOLS).choices
    assert (choice.message.content, choice.finish_reason) == (final, "stop")


@pytest.mark.parametrize("model", MODELS)
def test_streamed_calls_add_up(client, model):
    with client.chat.completions.stream(model=model, messages=user(TWO), tools=TOOLS) as stream:
        (choice,) = stream.get_final_completion().choices
    assert choice.finish_reason == "tool_calls"
    assert wanted(choice.message.tool_calls) == [
        ("function", "get_weather", {"city": "Paris"}),
        ("function", "get_time", {"zone": "CET"}),
    ]


def test_the_choice_of_a_tool(client):
    def names(**parameters):
        answer = client.chat.completions.create(model="echo/echo-1", tools=TOOLS, **parameters)
        return [call.function.name for call in answer.choices[0].message.tool_calls or []]

    chosen = {"type": "function", "function": {"name": "get_time"}}
    assert names(messages=user("Hello!"), tool_choice=chosen) == ["get_time"]
    assert names(messages=user("Hello!"), tool_choice="required") == ["get_weather"]
    assert names(messages=user(ONE), tool_choice="none") == []
    assert names(messages=user(TWO), parallel_tool_calls=False) == ["get_weather"]


def test_results_in_anthropics_form(client, mark):
    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"Paris"}'}}
    messages = [
        *user(ONE),
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "18°C and sunny"},
    ]
    client.chat.completions.create(
        model="misbehaving-claude/claude-haiku-4-5", messages=messages, tools=TOOLS, extra_headers=mark.headers
    )
    (body,) = mark.bodies()
    (used,) = [part for part in body["messages"][1]["content"] if part["type"] == "tool_use"]
    (result,) = [part for part in body["messages"][2]["content"] if part["type"] == "tool_result"]
    assert (used["id"], used["name"], used["input"]) == ("call_1", "get_weather", {"city": "Paris"})
    assert result["tool_use_id"] == "call_1"
    assert "18°C and sunny" in json.dumps(result["content"], ensure_ascii=False)
    assert [it["name"] for it in body["tools"]] == ["get_weather", "get_time"]
