// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_OWNER_H
#define DIODECAST_SENDER_OWNER_H

#include <stdint.h>
#include <sys/types.h>

#include "proto/limits.h"

/*
 * Names of the users that drop items. Asking the system reads several files, or even asks a server, for each item; so
 * what it said about the latest few users holds for a minute.
 */
enum { OWNER_KNOWN = 16 };
#define OWNER_AGE_NS UINT64_C(60000000000)

/* The user's name, or the number where there is none that may cross. Any thread. */
void owner_name(uid_t uid, uint64_t now_ns, char name[static LIMIT_USER_LENGTH + 1]);

#endif
