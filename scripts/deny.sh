#!/usr/bin/env bash
# Licences, sources and banned crates, as deny.toml says: with cargo-deny if it is there, else with our own reading of
# the same file.
set -euo pipefail
cd "$(dirname "$0")/.."
if command -v cargo-deny >/dev/null 2>&1 && cargo deny --offline check licenses bans sources; then
  exit 0
elif command -v cargo-deny >/dev/null 2>&1; then
  exit 1
fi
exec python3 scripts/check_licenses.py
