// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_COMMON_KEYFILE_H
#define DIODECAST_COMMON_KEYFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/status.h"

/* Small text files that hold keys: written once and never over another file, read into memory that is wiped. */

enum { KEYFILE_MAX_SIZE = 4096 };

/*
 * Writes a new file with exactly `mode`, fsyncs it and its directory. STATUS_EXISTS when the name is taken. Nothing is
 * left behind on failure.
 */
MUST_CHECK enum status keyfile_create(const char *path, const void *bytes, size_t size, mode_t mode);

/*
 * Reads a key file into guarded memory with a NUL behind it; free with keyfile_free(), which wipes it. With `secret`,
 * STATUS_DENIED when others than its owner and this process have any permission on it, by mode or access control list.
 * On failure `reason` receives the message for the
 * operator, the file's name and the command that mends it included.
 */
MUST_CHECK enum status keyfile_read(const char *path, bool secret, char **text, size_t *size, char reason[static 256]);
void keyfile_free(char *text);

/*
 * The base64 text on line `line` (0 is the first) of `text`; true when it decodes to exactly `size` bytes. Lines end in
 * LF or CR LF. Pure.
 */
bool keyfile_decode_line(const char *text, size_t text_size, int line, uint8_t *out, size_t size);

/* Line `line` without its end; false when there is none. Pure. */
bool keyfile_find_line(const char *text, size_t text_size, int line, const char **start, size_t *size);

#endif
