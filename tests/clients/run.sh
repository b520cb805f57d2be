#!/usr/bin/env bash
# Runs real, unmodified clients against a gateway of its own: those of OpenAI, Anthropic and Google, the frameworks over
# them, and the agents of the command line.
#
# The gateway's providers are two mocks on loopback: test-upstream, which misbehaves on command (tests/upstream/README.md),
# and aimock, which other people wrote. Everything listens on a port of the kernel's choice, lives in a temporary
# directory, and is ended by its process id.
#
# Needs python3 (3.11 or later) with venv, Node 20.15 or later with npm, and the binaries and components of `make test`.
# BROKLE_BIN and TEST_UPSTREAM_BIN name other binaries; PYTEST_ARGS="-k abort" runs fewer tests; SKIP_AGENTS=1 leaves the
# agents out, whose packages are large. `run.sh COMMAND…` runs that instead of the tests.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
cd "$root"

# An absolute directory, also when it was given relative to the repository.
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}
[[ $CARGO_TARGET_DIR = /* ]] || CARGO_TARGET_DIR=$root/$CARGO_TARGET_DIR
export CARGO_TARGET_DIR
brokle=${BROKLE_BIN:-$CARGO_TARGET_DIR/debug/brokle}
upstream=${TEST_UPSTREAM_BIN:-$CARGO_TARGET_DIR/debug/test-upstream}
venv=$CARGO_TARGET_DIR/clients/venv
frameworks=$CARGO_TARGET_DIR/clients/frameworks
aimock=$here/node/node_modules/@copilotkit/aimock/dist/cli.js

work=$(mktemp -d)
started=()

stop_all() {
    local pid
    for pid in "${started[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
    for pid in "${started[@]}"; do wait "$pid" 2>/dev/null || true; done
    rm -rf "$work"
}
trap stop_all EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

fail() {
    echo "clients: $1" >&2
    if [[ -n ${2:-} && -s $2 ]]; then
        echo "--- the end of $(basename "$2")" >&2
        tail -n 60 "$2" >&2
    fi
    exit 1
}

# start NAME COMMAND…: runs it in the background, with its output in $work/NAME.log.
start() {
    local name=$1
    shift
    "$@" >"$work/$name.log" 2>&1 &
    started+=($!)
}

# address NAME [BEFORE]: where the program that was started last listens, as it says itself after the text BEFORE.
address() {
    local name=$1 pid=${started[-1]} found=
    for _ in $(seq 300); do
        found=$(sed -n "s#^.*${2:-}\\(127\\.0\\.0\\.1:[0-9]*\\).*#\\1#p;" "$work/$name.log" | head -n 1)
        [[ -n $found ]] && break
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.1
    done
    [[ -n $found ]] || fail "$name didn't start" "$work/$name.log"
    echo "$found"
}

# python_set NAME REQUIREMENTS: the virtual environment NAME with exactly these packages, made only when they changed.
python_set() {
    local name=$1 requirements=$2 wanted
    local folder=$CARGO_TARGET_DIR/clients/$name
    wanted=$(python3 -V; cat "$requirements")
    [[ -x $folder/bin/python && $(cat "$folder/.installed" 2>/dev/null) == "$wanted" ]] && return
    rm -rf "$folder"
    mkdir -p "$(dirname "$folder")"
    if command -v uv >/dev/null; then
        uv venv --quiet --python "$(command -v python3)" "$folder"
        uv pip install --quiet --python "$folder/bin/python" --require-hashes -r "$requirements"
    else
        python3 -m venv "$folder" || fail "python3 -m venv failed: on Debian, install python3-venv"
        "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$requirements"
    fi
    echo "$wanted" >"$folder/.installed"
}

# node_set FOLDER [OPTION…]: the packages of its package-lock.json.
node_set() {
    local folder=$1
    local stamp=$folder/node_modules/.installed
    shift
    cmp -s "$folder/package-lock.json" "$stamp" && return
    npm ci --prefix "$folder" --no-audit --no-fund --loglevel=error "$@"
    cp "$folder/package-lock.json" "$stamp"
}

install() {
    command -v npm >/dev/null || fail "npm is missing"
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "python3 3.11 or later is missing"
    python_set venv "$here/python/requirements.txt"
    python_set frameworks "$here/python/frameworks/requirements.txt"
    node_set "$here/node"
    # Their scripts would only check what this run checks anyway.
    [[ -n ${SKIP_AGENTS:-} ]] || node_set "$here/agents" --ignore-scripts
}

configure() {
    cat >"$work/brokle.toml" <<TOML
[server]
lame_duck_ms = 0

[logs]
format = "json"
level = "info"

# Short enough that a test can wait for them, longer than the clients' own (0.5 s).
[gateway]
connect_ms = 1000
first_byte_ms = 2000
idle_ms = 2000

# What OPENAI_API_KEY and ANTHROPIC_API_KEY make has priority 100: these come after it.

# The fault is in the model's name: misbehaving/gpt-4o-mini!status=429
[[gateway.connections]]
name = "misbehaving"
provider = "openai"
base_url = "http://$UPSTREAM/v1"
api_key_env = "OPENAI_API_KEY"
priority = 110

[[gateway.connections]]
name = "misbehaving-claude"
provider = "anthropic"
base_url = "http://$UPSTREAM"
api_key_env = "ANTHROPIC_API_KEY"
priority = 110

[[gateway.connections]]
name = "aimock"
provider = "openai"
base_url = "http://$AIMOCK/v1"
api_key_env = "OPENAI_API_KEY"
priority = 120

# Nothing listens on port 1.
[[gateway.connections]]
name = "refusing"
provider = "openai"
base_url = "http://127.0.0.1:1/v1"
api_key_env = "OPENAI_API_KEY"
priority = 130
models = ["refused-first", "refused-first-node"]

[[gateway.connections]]
name = "overloaded"
provider = "openai"
base_url = "http://$UPSTREAM/v1"
api_key_env = "OPENAI_API_KEY"
priority = 131
models = ["overloaded-first", "overloaded-first-node"]
headers = { "x-test-fault" = "status=503" }

[[gateway.connections]]
name = "backup"
provider = "openai"
base_url = "http://$UPSTREAM/v1"
api_key_env = "OPENAI_API_KEY"
priority = 140
models = ["refused-first", "overloaded-first", "refused-first-node", "overloaded-first-node"]

# test_exporter.py grants it a receiver.
[[exporters]]
name = "as-protobuf"
plugin = "otlp"
filter = "session:exported-protobuf"
config = { path = "/protobuf/v1/traces", service_name = "gateway-calls" }

[[exporters]]
name = "as-json"
plugin = "otlp"
filter = "session:exported-json"
config = { path = "/json/v1/traces", service_name = "gateway-calls", encoding = "json" }
TOML
}

# The gateway, with nothing of the caller's environment that could send it elsewhere.
gateway() {
    exec env -i PATH="$PATH" HOME="$work" TMPDIR="${TMPDIR:-/tmp}" \
        BROKLE_LISTEN=127.0.0.1:0 BROKLE_OTLP_GRPC_LISTEN=127.0.0.1:0 BROKLE_DATA_DIR="$work/data" \
        BROKLE_BOOTSTRAP_API_KEY="$BROKLE_API_KEY" \
        BROKLE_ALLOW_PRIVATE_UPSTREAMS=true \
        OPENAI_API_KEY=sk-test OPENAI_BASE_URL="http://$UPSTREAM/v1" \
        ANTHROPIC_API_KEY=sk-ant-test ANTHROPIC_BASE_URL="http://$AIMOCK" \
        GOOGLE_AI_API_KEY=gk-test GOOGLE_AI_BASE_URL="http://$AIMOCK" \
        "$brokle" "$@" --config "$work/brokle.toml"
}

wait_until_ready() {
    "$venv/bin/python" - "$BROKLE_URL/health/ready" <<'PYTHON' || fail "the gateway isn't ready" "$work/brokle.log"
import sys, time, urllib.request

deadline = time.monotonic() + 60
while True:
    try:
        urllib.request.urlopen(sys.argv[1], timeout=5).close()
        break
    except OSError as error:
        if time.monotonic() > deadline:
            sys.exit(f"{sys.argv[1]}: {error}")
        time.sleep(0.05)
PYTHON
}

# make_key ARGUMENTS…: a key of the gateway's command line.
make_key() {
    (gateway key create "$@") 2>"$work/key.log" || fail "a key couldn't be made: $*" "$work/key.log"
}

install
for binary in "$brokle" "$upstream"; do
    [[ -x $binary ]] || fail "$binary is missing: cargo build -p brokle -p brokle-test-upstream"
done

start test-upstream "$upstream" --listen 127.0.0.1:0
UPSTREAM=$(address test-upstream)
start aimock node "$aimock" --port 0 --fixtures "$here/fixtures/aimock.json" --strict
AIMOCK=$(address aimock 'listening on http://')
configure

BROKLE_API_KEY=bk_clientsclientsclientsclientsclients12345
start brokle gateway serve --quickstart
BROKLE_URL=http://$(address brokle 'Brokle is at http://')
BROKLE_OTLP_GRPC=$(address brokle 'OTLP over gRPC at ')
wait_until_ready

project=$("$venv/bin/python" "$here/second_project.py" "$work/data/brokle.db")
export BROKLE_URL BROKLE_API_KEY BROKLE_OTLP_GRPC
export UPSTREAM_URL=http://$UPSTREAM
BROKLE_OTHER_PROJECT_KEY=$(make_key --name other --project "$project" --scopes gateway,traces:read,connections:read,connections:write,routes:read,routes:write)
BROKLE_READ_ONLY_KEY=$(make_key --name reader --scopes traces:read)
BROKLE_LIMITED_KEY_PYTHON=$(make_key --name limited-python --rpm 1)
BROKLE_LIMITED_KEY_NODE=$(make_key --name limited-node --rpm 1)
export BROKLE_OTHER_PROJECT_KEY BROKLE_READ_ONLY_KEY BROKLE_LIMITED_KEY_PYTHON BROKLE_LIMITED_KEY_NODE
export PYTHONDONTWRITEBYTECODE=1
# The clients must not find a real account in the caller's environment.
unset OPENAI_API_KEY OPENAI_BASE_URL OPENAI_ORG_ID OPENAI_PROJECT_ID
unset ANTHROPIC_API_KEY ANTHROPIC_AUTH_TOKEN ANTHROPIC_BASE_URL GOOGLE_API_KEY GEMINI_API_KEY

if (($#)); then
    "$@"
    exit
fi

# python_suite NAME VENV FOLDER [OPTION…]
python_suite() {
    local name=$1 python=$2/bin/python folder=$3
    shift 3
    echo "clients: $name"
    # Without tests after a choice by PYTEST_ARGS, pytest ends with 5.
    "$python" -m pytest -c "$here/python/pytest.ini" --rootdir "$here/python" "$folder" "$@" ${PYTEST_ARGS:-} ||
        [[ $? = 5 && -n ${PYTEST_ARGS:-} ]] || failed+=("$name")
}

# node_suite NAME FOLDER
node_suite() {
    echo "clients: $1"
    (cd "$2" && node --test --test-reporter=spec) || failed+=("$1")
}

failed=()
python_suite python "$venv" "$here/python" --ignore "$here/python/frameworks"
python_suite frameworks "$frameworks" "$here/python/frameworks"
node_suite node "$here/node"
if [[ -n ${SKIP_AGENTS:-} ]]; then
    echo "clients: the agents are left out"
else
    node_suite agents "$here/agents"
fi
kill -0 "${started[-1]}" 2>/dev/null || failed+=(gateway-ended)

if ((${#failed[@]})); then
    fail "failed: ${failed[*]}" "$work/brokle.log"
fi
echo "clients: all passed"
