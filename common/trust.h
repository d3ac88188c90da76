// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_COMMON_TRUST_H
#define DIODECAST_COMMON_TRUST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/signature.h"
#include "common/status.h"

/*
 * A set of public keys: a directory of NAME.pub files. Beside one may lie NAME.expires, whose first line is the date or
 * time (RFC 3339) from which on it counts no more, and NAME.revoked, whose being there revokes it and whose first line
 * says why. Immutable after loading, so shared by threads without a lock.
 */
struct trust;

enum { TRUST_KEYS = 1024, TRUST_NAME_SIZE = 252, TRUST_WHY_SIZE = 96 };
#define TRUST_NEVER INT64_MAX

struct trust_key {
    struct signature_public public_key;
    char name[TRUST_NAME_SIZE]; /* of its file, without ".pub"; UTF-8 without control characters */
    int64_t expires_ns;         /* CLOCK_REALTIME; TRUST_NEVER: does not */
    bool revoked;
    char why_revoked[TRUST_WHY_SIZE]; /* UTF-8, may be empty */
};

/* Prints what is wrong (unreadable or malformed files, a secret key among them, one key twice, two keys with one sender
 * id). An empty directory is an error with the command that mends it. */
MUST_CHECK enum status trust_load(const char *directory, struct trust **trust);

/* How trust_read() goes about it. */
struct trust_reading {
    const char *role;  /* "trusted key", "approval key": for messages */
    bool by_sender_id; /* two keys with one sender id are a problem */
    bool may_be_empty; /* else that is a problem */
    unsigned problems; /* so far: what must be mended */
    unsigned warnings; /* so far: what has no effect but may be a slip, as a NAME.revoked without NAME.pub */
    char problem[512]; /* the first of both, for the status; UTF-8 */
};

/*
 * Reads what can be read: each problem is logged and counted, its key is left out. A key whose NAME.expires can't be
 * understood counts as expired. Fails, logged, only when the directory can't be read or memory is short.
 */
MUST_CHECK enum status trust_read(const char *directory, struct trust_reading *reading, struct trust **trust);

/* For tests and simulation: keys without names, that neither expire nor are revoked. */
struct trust *trust_from_keys(const struct signature_public *keys, size_t count);
/* Likewise with all that files would say. */
struct trust *trust_from_entries(const struct trust_key *keys, size_t count);

/* The key of a sender id, or NULL. Constant time is not needed: key ids are public. */
const struct signature_public *trust_find(const struct trust *trust, uint32_t sender_id);
/* Likewise, with its name and limits. */
const struct trust_key *trust_find_sender(const struct trust *trust, uint32_t sender_id);
/* The key of a whole key id, or NULL. */
const struct trust_key *trust_find_key(const struct trust *trust, const uint8_t key_id[static SIGNATURE_KEY_ID_SIZE]);
const struct trust_key *trust_find_name(const struct trust *trust, const char *name);
/* Whether these 32 bytes are a key of the set, under whatever key id. */
bool trust_has_bytes(const struct trust *trust, const uint8_t key[static SIGNATURE_PUBLIC_SIZE]);
/* Number `index`, ascending by sender id. */
const struct trust_key *trust_at(const struct trust *trust, size_t index);
size_t trust_count(const struct trust *trust);
void trust_destroy(struct trust *trust);

#endif
