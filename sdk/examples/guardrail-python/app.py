"""Words that must not leave the house: requests with one are blocked, answers have them masked."""

import json

import wit_world
from wit_world import exports
from wit_world.imports import config
from wit_world.imports.facts import (
    Annotation,
    Call,
    Document,
    Edit,
    Fragment,
    Refusal,
    Ruling,
    StreamRuling,
    Text,
    Verdict,
    Verdict_Allow,
    Verdict_Block,
    Verdict_Change,
)


class WitWorld(wit_world.WitWorld):
    def describe(self) -> bytes:
        return json.dumps({"stages": ["request", "response"]}).encode()

    # The schema in plugin.json says all there is to say.
    def check_config(self, config: bytes) -> None:
        pass

    def self_test(self) -> None:
        assert find([b"ab", b"abc"], b"xabc", 0) == (1, 4)


# Texts are edited by bytes of UTF-8, so they are searched as bytes.
def words() -> list[bytes]:
    return [word.encode() for word in json.loads(config.value("/words") or "[]") if word]


def find(words: list[bytes], text: bytes, start: int) -> tuple[int, int] | None:
    """The first word at or after a place; of those that begin there, the longest."""
    found = [(at, -len(word)) for word in words if (at := text.find(word, start)) >= 0]
    if not found:
        return None
    at, length = min(found)
    return at, at - length


def mask(words: list[bytes], index: int, text: bytes, decided: int) -> tuple[list[Edit], int]:
    """Edits for the words that begin before `decided`, and where the last of them ends."""
    edits, at = [], 0
    while (found := find(words, text, at)) and found[0] < decided:
        start, at = found
        edits.append(Edit(text=index, start=start, end=at, replacement="***"))
    return edits, at


def ruling(verdict: Verdict, masked: int = 0) -> Ruling:
    annotations = [Annotation(name="masked", value=json.dumps(masked).encode())] if masked else []
    return Ruling(verdict=verdict, annotations=annotations, state=b"")


def changed(edits: list[Edit]) -> Verdict:
    return Verdict_Change(edits) if edits else Verdict_Allow()


class Guard(exports.Guard):
    def on_request(self, call: Call, request: Document, texts: list[Text]) -> Ruling:
        forbidden = words()
        if any(find(forbidden, text.value.encode(), 0) for text in texts):
            # Never put what was found into the reason.
            reason = "The request names something that must not leave the house."
            return ruling(Verdict_Block(Refusal(category="confidential", reason=reason)))
        return ruling(Verdict_Allow())

    def on_response(self, call: Call, request: Document, texts: list[Text]) -> Ruling:
        edits, forbidden = [], words()
        for index, text in enumerate(texts):
            value = text.value.encode()
            edits += mask(forbidden, index, value, len(value))[0]
        return ruling(changed(edits), len(edits))

    # A word may be cut in two by the stream: what could still become one, or a longer one, is held back until more
    # has come, so that the same comes of every cut. The fixtures try them all.
    def on_chunk(self, call: Call, request: Document, fragments: list[Fragment], finish: bool) -> StreamRuling:
        edits, hold, forbidden = [], [], words()
        longest = max(map(len, forbidden), default=0)
        for index, fragment in enumerate(fragments):
            value = fragment.value.encode()
            decided = len(value) if fragment.last else max(len(value) - longest, 0)
            found, end = mask(forbidden, index, value, decided)
            cut = max(decided, end)
            # Not in the middle of a character.
            while cut < len(value) and value[cut] & 0xC0 == 0x80:
                cut -= 1
            edits += found
            hold.append(len(value) - cut)
        return StreamRuling(ruling=ruling(changed(edits)), hold=hold)
