#!/usr/bin/env bash
# Installs the server that speaks S3's API for the tests (moto, tests/services/s3-requirements.txt). Goes to
# $CARGO_TARGET_DIR/s3-dev; does nothing when it is there, or when services are left out.
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
folder=${CARGO_TARGET_DIR:-$here/target}/s3-dev
wanted=$here/tests/services/s3-requirements.txt

[[ ${SKIP_SERVICES:-} != 1 ]] || exit 0
if [[ -f $folder/.installed ]] && cmp -s "$folder/.installed" "$wanted"; then
    exit 0
fi
echo 'development S3: moto'
rm -rf "$folder"
if command -v uv >/dev/null; then
    uv venv --quiet --python "$(command -v python3)" "$folder"
    uv pip install --quiet --python "$folder/bin/python" -r "$wanted"
else
    python3 -m venv "$folder"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check -r "$wanted"
fi
cp "$wanted" "$folder/.installed"
