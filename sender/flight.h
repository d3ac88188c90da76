// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_FLIGHT_H
#define DIODECAST_SENDER_FLIGHT_H

#include <stddef.h>
#include <stdint.h>

#include "sender/config.h"
#include "sender/ledger.h"
#include "sender/transfer.h"

/*
 * The transfers that are claimed and not finished, as the control thread sees them while other stages own them: only
 * what is set at the claim and the atomics are looked at. Control thread only.
 */
struct flight {
    struct transfer **transfers; /* oldest first */
    uint64_t *recorded;          /* of each: the mark that the ledger has */
    size_t count, capacity;
    size_t limit;  /* of all */
    size_t window; /* of one priority, up to the end of reading: each of these holds a descriptor */
};

#define FLIGHT_MARK_BYTES (UINT64_C(4) << 20)

/* `descriptor_limit` is RLIMIT_NOFILE. flight_deinit() frees the list, not the transfers. */
void flight_init(struct flight *flight, size_t descriptor_limit);
void flight_deinit(struct flight *flight);
void flight_add(struct flight *flight, struct transfer *transfer);
void flight_remove(struct flight *flight, const struct transfer *transfer);
/*
 * Up to `limit` transfers whose mark moved by FLIGHT_MARK_BYTES or more since it was recorded; counts them as recorded.
 * Returns how many.
 */
size_t flight_marks(struct flight *flight, struct ledger_mark *marks, size_t limit);
/* Bytes that are still to be sent. */
uint64_t flight_bytes_left(const struct flight *flight);
/* How many more transfers of each priority may be claimed; what waits in the spool costs nothing. */
void flight_room(const struct flight *flight, size_t room[static CONFIG_PRIORITY_COUNT]);

#endif
