#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Line coverage of what hostile bytes meet: proto/ and the receiver's gather, decode, unpack and verify. `make coverage`
# has built the programs with gcc's --coverage; the unit tests, the corpora of the fuzz targets and simulated runs add
# up. Fails when a file is below COVERAGE_LEAST per cent.
#
# BUILD           build folder            (build)
# COVERAGE_SEEDS  simulated runs          (300)
# COVERAGE_LEAST  per cent of each file   (95)
set -euo pipefail
cd "$(dirname "$0")/.."

out=${BUILD:-build}/coverage
: "${COVERAGE_SEEDS:=300}" "${COVERAGE_LEAST:=95}"
logs=$out/logs
mkdir -p "$logs"
find "$out" -name '*.gcda' -delete

run() { # NAME COMMAND...: one program to its log
    local name=$1
    shift
    if ! timeout 300 "$@" >"$logs/$name.log" 2>&1 </dev/null; then
        echo "--- $name failed:" >&2
        tail -n 30 "$logs/$name.log" >&2
        return 1
    fi
}
export -f run
export logs

{
    echo "run sim $out/tests/sim/sim --seeds $COVERAGE_SEEDS"
    for source in tests/unit/*.c; do
        name=$(basename "$source" .c)
        echo "run $name $out/tests/unit/$name"
    done
    for source in tests/fuzz/fuzz_*.c; do
        name=$(basename "$source" .c)
        echo "run $name $out/replay_${name#fuzz_} tests/fuzz/corpus/${name#fuzz_}/*"
    done
} | xargs -P "$(nproc)" -d '\n' -I{} bash -c '{}'

# Prints "file percent lines"; gcov tells of each header too.
lines_of() {
    gcov --no-output --object-file "$out/${1%.c}.o" "$1" 2>"$logs/gcov.log" |
        awk -v file="$1" '$1 == "File" { gsub(/'\''/, "", $2); mine = $2 == file }
            mine && /^Lines executed/ { sub(/.*:/, "", $2); sub(/%/, "", $2); print file, $2, $4; exit }'
}

for source in proto/*.c receiver/gather*.c receiver/decode.c receiver/unpack.c receiver/verify.c; do
    lines_of "$source"
done | awk -v least="$COVERAGE_LEAST" '
    { printf "%-28s %6.2f %% of %4d lines%s\n", $1, $2, $3, $2 < least ? "  too little" : ""
      bad += $2 < least; covered += $2 * $3 / 100; lines += $3; files++ }
    END { if (files == 0) { print "coverage: nothing was measured"; exit 1 }
          printf "coverage: %.2f %% of %d lines in %d files; %d below %s %%\n", 100 * covered / lines, lines, files,
                 bad, least
          exit bad > 0 }'
