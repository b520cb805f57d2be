#!/usr/bin/env bash
# Packs a release: dist/brokle-VERSION-TRIPLE.tar.gz with the program, the components, and what to read first.
set -euo pipefail
cd "$(dirname "$0")/.."
version=$1
triple=$(rustc -vV | sed -n 's/^host: //p')
name="brokle-$version-$triple"
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT

mkdir -p "$stage/$name/plugins" dist
cp "$CARGO_TARGET_DIR/release/brokle" brokle.example.toml LICENSE "$stage/$name/"
[ ! -f README.md ] || cp README.md "$stage/$name/"
cp "$BROKLE_PLUGINS_DIR"/*.wasm "$stage/$name/plugins/"
# The same input gives the same file, whoever packs it and when.
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}" \
  -C "$stage" -cf - "$name" | gzip -n9 >"dist/$name.tar.gz"
echo "dist/$name.tar.gz"
