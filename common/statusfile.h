// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_COMMON_STATUSFILE_H
#define DIODECAST_COMMON_STATUSFILE_H

#include <jansson.h>
#include <stdint.h>

#include "common/status.h"

/* The status file that monitoring polls: JSON, replaced atomically (temporary name, rename; no fsync: it is a view, not
 * state). */

struct statusfile;

/* `path` is borrowed. Removes nothing of others: the temporary name is PATH with ".tmp" behind. */
struct statusfile *statusfile_create(const char *path);
void statusfile_destroy(struct statusfile *file);

/*
 * Adds the members common to both sides (schema_version, written_at, valid_for_s, pid, boot_id, program, version) to
 * `root`, writes it with mode 0640, and takes the reference to root. Failures are logged at most once a minute.
 */
void statusfile_write(struct statusfile *file, json_t *root, int64_t realtime_ns);

/*
 * A list of reasons for `health`, kept by the control thread: `code` is stable and static, `action` says what to do. A
 * reason stays until cleared; `since` is kept.
 */
enum health_level { HEALTH_OK, HEALTH_DEGRADED, HEALTH_FAILED };
struct health;
struct health *health_create(void);
void health_destroy(struct health *health);
void health_set(struct health *health, enum health_level level, const char *code, int64_t realtime_ns,
                const char *action_format, ...) __attribute__((format(printf, 5, 6)));
void health_clear(struct health *health, const char *code);
/* Adds "health" and "reasons" [{code, level, since, action}] to root. */
void health_to_json(const struct health *health, json_t *root);

#endif
