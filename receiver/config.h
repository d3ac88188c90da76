// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_CONFIG_H
#define DIODECAST_RECEIVER_CONFIG_H

#include <stdint.h>

#include "common/socket.h"
#include "common/status.h"

/* receiver.conf, checked and in machine units. Immutable after loading, so shared by all threads. */
enum config_tickets { CONFIG_TICKETS_OFF, CONFIG_TICKETS_WHOLE, CONFIG_TICKETS_CHUNKS };

struct config {
    char *intake, *state, *status, *trusted_keys;
    uint64_t memory;  /* bytes of the data plane */
    uint64_t staging; /* key staging: bytes that open transfers may hold in .staging together; UINT64_MAX: the disk's */
    uint64_t reserve; /* key reserve: bytes of free disk that no transfer may take (256MiB) */
    uint64_t recheck_bytes_per_s; /* key recheck: rate of re-reading what was hashed before a hole was filled or before a
                                     restart (200MiB a second) */
    enum config_tickets tickets; /* key tickets: off, whole, chunks (the default): how much a ticket may tell */
    uint64_t max_open;           /* key max_open: transfers open at a time (4096 at most) */
    struct socket_address listen;
    uint32_t lanes;
    char *link_key; /* NULL: none */
};

/* Least `memory`: as a whole, and of each lane and of each trusted sender on each lane. */
#define CONFIG_MEMORY_MIN       (UINT64_C(8) << 20)
#define CONFIG_MEMORY_PER_LANE  (UINT64_C(2) << 20)
#define CONFIG_MEMORY_PER_SHARE (UINT64_C(1) << 20)

/*
 * Prints every problem as FILE:LINE: message. STATUS_INVALID when there was one, STATUS_SYSTEM when the file can't be
 * read. *config is usable only on STATUS_OK; config_deinit() frees it.
 */
MUST_CHECK enum status config_load(const char *file, struct config *config);
void config_deinit(struct config *config);

#endif
