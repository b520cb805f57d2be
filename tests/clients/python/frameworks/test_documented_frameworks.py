"""What docs/clients.md says of the frameworks."""

import pytest

from documented import pieces, says_hello


@pytest.mark.parametrize(("name", "code"), pieces("Frameworks"))
def test_it_says_hello(name, code, capsys):
    says_hello(code, capsys)
