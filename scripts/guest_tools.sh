#!/usr/bin/env bash
# Installs what builds guests that aren't Rust, for the tests: componentize-py and componentize-js, in the versions that the
# examples name. Goes to $CARGO_TARGET_DIR/guest-tools; does nothing when it is there.
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
tools=${CARGO_TARGET_DIR:-$here/target}/guest-tools
examples=$here/sdk/examples

installed() { # FOLDER FILE: were the contents of FILE installed in FOLDER?
    [[ -f $1/.installed ]] && cmp -s "$1/.installed" "$2"
}

wanted=$examples/policy-python/requirements.txt
if ! installed "$tools/venv" "$wanted"; then
    echo "guest tools: componentize-py"
    rm -rf "$tools/venv"
    mkdir -p "$tools"
    if command -v uv >/dev/null; then
        uv venv --quiet --python "$(command -v python3)" "$tools/venv"
        uv pip install --quiet --python "$tools/venv/bin/python" -r "$wanted"
    else
        python3 -m venv "$tools/venv"
        "$tools/venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$wanted"
    fi
    cp "$wanted" "$tools/venv/.installed"
fi

wanted=$examples/policy-js/package.json
if ! installed "$tools/js" "$wanted"; then
    echo "guest tools: componentize-js"
    rm -rf "$tools/js"
    mkdir -p "$tools/js"
    cp "$wanted" "$tools/js/package.json"
    npm install --prefix "$tools/js" --no-audit --no-fund --loglevel=error
    cp "$wanted" "$tools/js/.installed"
fi
