// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_KEY_USE_H
#define DIODECAST_RECEIVER_KEY_USE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/linkkey.h"
#include "receiver/epochs.h"

/* Which of two link keys each sender uses on one lane, for the operator who replaces one by the other. Written by the
 * receive thread, read by any. */
struct key_use;

struct key_use_entry {
    uint32_t sender_id;
    uint64_t epoch;   /* its newest run */
    unsigned secret;  /* as linkkey_secret_of() */
    uint64_t last_ns; /* monotonic, of the newest datagram */
};

struct key_use *key_use_create(size_t senders); /* NULL when out of memory */
void key_use_destroy(struct key_use *use);      /* NULL is allowed */
/* Receive thread. */
void key_use_note(struct key_use *use, const struct linkkey *key, const struct epochs *epochs, uint8_t lane);
/* The one at `index`, below the number of senders, in no order; false when there is none. */
bool key_use_get(const struct key_use *use, size_t index, struct key_use_entry *entry);

#endif
