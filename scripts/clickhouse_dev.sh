#!/usr/bin/env bash
# Fetches the engine of the development ClickHouse (tests/clickhouse-dev) by npm, in the version and with the hash that
# its package-lock.json pins. Goes to $CARGO_TARGET_DIR/clickhouse-dev; does nothing when it is there, or when services are
# left out. Also where CLICKHOUSE_URL names a real server: nobody but the tests' own may be taken away.
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
folder=${CARGO_TARGET_DIR:-$here/target}/clickhouse-dev
pinned=$here/tests/clickhouse-dev

[[ ${SKIP_SERVICES:-} != 1 ]] || exit 0
if [[ -f $folder/.installed ]] && cmp -s "$folder/.installed" "$pinned/package-lock.json"; then
    exit 0
fi
echo 'development ClickHouse: fetching its engine (167 MB)'
rm -rf "$folder"
mkdir -p "$folder"
cp "$pinned"/{package.json,package-lock.json,.npmrc} "$folder/"
npm ci --prefix "$folder" --ignore-scripts --no-audit --no-fund --loglevel=error
cp "$pinned/package-lock.json" "$folder/.installed"
