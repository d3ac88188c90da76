// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_TOOLS_AUDIT_FILES_H
#define DIODECAST_TOOLS_AUDIT_FILES_H

#include <stdbool.h>
#include <stddef.h>

#include "common/audit_check.h"

/* The files of an audit log, read line by line through a check; memory does not grow with them. */

struct audit_files {
    char **paths; /* in the order of the log */
    size_t count;
    char *key; /* audit.pub of the first directory; NULL: there is none */
};

/*
 * Each argument is a directory (the log itself, or the state directory that it lies in) or a file. False, with the
 * reason logged, when there is nothing.
 */
bool audit_files_find(char *const arguments[], size_t count, struct audit_files *files);
void audit_files_deinit(struct audit_files *files);

/* Loads `key_file`, else files->key; *known is false when there is neither. False, logged, when one can't be read. */
bool audit_files_key(const struct audit_files *files, const char *key_file, struct signature_public *key, bool *known);

/* `visit` (may be NULL) gets each record that counts. False, logged, when a file can't be read. Calls
 * audit_check_file() and audit_check_line(), not audit_check_end(). */
bool audit_files_read(const struct audit_files *files, struct audit_check *check,
                      void (*visit)(void *context, const struct audit_record *record), void *context);

/*
 * All of it for commands that only want the records: checks with what is at hand, and warns when the log does not
 * verify. False when it can't be read.
 */
bool audit_files_each(const struct audit_files *files, void (*visit)(void *context, const struct audit_record *record),
                      void *context);

#endif
