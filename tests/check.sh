#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs the test suites named as arguments, or all, and ends with "N passed, N failed, N skipped" over all of them.
# `make check` has built what they need. What a failed test printed is shown; everything is kept in $BUILD/check/.
#
# BUILD            build folder                                  (build)
# FUZZ_SECONDS     fuzzing per target                            (200 for all, on each processor)
# SIM_SEEDS        simulated runs; a tenth of them under ASan    (10000)
# CRASH_KILLS      kills of the crash campaign                   (500)
# DIODECAST_LONG   set: more of everything, and the long system tests
set -uo pipefail
cd "$(dirname "$0")/.." || exit

export BUILD=${BUILD:-build}
long=${DIODECAST_LONG:-}
: "${FUZZ_SECONDS:=${long:+600}}" "${SIM_SEEDS:=${long:+1000000}}"
: "${SIM_SEEDS:=10000}"
asan=$BUILD/san-address-undefined
tsan=$BUILD/san-thread
logs=$BUILD/check
: "${CRASH_KILLS:=${long:+10000}}"
: "${CRASH_KILLS:=500}"
jobs=$(nproc)
fuzz_targets=(tests/fuzz/fuzz_*.c)
: "${FUZZ_SECONDS:=$(((200 * jobs + ${#fuzz_targets[@]} - 1) / ${#fuzz_targets[@]}))}"
passed=0 failed=0 skipped=0

# Python from Debian, which has Debian's pytest; the first in PATH may be another.
python=/usr/bin/python3

# Reports of sanitizers go to files: a daemon's exit status or standard error may not reach the test that started it.
sanitizer_environment() {
    local common="log_path=$logs/$1.sanitizer:exitcode=66"
    export ASAN_OPTIONS="$common:handle_segv=2:detect_stack_use_after_return=1"
    export UBSAN_OPTIONS="$common:print_stacktrace=1"
    export TSAN_OPTIONS="$common:second_deadlock_stack=1"
}

# finish NAME PASSED FAILED SKIPPED SECONDS: a runner's closing line, and the sum.
finish() {
    local reports
    reports=$(find "$logs" -name "$1.sanitizer.*" -size +0 | sort)
    local bad=$3
    if [ -n "$reports" ]; then
        bad=$((bad + $(wc -l <<<"$reports")))
        # shellcheck disable=SC2086  # one file name a word
        head -n 80 $reports
    fi
    echo "$1: $2 passed, $bad failed, $4 skipped ($5 s)"
    passed=$((passed + $2)) failed=$((failed + bad)) skipped=$((skipped + $4))
}

run_unit() { # NAME FOLDER SOURCE...: cmocka programs, and plain ones whose exit status says it all
    local name=$1 folder=$2 start=$SECONDS good=0 bad=0 skip=0 source
    shift 2
    mkdir -p "$logs/$name"
    rm -f "$logs/$name"/* "$logs/$name".sanitizer.*
    # shellcheck disable=SC2016  # expanded by the inner shell
    (
        sanitizer_environment "$name"
        for source; do basename "$source" .c; done |
            xargs -P "$jobs" -I{} bash -c \
                'timeout 600 "$0/tests/unit/{}" >"$1/{}.log" 2>&1 </dev/null; echo $? >"$1/{}.status"' \
                "$folder" "$logs/$name"
    )
    for source; do
        local test p f s status
        test=$(basename "$source" .c)
        status=$(cat "$logs/$name/$test.status" 2>/dev/null || echo "none")
        read -r p f s < <(awk '
            /^\[  PASSED  \] [0-9]+ test/ { p = $4 } /^\[  FAILED  \] [0-9]+ test/ { f = $4 }
            /^\[  SKIPPED \] [0-9]+ test/ { s = $4 } END { print p + 0, f + 0, s + 0 }' "$logs/$name/$test.log")
        [ "$status" = 0 ] && [ $((p + f + s)) -eq 0 ] && p=1
        [ "$status" != 0 ] && [ "$f" -eq 0 ] && f=1
        if [ "$f" -gt 0 ]; then
            echo "--- $folder/tests/unit/$test ended with status $status:"
            tail -n 60 "$logs/$name/$test.log"
        fi
        [ "$s" -gt 0 ] && grep -h -B 3 '^\[  SKIPPED \] [a-z]' "$logs/$name/$test.log" | head -n 4
        good=$((good + p)) bad=$((bad + f)) skip=$((skip + s))
    done
    finish "$name" $good $bad $skip $((SECONDS - start))
}

run_command() { # NAME COMMAND...: one test, its exit status
    local name=$1 start=$SECONDS status=0
    shift
    rm -f "$logs/$name".sanitizer.*
    (
        sanitizer_environment "$name"
        exec timeout 3600 "$@"
    ) >"$logs/$name.log" 2>&1 </dev/null || status=$?
    tail -n "$([ $status = 0 ] && echo 1 || echo 60)" "$logs/$name.log"
    finish "$name" $((status == 0)) $((status != 0)) 0 $((SECONDS - start))
}

run_sweep() { # NAME HOW EVERY SECONDS: all boundaries take half an hour, so a short run takes another sample each time
    local sample=(--every "$3" --seconds "$4")
    [ -n "$long" ] && sample=()
    DIODECAST_BUILD=$BUILD run_command "$1" $python tests/crash/sweep.py --how "$2" "${sample[@]}"
}

start_pytest() { # NAME FOLDER ARGUMENT...: to its log, with the exit status as its own
    local name=$1 folder=$2
    shift 2
    rm -f "$logs/$name".sanitizer.*
    sanitizer_environment "$name"
    export DIODECAST_BUILD=$folder
    timeout 7200 $python -m pytest -p no:cacheprovider -rs --durations=8 "$@" >"$logs/$name.log" 2>&1 </dev/null
}

finish_pytest() { # NAME STATUS SECONDS
    local last bad
    cat "$logs/$1.log"
    last=$(tail -n 1 "$logs/$1.log")
    count() { grep -Eo "[0-9]+ $1" <<<"$last" | awk '{ sum += $1 } END { print sum + 0 }'; }
    bad=$(count '(failed|error)')
    [ "$2" -ne 0 ] && [ "$bad" -eq 0 ] && bad=1
    finish "$1" "$(count passed)" "$bad" "$(count skipped)" "$3"
}

run_pytest() { # NAME FOLDER ARGUMENT...
    local start=$SECONDS status=0
    (start_pytest "$@") || status=$?
    finish_pytest "$1" $status $((SECONDS - start))
}

# Most of these tests wait most of the time: two halves at once, one file here, one there.
run_system() {
    local start=$SECONDS status=0 source number=0
    local odd=() even=()
    for source in tests/system/test_*.py; do
        if [ $((number++ % 2)) -eq 0 ]; then odd+=("$source"); else even+=("$source"); fi
    done
    (start_pytest system-1 "$BUILD" "${odd[@]}") &
    local first=$!
    (start_pytest system-2 "$BUILD" "${even[@]}") &
    local second=$!
    wait $first || status=$?
    finish_pytest system-1 $status $((SECONDS - start))
    status=0
    wait $second || status=$?
    finish_pytest system-2 $status $((SECONDS - start))
}

fuzz_one() { # NAME: replays the corpus, then looks for new inputs, which stay in the build folder
    local program=$BUILD/fuzz/fuzz_$1 corpus=tests/fuzz/corpus/$1 found=$BUILD/fuzz/found/$1
    mkdir -p "$found"
    "$program" "$corpus"/* || return
    "$program" -max_total_time="$FUZZ_SECONDS" -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 -verbosity=1 \
        -artifact_prefix="$found-" "$found" "$corpus"
}

# fuzz_figures NAME: what its log says it has done: executions, edges covered, features, inputs in the corpus.
fuzz_figures() {
    awk '/DONE +cov:/ { for (i = 1; i < NF; i++) value[$i] = $(i + 1) }
        /number_of_executed_units/ { executed = $2 }
        END { split(value["corp:"], corpus, "/")
              print executed + 0, value["cov:"] + 0, value["ft:"] + 0, corpus[1] + 0 }' "$logs/fuzz.$1.log"
}

run_fuzz() {
    local start=$SECONDS good=0 bad=0 total=0 source name executed edges features inputs
    sanitizer_environment fuzz
    unset ASAN_OPTIONS UBSAN_OPTIONS # libFuzzer reads the reports itself
    export -f fuzz_one
    export FUZZ_SECONDS
    rm -f "$logs"/fuzz.*
    # shellcheck disable=SC2016  # expanded by the inner shell
    printf '%s\n' "${fuzz_targets[@]}" | sed 's/.*fuzz_\(.*\)\.c/\1/' |
        xargs -P "$jobs" -I{} bash -c 'fuzz_one {} >"$0/fuzz.{}.log" 2>&1 </dev/null; echo $? >"$0/fuzz.{}.status"' \
            "$logs"
    printf '%-16s %8s %12s %8s %9s %8s\n' "" replayed executions edges features inputs
    for source in "${fuzz_targets[@]}"; do
        name=$(basename "$source" .c)
        name=${name#fuzz_}
        if [ "$(cat "$logs/fuzz.$name.status" 2>/dev/null)" = 0 ]; then
            good=$((good + 1))
            read -r executed edges features inputs < <(fuzz_figures "$name")
            printf '%-16s %8s %12s %8s %9s %8s\n' "fuzz_$name" \
                "$(find "tests/fuzz/corpus/$name" -type f | wc -l)" "$executed" "$edges" "$features" "$inputs"
            total=$((total + executed))
        else
            bad=$((bad + 1))
            echo "--- fuzz_$name:"
            tail -n 60 "$logs/fuzz.$name.log"
        fi
    done
    echo "fuzz: $total executions, $FUZZ_SECONDS s a target"
    finish fuzz $good $bad 0 $((SECONDS - start))
}

suite() {
    case $1 in
    unit) run_unit unit "$BUILD" tests/unit/*.c ;;
    unit-asan) run_unit unit-asan "$asan" tests/unit/*.c ;;
    unit-tsan) run_unit unit-tsan "$tsan" tests/unit/test_threads.c tests/unit/test_audit_threads.c ;;
    sim) run_command sim "$BUILD/tests/sim/sim" --seeds "$SIM_SEEDS" ;;
    sim-asan) run_command sim-asan "$asan/tests/sim/sim" --seeds $((SIM_SEEDS / 10)) ;;
    crash)
        DIODECAST_BUILD=$BUILD run_command crash $python tests/crash/campaign.py --kills "$CRASH_KILLS"
        run_sweep crash-kill kill 40 30
        run_sweep crash-eio EIO 8 12
        run_sweep crash-enospc ENOSPC 8 12
        ;;
    fuzz) run_fuzz ;;
    system) run_system ;;
    system-asan) run_pytest system-asan "$asan" tests/system/test_transfer.py ;;
    system-tsan) run_pytest system-tsan "$tsan" tests/system/test_transfer.py -k clean ;;
    *)
        echo "check.sh: no suite '$1'" >&2
        exit 64
        ;;
    esac
}

mkdir -p "$logs"
[ $# -gt 0 ] || set -- unit unit-asan unit-tsan sim sim-asan crash fuzz system system-asan system-tsan
for name; do
    suite "$name"
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
