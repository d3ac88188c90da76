// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_COMMON_SANDBOX_H
#define DIODECAST_COMMON_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>

#include "common/status.h"

/*
 * What a daemon gives up once it has what it needs, so that whoever takes it over finds nothing in it but its role:
 *
 *     open: configuration, keys, ledger
 *     sandbox_enter()    no new privileges, not dumpable, Landlock: the files of the configuration and no others
 *     open: sockets; start: threads, each with its ring, restricted to its role (common/ring.h)
 *     sandbox_seal()     capabilities, seccomp for all threads; then all that is forbidden is tried
 *
 * Landlock and capabilities belong to a thread and are inherited, hence before and after. seccomp does not see what is
 * submitted to a ring, hence the restricted rings, and no way to make another one.
 *
 * A build with AddressSanitizer or ThreadSanitizer keeps Landlock, seccomp and the dump away, for their run-time
 * libraries need what these forbid.
 */

enum sandbox_role { SANDBOX_SENDER, SANDBOX_RECEIVER };

enum sandbox_access {
    SANDBOX_READS,        /* a file, or a directory and what is below it */
    SANDBOX_READS_LINKED, /* also what symbolic links in the directory lead to */
    SANDBOX_WRITES,       /* a directory: regular files, directories and symbolic links below it, and their renames */
    SANDBOX_WRITES_LINKED,
    SANDBOX_MOVES, /* as SANDBOX_WRITES, and renames of devices, sockets and FIFOs, which others left there */
};

struct sandbox_path {
    const char *path; /* NULL: none */
    enum sandbox_access access;
};

/*
 * To be called before the first thread is started, and once. Logs and returns STATUS_SYSTEM when this kernel lacks what
 * it takes: the message says what, and what to do.
 */
MUST_CHECK enum status sandbox_enter(enum sandbox_role role, const struct sandbox_path paths[], size_t count);
/*
 * To be called by the same thread when all threads run and all is open. Logs and returns STATUS_SYSTEM as above, and
 * STATUS_DENIED when something forbidden works nevertheless: the daemon must not run then.
 */
MUST_CHECK enum status sandbox_seal(enum sandbox_role role);
/* Gives up the capabilities that the process's role does not have; called first by each thread (common/worker.h). Does
 * nothing before sandbox_enter(). That it fails shows in sandbox_seal(). */
void sandbox_limit_thread(void);
/* The same for the thread that starts the others: until sandbox_seal() it keeps CAP_SYS_NICE, for those with a nice
 * value. */
void sandbox_limit_starter(void);
/* Whether a sandbox was entered; for the status file, which shows "sandbox_off" with the action below when not. */
bool sandbox_is_on(void);
#define SANDBOX_OFF_ACTION                                                                                             \
    "the daemon runs without its sandbox, which is for debugging: take \"sandbox = off\" out of the configuration or " \
    "--sandbox=off off the command line, and restart it"
/* Says once, in the log, that there is none. */
void sandbox_tell_off(void);

#endif
