#!/usr/bin/env bash
# Makes profile/brokle.profdata.gz anew: an instrumented release, load, and what was counted meanwhile. Needs the component
# llvm-tools of the compiler (rustup component add llvm-tools).
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
cd "$here"
: "${CARGO_TARGET_DIR:?is set by make profile}"
host=$(rustc -vV | sed -n 's/^host: //p')
merge=$(rustc --print sysroot)/lib/rustlib/$host/bin/llvm-profdata
[[ -x $merge ]] || { echo "missing: llvm-profdata; get it with: rustup component add llvm-tools" >&2; exit 1; }
work=$CARGO_TARGET_DIR/profiling
rm -rf "$work/counts"
mkdir -p "$work/counts"

# A folder of its own: what is built here has other flags than everything else. Counting needs no link-time optimization, which is
# most of a release's build; only the flags say so, since a profile's setting would give every function another name.
echo "profile: an instrumented build"
CARGO_TARGET_DIR=$work RUSTFLAGS="-Cprofile-generate=$work/counts -Clto=off -Clinker-plugin-lto=no" \
    cargo build --release --target "$host" -p brokle --features embed-plugins
cargo build --release -p brokle-bench
echo "profile: load"
# Targets are for a build that isn't instrumented. Calls first and most; then what some have switched on, which would else be
# compiled as if nobody ever did.
load() {
    "$CARGO_TARGET_DIR/release/bench" "$@" --brokle "$work/$host/release/brokle" >>"$work/bench.txt" || [[ $? = 1 ]]
}
floor=$CARGO_TARGET_DIR/release/floor
: >"$work/bench.txt"
load run --quick --connections 1,32 --bodies 200,2000 --floor "$floor"
load features --quick --connections 1 --streams 50 --only policy,guardrail,cache-miss,cache-hit,limits,hedging --floor "$floor"
load dialects --quick --floor "$floor"
load telemetry --seconds 3 --rows 50000 --asked 5
compgen -G "$work/counts/*.profraw" >/dev/null || { echo "nothing was counted; see $work/bench.txt" >&2; exit 1; }
"$merge" merge --sparse -o "$work/brokle.profdata" "$work"/counts/*.profraw
gzip -9 -n -c "$work/brokle.profdata" >profile/brokle.profdata.gz
cksum <Cargo.lock >profile/made-for
ls -l profile/brokle.profdata.gz
