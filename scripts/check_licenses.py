#!/usr/bin/env python3
"""Holds `cargo metadata` against deny.toml: licences, banned crates, sources. For machines without cargo-deny."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOKEN = re.compile(r"\(|\)|[^\s()/]+|/")


def allowed(expression: str, allow: set[str]) -> bool:
    """Evaluates an SPDX expression; `/` is the old spelling of OR, and AND binds closer than OR."""
    tokens = ["OR" if token == "/" else token for token in TOKEN.findall(expression)]
    position = 0

    def peek() -> str | None:
        return tokens[position] if position < len(tokens) else None

    def take() -> str:
        nonlocal position
        if position >= len(tokens):
            raise ValueError(f"can't read the licence {expression!r}")
        position += 1
        return tokens[position - 1]

    def primary() -> bool:
        token = take()
        if token == "(":
            inner = either()
            if take() != ")":
                raise ValueError(f"can't read the licence {expression!r}")
            return inner
        if peek() == "WITH":
            take()
            token = f"{token} WITH {take()}"
        return token in allow

    def both() -> bool:
        result = primary()
        while peek() == "AND":
            take()
            result = primary() and result
        return result

    def either() -> bool:
        result = both()
        while peek() == "OR":
            take()
            result = both() or result
        return result

    result = either()
    if peek() is not None:
        raise ValueError(f"can't read the licence {expression!r}")
    return result


def main() -> int:
    rules = tomllib.loads((ROOT / "deny.toml").read_text())
    allow = set(rules["licenses"]["allow"])
    banned = {entry["name"] for entry in rules["bans"]["deny"]}
    registries = {f"registry+{url}" for url in rules["sources"]["allow-registry"]}
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--all-features"]
    metadata = json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)
    problems = []
    for package in metadata["packages"]:
        name = f"{package['name']} {package['version']}"
        if package["source"] is None:
            continue
        if package["source"] not in registries:
            problems.append(f"{name}: comes from {package['source']}")
        if package["name"] in banned:
            problems.append(f"{name}: is banned")
        if not package["license"] or not allowed(package["license"], allow):
            problems.append(f"{name}: licence {package['license']!r} isn't allowed")
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"licences, bans, sources: {len(metadata['packages'])} packages, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
