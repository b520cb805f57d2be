"""Acme's text API: what was said goes in, a text comes out, in lines of JSON when it is streamed."""

import json

import wit_world
from adapter import kind_of, problem
from componentize_py_types import Err
from wit_world import exports
from wit_world.imports.common import ProblemKind_Unsupported
from wit_world.imports.exchange import (
    Auth_Bearer,
    Body,
    BodyPlan_Replaced,
    Call,
    ErrorOutcome,
    ErrorOutcome_Problem,
    Payload,
    Preparation,
    Preparation_Request,
    ResponseHead,
    ResponsePlan_Decoded,
    UpstreamRequest,
)

# What is said in Acme's words, or changes nothing of the answer. All else is refused by its name rather than left out.
KNOWN = {"messages", "max_tokens", "max_completion_tokens", "temperature", "model", "stream", "stream_options", "user"}


class WitWorld(wit_world.WitWorld):
    def describe(self) -> bytes:
        return json.dumps({"operations": {"chat.completions": ["stream"]}}).encode()

    # The schema in plugin.json says all there is to say.
    def check_config(self, config: bytes) -> None:
        pass

    def self_test(self) -> None:
        assert request_of({"messages": [{"role": "user", "content": "hi"}]})["prompt"] == [{"from": "user", "text": "hi"}]


class Adapter(exports.Adapter):
    def prepare(self, call: Call, body: Body) -> Preparation:
        if call.operation != "chat.completions":
            raise Err(problem(ProblemKind_Unsupported(), f"Acme has no {call.operation}."))
        request = request_of(json.loads(body.read(0, body.size())))
        data = json.dumps({"engine": call.model, **request, "stream": call.streaming}).encode()
        return Preparation_Request(
            UpstreamRequest(
                method="POST",
                path="/generate",
                headers=[],
                # The host puts the credential in; nobody here sees it.
                auth=Auth_Bearer(),
                body=BodyPlan_Replaced(Payload(content_type="application/json", data=data)),
                response=ResponsePlan_Decoded("ndjson" if call.streaming else "whole"),
            )
        )

    def map_error(self, call: Call, head: ResponseHead, body: bytes) -> ErrorOutcome:
        try:
            error = json.loads(body)["error"]
            code, message = error["code"], error["message"]
            if not isinstance(message, str):
                raise ValueError
        except (ValueError, LookupError, TypeError):
            code, message = "", f"Acme answered {head.status} without a message."
        after = next((header.value for header in head.headers if header.name == "retry-after"), "")
        retry_after_ms = int(after) * 1000 if after.isdecimal() and len(after) < 8 else None
        return ErrorOutcome_Problem(problem(kind_of(code, head.status), message, retry_after_ms=retry_after_ms))


def request_of(request: dict) -> dict:
    """The caller's request in Acme's words."""
    for name, value in request.items():
        if name not in KNOWN and value is not None:
            raise Err(problem(ProblemKind_Unsupported(), "Acme's models have nothing like it.", param=name))
    prompt = []
    for index, message in enumerate(request["messages"]):
        text = message.get("content")
        if not isinstance(text, str):
            param = f"messages[{index}].content"
            raise Err(problem(ProblemKind_Unsupported(), "Acme takes texts only.", param=param))
        prompt.append({"from": message.get("role"), "text": text})
    said = {
        "prompt": prompt,
        "limit": request.get("max_completion_tokens") or request.get("max_tokens"),
        "temperature": request.get("temperature"),
    }
    return {name: value for name, value in said.items() if value is not None}
