"""The code of docs/clients.md, as it is run here."""

import pathlib
import re

from conftest import BROKLE_URL, KEY

PAGE = pathlib.Path(__file__).parents[3] / "docs" / "clients.md"


def pieces(section):
    """The Python code under a heading of the page: beside each, the client's name."""
    text = PAGE.read_text().split(f"\n## {section}\n")[1].split("\n## ")[0]
    text = text.replace("http://127.0.0.1:8080", BROKLE_URL).replace("bk_…", KEY)
    found = re.finditer(r"^### ([^\n]*)$|^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    name, code = None, []
    for match in found:
        name = match[1] or name
        if match[2]:
            code.append((name, match[2]))
    assert code, section
    return code


def says_hello(code, capsys):
    exec(compile(code, PAGE, "exec"), {"__name__": "documented"})
    assert capsys.readouterr().out == "Hello!\n"
