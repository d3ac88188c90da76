// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_PRINTABLE_H
#define DIODECAST_SENDER_PRINTABLE_H

#include <stddef.h>

/*
 * Names as operators may see them: in reasons, logs and the status file, whatever bytes somebody put into a file name.
 * Writes `name` to out[0..size) (size >= 16): as it is when it is printable UTF-8, else with \xNN for every byte
 * outside printable ASCII; cut with "..." in the end when it is too long. Returns out. Pure.
 */
char *printable_name(const char *name, char *out, size_t size);

#endif
