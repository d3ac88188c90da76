// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_HANDOVER_FILE_H
#define DIODECAST_RECEIVER_HANDOVER_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/status.h"
#include "receiver/handover.h"

/* The handover (receiver/handover.h) as a file "handover" beside the status file. Control thread. */
struct handover_file;

/*
 * Writing. The file has mode 0600 and gets its name when it is complete; it needs no fsync, since it is of no use after
 * a crash of the machine. Writing that is not over at `deadline_ns` (CLOCK_MONOTONIC) fails. handover_file_commit()
 * frees; when it fails nothing is left behind, and errno says why. Nothing is logged.
 */
MUST_CHECK enum status handover_file_create(const char *status_path, bool sealed, uint64_t deadline_ns,
                                            struct handover_file **file);
struct handover_writer *handover_file_writer(struct handover_file *file);
MUST_CHECK enum status handover_file_commit(struct handover_file *file);

/*
 * Reading. Removes the file before anything of it is used, so that no second start reads it. NULL when there is none,
 * or none that may be used (then the log says why): of another boot, version or user, damaged, from a run that did not
 * have a link key where this one has one or the other way round, or larger than `limit` bytes.
 */
struct handover_file *handover_file_take(const char *status_path, bool sealed, uint64_t limit);
bool handover_file_next(struct handover_file *file, struct handover_record *record);
void handover_file_close(struct handover_file *file); /* NULL is allowed */

#endif
