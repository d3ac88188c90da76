#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Installs the Debian packages that are missing for the groups named as arguments: build, demo, check,
# systemd-check, lint, bench.
# Says nothing and needs no privileges when all are there.
set -euo pipefail

declare -A group=(
    [build]="gcc libc6-dev make binutils pkg-config protobuf-c-compiler libprotobuf-c-dev libuv1-dev liburing-dev
             libssl-dev libxxhash-dev libsodium-dev libisal-dev libsqlite3-dev libinih-dev libjansson-dev
             libsystemd-dev libseccomp-dev"
    [demo]="minisign python3 python3-pip-whl python3-setuptools-whl"
    [check]="libcmocka-dev clang libclang-rt-dev minisign python3 python3-pytest python3-xxhash python3-cryptography
             iproute2 nftables ethtool util-linux mount procps git systemd libseccomp2 nbdkit libnbd-bin
             fuse3 e2fsprogs"
    [systemd-check]="mmdebstrap"
    [lint]="clang-format clang-tidy cppcheck shellcheck mandoc python3 libcmocka-dev git"
    [bench]="python3 python3-pytest iproute2 nftables ethtool util-linux clang diffutils udpcast"
)
# Intel's AES-GCM is there for this architecture only; without it OpenSSL does all.
if [ "$(dpkg --print-architecture 2>/dev/null)" = amd64 ]; then
    group[build]+=" libipsec-mb-dev"
fi

[ $# -gt 0 ] || set -- "${!group[@]}"
wanted=()
for name in "$@"; do
    [ -n "${group[$name]:-}" ] || {
        echo "deps.sh: no group '$name'; there are: ${!group[*]}" >&2
        exit 64
    }
    read -r -d '' -a packages <<<"${group[$name]}" || true
    wanted+=("${packages[@]}")
done

if ! command -v dpkg-query >/dev/null; then
    echo "deps.sh: this is not Debian; going on in the hope that these are there: ${wanted[*]}" >&2
    exit 0
fi

missing=()
for package in $(printf '%s\n' "${wanted[@]}" | sort -u); do
    # The second field is "installed" for one of the architectures, or nothing is printed.
    dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "deps.sh: as root, run: apt-get install ${missing[*]}" >&2
        exit 77
    fi
    as_root=(sudo)
fi

echo "installing: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300)
# A source that is down and not needed is no reason to stop; the installation tells what really lacks.
"${apt[@]}" update >/dev/null || true
"${apt[@]}" install --no-install-recommends "${missing[@]}" >/dev/null
