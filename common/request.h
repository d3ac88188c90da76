// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_COMMON_REQUEST_H
#define DIODECAST_COMMON_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

/*
 * What an operator asks of a running daemon, as a file in a directory of the daemon's: the command writes ID.request
 * (hidden name, fsync, rename, fsync), the daemon takes it up, records what follows from it, writes ID.answer beside it
 * and removes the request. A request that waits survives restarts of the daemon. Who asks is whom the file belongs to.
 * JSON on both ways; a daemon answers what it can't read with an error and never stops for it.
 *
 * The directory belongs to the daemon. Where a group may ask it has that group and mode 3770: setgid, so that the
 * daemon, a member, may read the requests; sticky, so that nobody touches those of others. Else its mode is 0700.
 */
enum {
    REQUEST_ID_SIZE = 33,        /* 16 random bytes in hex, and a NUL */
    REQUEST_SIZE_MAX = 64 << 10, /* bytes of a request's file */
    REQUEST_ANSWER_SIZE_MAX = 2 << 20,
    REQUEST_TICKETS = 256,
    REQUEST_TICKET_SIZE = 192, /* bytes of one, with its NUL */
    REQUEST_REASON_SIZE = 512,
    REQUEST_NAMES = 128,
    REQUEST_NAME_SIZE = 256, /* bytes of one, with its NUL */
    REQUEST_WAITING = 1024,  /* requests that may wait; further ones are refused */
};

enum request_kind { REQUEST_REPLAY, REQUEST_ACCEPT_LOSS, REQUEST_QUARANTINE };
enum request_action { REQUEST_LIST, REQUEST_SHOW, REQUEST_RECHECK, REQUEST_DISCARD };

/* Exactly one of tickets, since, sequences or last in a replay; tickets and reason in the acceptance of a loss; about
 * the quarantine an action, with names where it needs them, and maybe a reason. */
struct request {
    char id[REQUEST_ID_SIZE];
    enum request_kind kind;
    char **tickets;
    size_t ticket_count;
    int64_t since_ns;                       /* CLOCK_REALTIME; INT64_MIN: not given */
    uint64_t first_sequence, last_sequence; /* 0: not given */
    uint64_t last_count;                    /* the newest so many; 0: not given */
    bool now;                               /* before everything else instead of behind it */
    bool dry_run;                           /* only say what would be done */
    char reason[REQUEST_REASON_SIZE];
    enum request_action action;
    char **names; /* single components of a path */
    size_t name_count;
    /* Set by request_next(): */
    char requester[65]; /* name of the file's owner, else its uid in decimal */
    int64_t made_at_ns; /* the file's mtime */
};

/* The command's side. `directory_fd` is the daemon's directory of requests, opened with O_RDONLY. Makes the id.
 * STATUS_LIMIT: too many wait, or the request is too large; else errno on failure. */
MUST_CHECK enum status request_post(int directory_fd, struct request *request);
/* Waits for the answer (inotify) and removes it where this user may; *answer is malloc'ed JSON. Only what the
 * directory's owner or root wrote is one. STATUS_NOT_FOUND when none came in time: the daemon does not run, or is
 * busy. */
MUST_CHECK enum status request_wait(int directory_fd, const char *id, uint64_t timeout_ns, char **answer);
/* Takes a request back that was not answered (a dry run must not stay behind). True when the daemon had not answered
 * it. */
bool request_withdraw(int directory_fd, const char *id);

/*
 * The daemon's side, on one thread: the oldest request that waits, or STATUS_NOT_FOUND. One that can't be read is
 * answered with an error and passed over. It stays until request_answer(). request_deinit() frees what is in it, on
 * STATUS_OK. errno on STATUS_SYSTEM: try again later, not at once.
 */
MUST_CHECK enum status request_next(int directory_fd, struct request *request);
/*
 * Writes the answer (an object with at least "accepted": bool and "message": string, at most REQUEST_ANSWER_SIZE_MAX
 * bytes), readable by the requester, and removes the request, also when the answer can't be written. After what the
 * request asks for was made durable; a request met again after a crash in between must be answered again in the same
 * way. STATUS_SYSTEM, STATUS_NO_SPACE (errno): the answer is lost, or the request is still there.
 */
MUST_CHECK enum status request_answer(int directory_fd, const struct request *request, const char *answer);
/* Removes answers that nobody fetched for an hour, and what commands that were killed left behind. */
void request_expire(int directory_fd, int64_t realtime_ns);
void request_deinit(struct request *request);

#endif
