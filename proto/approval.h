// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_PROTO_APPROVAL_H
#define DIODECAST_PROTO_APPROVAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/signature.h"
#include "common/status.h"
#include "proto/limits.h"

struct Diodecast__Approval;
struct field;

/*
 * Approvals: signatures over a statement's bytes by keys other than the sender's, and the bundle that carries them
 * beside an item (NAME.approval, proto/README.md, "Approvals"). A bundle has one encoding: approvals ascend by key id,
 * each key comes once, and each has a trusted comment, so that it makes a .minisig file. Pure.
 */

enum {
    APPROVAL_ENCODED_SIZE_MAX = 512, /* of one approval as a field, at most */
    APPROVAL_FILE_SIZE_MAX = LIMIT_MANIFEST_SIZE + LIMIT_APPROVALS * APPROVAL_ENCODED_SIZE_MAX + 64,
};

struct approval_bundle {
    const uint8_t *statement; /* borrowed, verbatim */
    size_t statement_size;
    size_t count;
    struct signature approvals[LIMIT_APPROVALS];
};

enum approval_result {
    APPROVAL_ADDED,
    APPROVAL_REPEATED, /* this key id has approved already; nothing changed */
    APPROVAL_FULL,     /* LIMIT_APPROVALS are there */
};

/* Puts the approval in its place. It is not verified: the caller has made it, or checks it with signature_verify(). */
enum approval_result approval_add(struct approval_bundle *bundle, const struct signature *approval);

/* Encodes the bundle, whose statement the caller has checked; *out is malloc'ed, the caller frees it. */
void approval_encode(const struct approval_bundle *bundle, uint8_t **out, size_t *size);

/*
 * Decodes a bundle; its statement lies inside `bytes`. All of it is checked: encoding, order, and the statement by
 * statement_reader_create(); not the signatures, for which keys are needed. On STATUS_INVALID `reason` holds a phrase
 * for the operator; STATUS_SYSTEM when memory is short.
 */
MUST_CHECK enum status approval_decode(const uint8_t *bytes, size_t size, struct approval_bundle *bundle,
                                       char reason[static 256]);

/* Whether the bytes begin as a bundle does, so that a message about what is wrong with them makes sense. */
bool approval_is_bundle(const uint8_t *bytes, size_t size);

/* One Approval message, as it stands in bundles and manifests, whose bytes field_check() has seen. False when it breaks
 * a rule. `approval` may be NULL. */
bool approval_read(const struct field *field, struct signature *approval);

/*
 * The same for a message that is to be packed: fills `wire` and `list` (both [count], at most LIMIT_APPROVALS), which
 * borrow from `approvals`. Returns `count`.
 */
size_t approval_to_wire(const struct signature *approvals, size_t count, struct Diodecast__Approval *wire,
                        struct Diodecast__Approval **list);

#endif
