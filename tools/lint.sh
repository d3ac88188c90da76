#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# All checks that need no run of the programs. Names what breaks a rule and fails; LINT_CFLAGS comes from the Makefile.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

bad=0
mapfile -t files < <(git ls-files -co --exclude-standard | while read -r name; do [ -f "$name" ] && echo "$name"; done)
pick() { printf '%s\n' "${files[@]}" | grep -E "$1"; }
mapfile -t c_files < <(pick '\.[ch]$')
mapfile -t sources < <(pick '\.c$')
mapfile -t shell_files < <(pick '(\.sh|^\.ci/run)$')
mapfile -t python_files < <(pick '\.py$')
mapfile -t pages < <(pick '\.[1578]$')

# check NAME COMMAND...: a command that prints nothing and succeeds when all is well
check() {
    local name=$1 output
    shift
    if ! output=$("$@" 2>&1); then
        printf '%s\n' "$output"
        echo "lint: $name: FAILED"
        bad=$((bad + 1))
    else
        echo "lint: $name: ok"
    fi
}

# none PATTERN FILE...: fails where a line matches
none() {
    local pattern=$1
    shift
    ! grep -nEH -- "$pattern" "$@"
}

file_sizes() {
    wc -l "${c_files[@]}" "${shell_files[@]}" "${python_files[@]}" |
        awk '$2 != "total" && $1 > 600 { print $2 ": " $1 " lines, at most 600"; bad = 1 } END { exit bad }'
}

licence_lines() {
    local file bad=0
    for file in "${c_files[@]}" "${shell_files[@]}" "${python_files[@]}" Makefile; do
        head -n 2 "$file" | grep -q 'SPDX-License-Identifier: Apache-2.0' && continue
        echo "$file: the SPDX line is missing"
        bad=1
    done
    return $bad
}

# Dependencies point down: main, pipeline, stages, proto, common; the two sides never meet.
include_direction() {
    local file folder allowed include bad=0
    for file in "${c_files[@]}"; do
        folder=${file%%/*}
        case $folder in
        common) allowed='common/|proto/limits\.h$' ;;
        proto) allowed='common/|proto/' ;;
        sender | receiver) allowed="common/|proto/|$folder/" ;;
        tools) allowed='common/|proto/|tools/|sender/scan\.h$' ;; # one predicate for what can be signed and sent
        *) continue ;;
        esac
        while read -r include; do
            grep -Eq "^($allowed)" <<<"$include" && continue
            echo "$file: must not include \"$include\""
            bad=1
        done < <(sed -n 's/^#include "\(.*\)"/\1/p' "$file")
    done
    return $bad
}

own_header_first() {
    local file header bad=0
    for file in "${sources[@]}"; do
        header=${file%.c}.h
        [ -f "$header" ] || continue
        [ "$(sed -n 's/^#include ["<]\(.*\)[">]/\1/p' "$file" | head -n 1)" = "$header" ] && continue
        echo "$file: includes something before $header"
        bad=1
    done
    return $bad
}

python_syntax() {
    /usr/bin/python3 -c 'import ast, sys; [ast.parse(open(name).read(), name) for name in sys.argv[1:]]' "$@"
}

# Tests are left out: what cmocka's macros do looks suspicious to it, and the sanitizers see the tests run.
tidy() {
    # shellcheck disable=SC2016  # expanded by the inner shell, one flag a word
    printf '%s\n' "${sources[@]}" | grep -v '^tests/' |
        xargs -P "$(nproc)" -n 4 bash -c 'clang-tidy --quiet "$@" -- $LINT_CFLAGS 2>/dev/null' tidy |
        { ! grep -E '(warning|error):' -A 6; }
}

static_analysis() {
    cppcheck --quiet --std=c11 --enable=warning,portability,performance --inline-suppr --error-exitcode=1 \
        --suppress=missingIncludeSystem --suppress=missingInclude --suppress=unknownMacro \
        -j "$(nproc)" -I. -D_GNU_SOURCE -D'DIODECAST_VERSION=""' \
        common proto sender receiver tools
}

calls='(strcpy|strcat|stpcpy|sprintf|vsprintf|gets|atoi|atol|atoll|atof|system|popen|strtok|alloca|mktemp|tmpnam)'
check "clang-format" clang-format --dry-run -Werror "${c_files[@]}"
check "file sizes" file_sizes
check "licence lines" licence_lines
check "include direction" include_direction
check "own header first" own_header_first
check "banned calls" none "(^|[^A-Za-z0-9_>.\"'])$calls *\(" "${c_files[@]}"
check "asserts stay on" none '(define|-D) *NDEBUG' "${c_files[@]}" Makefile
# In brackets so that the line does not find itself.
check "nothing left for later" none '\b([T]ODO|[F]IXME|[X]XX|[H]ACK)\b' "${c_files[@]}" "${python_files[@]}" \
    "${shell_files[@]}" Makefile
check "shellcheck" shellcheck "${shell_files[@]}"
[ ${#pages[@]} -eq 0 ] || check "man pages" mandoc -T lint -W warning "${pages[@]}"
check "python" python_syntax "${python_files[@]}"
check "cppcheck" static_analysis
check "clang-tidy" tidy
if [ $bad -ne 0 ]; then
    echo "lint: $bad checks failed"
    exit 1
fi
