// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_COMMON_NAMEKEY_H
#define DIODECAST_COMMON_NAMEKEY_H

#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

/*
 * With log_names = hash, the log has a keyed hash in place of each name of a transfer: the same one for the same name,
 * and nothing that a dictionary of public names could be tried against without the key. The key is made at the first
 * start, in STATE/names.key (0600), and who may read it finds the hash of a name (`diodecast log-name`).
 */
enum { NAMEKEY_SIZE = 32, NAMEKEY_TEXT_SIZE = 14 /* '#', 12 hex digits and a NUL */ };

/* Reads the key, made where there is none. Logs what fails. */
MUST_CHECK enum status namekey_load(const char *state_directory, uint8_t key[static NAMEKEY_SIZE]);
/* Hides names in the log from now on; before any thread. Logs what fails. */
MUST_CHECK enum status namekey_hide_names(const char *state_directory);
/* Pure. */
void namekey_text(const uint8_t key[static NAMEKEY_SIZE], const char *name, size_t size,
                  char text[static NAMEKEY_TEXT_SIZE]);

#endif
