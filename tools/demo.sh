#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# make demo: real artifacts cross a link that loses 1 % of all datagrams, and stock tools prove on the high side that
# they are what was sent. Everything happens in a scratch directory and on loopback; nothing is left behind.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
build=$(realpath "${BUILD:-$root/build}")
model_size=${DEMO_MODEL_SIZE:-300000000} # bytes
began=$SECONDS
pids=()

say() { printf '\n== %s\n' "$*"; }
run() {
    local shown=${*//$scratch\//}
    printf '   $ %s\n' "${shown//$build\//}"
    "$@"
}
fail() {
    printf '\ndemo: %s\n' "$*" >&2
    exit 1
}

finish() {
    local code=$?
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    if [ "$code" -ne 0 ]; then
        for log in "$scratch"/*.log; do
            [ -s "$log" ] && printf -- '--- %s\n' "$log" && tail -n 20 "$log"
        done >&2
    fi
    rm -rf "$scratch"
    exit "$code"
}

for program in diodecast-sender diodecast-receiver diodecast diodecast-impair; do
    [ -x "$build/$program" ] || fail "$build/$program is not there; run make first"
done
for program in minisign /usr/bin/python3 apt-get sha256sum; do
    command -v "$program" >/dev/null || fail "$program is not installed; run make deps first"
done

scratch=$(mktemp -d "${TMPDIR:-/tmp}/diodecast-demo-XXXXXX")
trap finish EXIT
trap 'exit 130' INT TERM
cd "$scratch"

free_port() {
    /usr/bin/python3 - <<END
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
    one.bind(("127.0.0.1", 0))
    print(one.getsockname()[1])
END
}

get_package() { # a Debian package, as a file
    (cd outside && apt-get -qq -o APT::Sandbox::User=root download hello >../apt.log 2>&1) && return
    (apt-get -qq update && cd outside && apt-get -qq -o APT::Sandbox::User=root download hello) >apt.log 2>&1 && return
    local cached
    cached=$(find /var/cache/apt/archives -name '*.deb' -print -quit 2>/dev/null)
    [ -n "$cached" ] || fail "apt can download no package, and its cache holds none"
    printf '   (apt can download nothing here; %s from its cache instead)\n' "$(basename "$cached")"
    cp "$cached" outside/
}

say "What came from outside: two wheels, a Debian package, a source tree, a model"
mkdir outside
wheels=(/usr/share/python-wheels/pip-*.whl /usr/share/python-wheels/setuptools-*.whl)
for wheel in "${wheels[@]}"; do
    [ -f "$wheel" ] || fail "$wheel: python3-pip-whl and python3-setuptools-whl are not installed; run make deps"
done
cp "${wheels[@]}" outside/
get_package
cp -rL /usr/include/linux outside/linux-headers
head -c "$model_size" /dev/urandom >outside/model.safetensors
package=$(find outside -name '*.deb' -print -quit)
(cd outside && du -shc --apparent-size -- * | sed 's/^/   /')
printf '   %s files in the tree\n' "$(find outside/linux-headers -type f | wc -l)"

say "Keys: the sender signs, the receiver trusts its public key"
mkdir -p spool intake state-low state-high run-low run-high trusted.d
run "$build/diodecast" keygen -s sender.key -p trusted.d/sender.pub >/dev/null

say "The pair, with a relay in between that loses one datagram in a hundred"
port=$(free_port)
relay_port=$(free_port)
cat >sender.conf <<END
[sender]
spool       = $scratch/spool
state       = $scratch/state-low
status      = $scratch/run-low/status.json
signing_key = $scratch/sender.key
[link]
peer = 127.0.0.1:$relay_port
rate = 300Mbit/s
mtu  = 1500
[channel models]
priority = low
[channel wheels]
priority = high
END
cat >receiver.conf <<END
[receiver]
intake       = $scratch/intake
state        = $scratch/state-high
status       = $scratch/run-high/status.json
trusted_keys = $scratch/trusted.d
[link]
listen = 127.0.0.1:$port
END
"$build/diodecast-receiver" -c receiver.conf 2>receiver.log &
pids+=($!)
"$build/diodecast-impair" --listen "127.0.0.1:$relay_port" --forward "127.0.0.1:$port" --drop 1% \
    --count-file loss.json 2>impair.log &
impair_pid=$!
pids+=("$impair_pid")
"$build/diodecast-sender" -c sender.conf 2>sender.log &
pids+=($!)

alive() {
    for pid in "${pids[@]}"; do kill -0 "$pid" 2>/dev/null || return 1; done
}
wait_for() { # seconds, what, command…
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        alive || fail "a daemon ended while waiting for $what"
        [ "$SECONDS" -lt "$deadline" ] || fail "$what did not come in time"
        "${tick[@]}"
    done
}
tick=(sleep 0.1)
wait_for 20 "the receiver's first heartbeat" grep -q '"last_heartbeat_at": "' run-high/status.json 2>/dev/null

say "An operator drops the model first, then all the rest"
put() { run "$build/diodecast" put "$@" -c sender.conf 2>&1 | sed -e "s|$scratch/||" -e '/^   /!s/^/     /'; }
put outside/model.safetensors models
put outside/linux-headers trees
put "$package" debian
put outside/*.whl wheels

say "On the high side, live (diodecast status run-high/status.json)"
status() { "$build/diodecast" status run-high/status.json | sed -e "s|$scratch/||" -e 's/^/   /'; }
all_there() { grep -q '"delivered_total": 5' run-high/status.json; }
show() { # on a terminal one picture that moves, else the bars alone
    local picture
    if [ -t 1 ]; then
        picture=$(status | cut -c "1-$(tput cols 2>/dev/null || echo 80)")
        printf '\033[J%s\n\033[%dA' "$picture" "$(wc -l <<<"$picture")"
    else
        status | grep '^ *\[[#-]' || true
    fi
    sleep 1
}
tick=(show)
wait_for 100 "all five transfers" all_there
if [ -t 1 ]; then printf '\033[J'; fi
status

say "What arrived, in the order of delivery (the wheels overtook the model)"
(cd intake && find . -mindepth 2 -maxdepth 2 -not -path '*/.*' -printf '%P\n' | sort -t/ -k2 | sed 's/^/   intake\//')
tick=(sleep 0.1)
kill -USR1 "$impair_pid"
wait_for 10 "the relay's figures" test -s loss.json
/usr/bin/python3 - <<'END'
import json
loss, status = json.load(open("loss.json")), json.load(open("run-high/status.json"))
print(f"   the relay lost {loss['dropped']} of {loss['received']} datagrams; "
      f"FEC repaired {status['fec']['repaired_total']} blocks and gave up {status['fec']['failed_total']}")
END

say "Proof 1: stock minisign verifies each manifest, stock sha256sum each file, diodecast verify both and the tree"
for delivery in intake/[!.]*/*/; do
    delivery=${delivery%/}
    run minisign -Vqm "$delivery/manifest.pb" -p trusted.d/sender.pub
    (cd "$delivery/payload" && sha256sum --quiet --strict -c ../SHA256SUMS)
    "$build/diodecast" verify "$delivery" -p trusted.d/sender.pub >verify.log || fail "$(cat verify.log)"
    printf '   good: %s files of %s\n' "$(wc -l <"$delivery/SHA256SUMS")" "$(basename "$delivery")"
done

say "Proof 2: what was sent and what arrived are the same bytes"
for item in outside/*; do
    run diff -r "$item" "$(echo intake/*/*/payload/"$(basename "$item")")"
done

say "Proof 3: pip, itself out of a delivered wheel, installs from the delivered wheels alone"
links=()
for wheel in intake/wheels/*/payload; do links+=(--find-links "$wheel"); done
pip=$(echo intake/wheels/*-pip-*/payload/pip-*.whl)
export PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
run /usr/bin/python3 "$pip/pip" install --quiet --no-index "${links[@]}" --target site setuptools pip
PYTHONPATH=$scratch/site /usr/bin/python3 - <<END | sed "s|$scratch/||"
import setuptools
print("   import setuptools:", setuptools.__version__, "from", setuptools.__file__)
END

say "Done in $((SECONDS - began)) s: 5 transfers crossed a link that loses, whole, signed and verified"
