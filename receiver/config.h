// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_CONFIG_H
#define DIODECAST_RECEIVER_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "common/cpus.h"
#include "common/socket.h"
#include "common/status.h"
#include "receiver/bounds.h"
#include "receiver/policy.h"

/* receiver.conf, checked and in machine units. Immutable after loading, so shared by all threads. */
enum config_tickets { CONFIG_TICKETS_OFF, CONFIG_TICKETS_WHOLE, CONFIG_TICKETS_CHUNKS };

struct config {
    char *intake, *state, *status, *trusted_keys;
    char *approval_keys;        /* NULL: none */
    struct policy_rules policy; /* whose transfers, approved by whom, are delivered */
    uint64_t memory;            /* bytes of the data plane */
    uint64_t staging; /* bytes that open transfers may hold in .staging together; 0: as many as the disk has */
    uint64_t reserve; /* bytes of free disk that no transfer may take */
    uint64_t quarantine, quarantine_age_ns; /* bytes of transfers that are held back, and how long */
    struct bounds bounds;                   /* of one transfer; size 0: those of the wire format */
    uint64_t recheck_bytes_per_s; /* rate of re-reading what did not arrive in order or was there before a restart; 0:
                                     no limit */
    enum config_tickets tickets;  /* how much a ticket may tell */
    uint32_t max_open;            /* transfers open at a time; 0: as many as the program can (CATALOG_OPEN) */
    struct cpus cpus;             /* of each lane's receive thread, then of those that store and hash */
    struct socket_address listen;
    uint32_t lanes;
    bool sandbox;        /* key sandbox; on by default */
    bool hide_names;     /* in the log; key log_names */
    char *link_key;      /* NULL: none */
    char *link_key_next; /* accepted beside it; NULL: none */
};

#define CONFIG_QUARANTINE_AGE_MIN UINT64_C(60000000000)

enum { CONFIG_MAX_OPEN = 4096 }; /* as CATALOG_OPEN */

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
