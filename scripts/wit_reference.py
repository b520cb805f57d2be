#!/usr/bin/env python3
"""Writes docs/plugins/wit.md from wit/: every package, interface, type and function with its own words.

    scripts/wit_reference.py           writes it
    scripts/wit_reference.py --check   fails when it isn't what wit/ says
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs/plugins/wit.md"
ORDER = ["types", "host", "provider", "routing", "guardrail", "dialect", "exporter"]
HEAD = """# The contract, item by item

Written from `wit/` by `make docs`; change it there. How the pieces play together: [writing](writing.md), and one guide for
each role. What may still change, and how: [wit/README.md](../../wit/README.md).
"""
ITEM = re.compile(r"^(package|interface|world|record|variant|enum|flags|resource|type)\b\s*([^\s{;=]*)")
FUNCTION = re.compile(r"^(?:export |import )?([a-z][a-z0-9-]*): (?:static |async )*func\b|^constructor\(")


def statements(text):
    """Each item with the documentation before it and its depth: (depth, documentation, code)."""
    depth, docs, code = 0, [], []
    for line in text.splitlines():
        line = line.strip()
        if line.startswith("///"):
            docs.append(line[3:].removeprefix(" "))
            continue
        if not line or line.startswith("//") or line.startswith("@"):
            continue
        if line == "}":
            depth -= 1
            continue
        code.append(line)
        whole = " ".join(code)
        if line.endswith(("{", ";", ",", "{}", "}")):
            yield depth, docs, whole
            depth += whole.count("{") - whole.count("}")
            docs, code = [], []


def cell(docs):
    return " ".join(docs).replace("|", "\\|").strip()


def reference(package):
    lines, table = [], []

    def close():
        if table:
            lines.extend(["", "| | |", "|---|---|", *table, ""])
            table.clear()

    for path in sorted((ROOT / "wit" / package).glob("*.wit")):
        for depth, docs, code in statements(path.read_text()):
            kind = ITEM.match(code)
            if kind and kind[1] == "package":
                if not lines:
                    lines.extend([f"## `{kind[2]}`", ""])
            elif depth == 0 and kind:
                close()
                lines.extend(["", f"### {kind[1]} `{kind[2]}`", "", *docs, ""])
            elif kind and kind[1] in {"record", "variant", "enum", "flags", "resource", "type"}:
                close()
                title = f"{kind[1]} {kind[2]}" if "=" not in code else code.rstrip(";")
                lines.extend(["", f"#### `{title}`", "", *docs])
            elif FUNCTION.match(code) or depth >= 2 or code.startswith(("import", "export", "include")):
                table.append(f"| `{code.rstrip(',;')}` | {cell(docs)} |")
        close()
    return lines


def main():
    parts = [HEAD]
    for package in ORDER:
        parts.append("\n".join(reference(package)))
    known = {path.name for path in (ROOT / "wit").iterdir() if path.is_dir()}
    if known != set(ORDER):
        sys.exit(f"wit_reference: ORDER names {ORDER}, wit/ has {sorted(known)}")
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(parts)).rstrip() + "\n"
    if "--check" not in sys.argv:
        TARGET.write_text(text)
    elif not TARGET.exists() or TARGET.read_text() != text:
        sys.exit("docs/plugins/wit.md isn't what wit/ says: run `make docs`")


main()
