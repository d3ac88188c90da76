// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_TOOLS_STATUS_VIEW_H
#define DIODECAST_TOOLS_STATUS_VIEW_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* What a person sees of a status file, of either side. Pure: the time is an argument. */

/* RFC 3339 in UTC ("2026-11-22T01:50:16.123Z") to nanoseconds since 1970; false when it is no such text. */
bool status_view_parse_time(const char *text, int64_t *realtime_ns);

/* Whether the file says how long it is valid, and is so no longer, or does not say when it was written. */
bool status_view_is_stale(const json_t *root, int64_t now_ns);

/* Whether "health" is "failed". */
bool status_view_has_failed(const json_t *root);

/*
 * Prints the view. Members that are missing or of another type are left out. `earlier` is the same file some time
 * before, or NULL: rates of open transfers come from the two, where the file has none.
 */
void status_view_print(FILE *stream, const json_t *root, const json_t *earlier, int64_t now_ns);

#endif
