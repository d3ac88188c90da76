// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_TOOLS_ASK_H
#define DIODECAST_TOOLS_ASK_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/request.h"

/* Asking a daemon for something (common/request.h), for the commands that do. */

#define ASK_WAIT_NS UINT64_C(10000000000) /* for an answer, unless told otherwise */

/* The value of --wait: at most an hour. False after what is wrong with it was printed. */
bool ask_take_wait(const char *value, uint64_t *wait_ns);

/* A daemon, by its configuration. */
struct ask {
    const char *config;    /* its file */
    const char *section;   /* that names it: "sender" */
    const char *key;       /* in it, of the directory that holds its requests: "spool" */
    const char *directory; /* of requests, below that one */
    const char *group_key; /* for whom may ask, as said to the operator; NULL: none */
    /* Set by ask_open(): */
    char *path;
    int fd;
};

/* Opens the directory of requests. EX_OK, or the exit code after the reason was printed. ask_close() in any case. */
int ask_open(struct ask *ask);
void ask_close(struct ask *ask);

/*
 * Posts the request and waits for its answer. EX_OK: *answer is an object, a new reference. EX_TEMPFAIL: none came in
 * time; the request waits, unless it was a dry run, which is taken back and gives EX_UNAVAILABLE. Everything but
 * success was printed.
 */
int ask_post(struct ask *ask, struct request *request, uint64_t wait_ns, json_t **answer);

/* False after the refusal was printed. */
bool ask_is_accepted(const struct ask *ask, const json_t *answer);

/*
 * Prints the answer's "message" and its "items", one a line: "ticket" or "sequence", "name", "bytes", and "message" or
 * else a word for "state". `state_word` gives that word and says whether this item is a failure; NULL allowed. Returns
 * whether no item was a failure.
 */
bool ask_print(const json_t *answer, const char *(*state_word)(const char *state, bool *failure));

#endif
