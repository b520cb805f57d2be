"""What docs/clients.md says of the vendors' own clients."""

import pytest

from documented import pieces, says_hello


@pytest.mark.parametrize(("name", "code"), pieces("The vendors' own"))
def test_it_says_hello(name, code, capsys):
    says_hello(code, capsys)
