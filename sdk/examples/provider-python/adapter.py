"""Acme's answers, whole or streamed, and its errors.

The tool looks for an interface's resources in a module of the interface's name: `adapter` has a `decoder`.
"""

import json

from componentize_py_types import Err
from wit_world.exports import adapter
from wit_world.imports.common import (
    Problem,
    ProblemKind,
    ProblemKind_Authentication,
    ProblemKind_ContextLength,
    ProblemKind_InvalidRequest,
    ProblemKind_NotFound,
    ProblemKind_Overloaded,
    ProblemKind_RateLimit,
    ProblemKind_Upstream,
    UsageEntry,
)
from wit_world.imports.exchange import (
    Call,
    Ending,
    Frame,
    Output,
    Output_Chunk,
    Output_Failure,
    Output_Usage,
    ResponseHead,
)


def kind_of(code: str, status: int) -> ProblemKind:
    """What an error of Acme's comes to: the kind decides the status, and whether another candidate is tried."""
    match code, status:
        case "too_long", _:
            return ProblemKind_ContextLength()
        case "busy", _:
            return ProblemKind_Overloaded()
        case _, 401:
            return ProblemKind_Authentication()
        case _, 404:
            return ProblemKind_NotFound()
        case _, 429:
            return ProblemKind_RateLimit()
        case _, status if 400 <= status < 500:
            return ProblemKind_InvalidRequest()
    return ProblemKind_Upstream()


def problem(
    kind: ProblemKind, message: str, param: str | None = None, retry_after_ms: int | None = None
) -> Problem:
    # JSON has halves of characters, which no text between components may have.
    message, param = (text and text.encode(errors="replace").decode() for text in (message, param))
    return Problem(
        kind=kind, message=message, code=None, param=param, status=None, retry_after_ms=retry_after_ms, body=None
    )


# One for each answer; it lives as long as that.
class Decoder(adapter.Decoder):
    def __init__(self, call: Call, head: ResponseHead, state: bytes) -> None:
        self.call, self.begun, self.ended = call, False, False

    # The frames of one read: lines of a stream, or the whole answer.
    def push(self, frames: list[Frame]) -> list[Output]:
        return [output for frame in frames for output in self.line(frame.data)]

    def finish(self) -> Ending:
        if not self.ended:
            raise Err(problem(ProblemKind_Upstream(), "Acme's answer was cut short."))
        return Ending(outputs=[], next=None)

    def line(self, data: bytes) -> list[Output]:
        try:
            line = json.loads(data)
            if error := line.get("error"):
                self.ended = True
                return [Output_Failure(problem(kind_of(error["code"], 500), str(error["message"])))]
            text, ended, tokens = line["text"], line.get("ended"), line.get("tokens")
            read, written = (tokens["in"], tokens["out"]) if tokens else (0, 0)
            counted = all(type(count) is int and 0 <= count < 1 << 53 for count in (read, written))
            if not isinstance(text, str) or not counted:
                raise ValueError
        except (ValueError, LookupError, TypeError, AttributeError):
            raise Err(problem(ProblemKind_Upstream(), "Acme's answer can't be understood."))
        self.ended = ended is not None
        said = {"content": text} if self.begun else {"role": "assistant", "content": text}
        self.begun = True
        answer = {
            "id": f"chatcmpl-{self.call.request_id}",
            "object": "chat.completion.chunk" if self.call.streaming else "chat.completion",
            "created": self.call.created,
            "model": self.call.model,
            "choices": [
                {
                    "index": 0,
                    "delta" if self.call.streaming else "message": said,
                    "logprobs": None,
                    "finish_reason": ended and ("length" if ended == "limit" else "stop"),
                }
            ],
        }
        outputs = []
        if tokens:
            # For the account, as soon as it is known.
            outputs.append(Output_Usage([UsageEntry("input", read), UsageEntry("output", written)]))
            answer["usage"] = {
                "prompt_tokens": read,
                "completion_tokens": written,
                "total_tokens": read + written,
            }
        return [*outputs, Output_Chunk(json.dumps(answer).encode())]
