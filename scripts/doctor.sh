#!/usr/bin/env bash
# Names what is missing on this machine, and the command that gets it. Exit code 1 if anything is.
set -euo pipefail
missing=0

need() { # what, package or command
  printf 'missing: %s\n    get it: %s\n' "$1" "$2" >&2
  missing=1
}
has() { command -v "$1" >/dev/null 2>&1; }

if has rustup; then
  rustup target list --installed | grep -qx wasm32-wasip2 \
    || need 'the Rust target wasm32-wasip2' 'rustup target add wasm32-wasip2'
elif ! has cargo; then
  need 'Rust' 'https://rustup.rs'
fi
has cc || need 'a C compiler (SQLite is compiled in)' 'sudo apt-get install build-essential'
has python3 || need 'python3 (client tests)' 'sudo apt-get install python3 python3-venv'
has node || need 'node (client tests)' 'sudo apt-get install nodejs npm'
if ! has initdb && ! compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; then
  [ "${SKIP_SERVICES:-}" = 1 ] || need 'PostgreSQL server binaries (tests start their own)' \
    'sudo apt-get install postgresql   (or SKIP_SERVICES=1 to leave those tests out)'
fi
if ! has redis-server; then
  [ "${SKIP_SERVICES:-}" = 1 ] || [ "${SKIP_REDIS:-}" = 1 ] || need 'a Redis server (tests start their own)' \
    'sudo apt-get install redis-server   (or SKIP_REDIS=1 to leave those tests out)'
fi
if ! has npm; then
  [ "${SKIP_SERVICES:-}" = 1 ] || need 'npm (fetches the engine of the development ClickHouse)' \
    'sudo apt-get install nodejs npm   (or SKIP_SERVICES=1 to leave those tests out)'
fi
if ! has docker-registry; then
  [ "${SKIP_SERVICES:-}" = 1 ] || [ "${SKIP_REGISTRY:-}" = 1 ] || need 'an OCI registry (tests start their own)' \
    'sudo apt-get install docker-registry   (or SKIP_REGISTRY=1 to leave those tests out)'
fi
exit "$missing"
