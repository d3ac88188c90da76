// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_COMMON_STATUS_H
#define DIODECAST_COMMON_STATUS_H

/*
 * Outcome of an operation that depends on the environment (disk, socket, memory, files of an operator).
 * A caller either handles it, which includes saying so to the operator, or passes it on unchanged.
 * What arrives from the wire is never an error; see enum datagram_drop.
 */
enum status {
    STATUS_OK = 0,
    STATUS_SYSTEM,    /* a system call failed; errno says why and is still set */
    STATUS_NO_SPACE,  /* ENOSPC or EDQUOT, told apart because waiting may help */
    STATUS_NOT_FOUND, /* the named thing is not there */
    STATUS_EXISTS,    /* the named thing is already there */
    STATUS_INVALID,   /* the input breaks a rule; a message says which */
    STATUS_LIMIT,     /* a bound of proto/limits.h or of the configuration is exceeded */
    STATUS_CORRUPT,   /* stored data does not say what it must say */
    STATUS_DENIED,    /* a signature or a permission is missing */
    STATUS_CHANGED,   /* an item was altered while it was read */
};

#define MUST_CHECK __attribute__((warn_unused_result))

/* A short English phrase for `status`, static storage, never NULL. */
const char *status_text(enum status status);

/* STATUS_NO_SPACE for ENOSPC and EDQUOT, else STATUS_SYSTEM. Takes a positive errno value and stores it in errno. */
enum status status_from_errno(int error);
/* For calls that take a path: also tells NOT_FOUND, EXISTS and DENIED apart. */
enum status status_from_path_errno(int error);

#endif
