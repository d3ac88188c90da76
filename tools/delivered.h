// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_TOOLS_DELIVERED_H
#define DIODECAST_TOOLS_DELIVERED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct manifest_reader;

/*
 * Compares what lies in a delivered transfer with its manifest, whose signature the caller has checked. Reads only:
 * follows no symlink and leaves no directory.
 */

struct delivered_report {
    uint64_t problem_count;
    uint64_t artifact_count; /* files whose bytes were found right */
    uint64_t byte_count;     /* bytes of those */
};

/*
 * Checks every entry (there, kind, size, SHA-256, x bit, symlink target), that payload/ holds nothing else, and that
 * SHA256SUMS lists exactly the files and digests of the manifest. Each problem is printed to standard output as a line
 * that starts with "problem: ", the first hundred of them; all are counted. `dirfd` is the transfer's directory.
 */
void delivered_check(int dirfd, struct manifest_reader *reader, struct delivered_report *report);

/* Prints one problem, printf-like for `format`; `path` (may be NULL) stands in front, escaped. */
void delivered_problem(struct delivered_report *report, const char *path, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
