#!/usr/bin/env bash
# Writes sentences.jsonl anew. Installs presidio-evaluator (MIT) into a folder beside the build; about 1 GB.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
venv="${CARGO_TARGET_DIR:-$here/../../../target}/recall/venv"
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/python" -c 'import presidio_evaluator' 2>/dev/null || "$venv/bin/pip" install --quiet 'presidio-evaluator==0.3.2'
"$venv/bin/python" "$here/generate.py" "$here/sentences.jsonl"
wc -l "$here/sentences.jsonl"
