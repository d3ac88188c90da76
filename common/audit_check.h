// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_COMMON_AUDIT_CHECK_H
#define DIODECAST_COMMON_AUDIT_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/audit_format.h"

/*
 * Checks an audit log line by line: numbers, hashes, signatures of checkpoints, anchors. Finds each record that was
 * removed, changed, added or moved; of what was cut off at the end only what a checkpoint that is still there, or an
 * anchor from elsewhere, lies behind. Memory does not grow with the log. Pure.
 */
struct audit_check;

struct audit_anchor {
    uint64_t number;
    uint8_t hash[DIGEST_SIZE]; /* of that record's line */
};

/* `line` counts from 1 in `file`; 0: it is about the log as a whole. */
typedef void audit_check_problem(void *context, const char *file, uint64_t line, const char *text);

enum { AUDIT_CHECK_RUNS = 8 };

struct audit_check_result {
    uint64_t problems;
    uint64_t records; /* lines that are records and count */
    uint64_t first_number, last_number;
    char first_time[AUDIT_TIME_SIZE], last_time[AUDIT_TIME_SIZE];
    char side[8];
    uint64_t signed_number;               /* newest checkpoint whose signature is good; 0: none */
    uint64_t anchored_number;             /* newest anchor that was found; 0: none */
    bool stopped;                         /* the log ends with the checkpoint of an orderly stop */
    uint64_t unstopped_count;             /* starts that no orderly stop came before, the first start left out */
    uint64_t unstopped[AUDIT_CHECK_RUNS]; /* numbers of the first of these starts */
    uint64_t superseded_lines;            /* that don't count, because the disk never confirmed them */
    bool has_key;
    struct signature_public key; /* that checkpoints were checked with */
};

/*
 * `key` NULL: the one that the log names. Anchors are copied. With `partial` a log that begins after record 1 is no
 * problem.
 */
struct audit_check *audit_check_create(const struct signature_public *key, const struct audit_anchor *anchors,
                                       size_t anchor_count, bool partial, audit_check_problem *problem, void *context);
void audit_check_destroy(struct audit_check *check);

/* The next file; `next` is the first record of the one behind it, NULL when there is none or it is none. `file` is
 * borrowed until the next call or the end. */
void audit_check_file(struct audit_check *check, const char *file, const struct audit_record *next);
/*
 * The next line, with its newline; without one when the file ends so, or when it is longer than AUDIT_LINE_SIZE and
 * this is its beginning. True when it is a record that counts; *record is then filled.
 */
bool audit_check_line(struct audit_check *check, const char *line, size_t size, struct audit_record *record);
/* The end of the log. */
void audit_check_end(struct audit_check *check, struct audit_check_result *result);

/* "NUMBER:HASH"; false when it is none. */
bool audit_check_parse_anchor(const char *text, struct audit_anchor *anchor);

#endif
