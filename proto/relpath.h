// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_PROTO_RELPATH_H
#define DIODECAST_PROTO_RELPATH_H

#include <stdbool.h>
#include <stddef.h>

/*
 * The one predicate for names, used on both sides, so that the low side refuses what the high side would.
 * Each function returns NULL when `text[0..size)` is acceptable, else a phrase for the operator (static storage),
 * such as "contains a control character". Pure.
 */

/* A relative path: valid UTF-8, no control characters, no empty, "." or ".." component, not absolute, within limits. */
const char *relpath_check(const char *text, size_t size);

/* One component: as above, and no '/'. */
const char *relpath_check_component(const char *text, size_t size);

/* Free text (a reason, a user's name): valid UTF-8 without control characters; may be empty. */
const char *relpath_check_text(const char *text, size_t size);

/* A channel: 1 to 64 of A-Z a-z 0-9 . _ -, not starting with a dot. */
const char *relpath_check_channel(const char *text, size_t size);

/*
 * Whether the symlink at relative path `path` (already checked) with `target` stays inside the first component of
 * `path`, wherever other symlinks of the same item lead: relative, and ".." only in front of all names.
 */
const char *relpath_check_symlink(const char *path, const char *target, size_t target_size);

/* Names in a spool that are not items: starting with '.', ending in .part, .tmp or .approval. */
bool relpath_is_hidden_item(const char *name);

/* NAME.approval is the companion of the item NAME: the approvals that it is sent with (proto/approval.h). */
#define RELPATH_APPROVAL_SUFFIX ".approval"
enum { RELPATH_APPROVAL_SUFFIX_SIZE = sizeof RELPATH_APPROVAL_SUFFIX - 1 };
bool relpath_is_approval(const char *name);

/* Bytes of `text` up to `limit` that end on a UTF-8 character boundary. */
size_t relpath_cut(const char *text, size_t limit);

#endif
