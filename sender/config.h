// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_CONFIG_H
#define DIODECAST_SENDER_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/cpus.h"
#include "common/signature.h"
#include "common/socket.h"
#include "common/status.h"
#include "proto/limits.h"

struct passed;

/* sender.conf, checked and in machine units. Immutable after loading, so shared by all threads. */

enum config_priority { CONFIG_PRIORITY_HIGH, CONFIG_PRIORITY_NORMAL, CONFIG_PRIORITY_LOW, CONFIG_PRIORITY_COUNT };
enum config_complete { CONFIG_COMPLETE_SETTLE, CONFIG_COMPLETE_RENAME, CONFIG_COMPLETE_MARKER };
enum config_symlinks { CONFIG_SYMLINKS_REFUSE, CONFIG_SYMLINKS_INSIDE };

struct config_channel {
    char name[LIMIT_CHANNEL_LENGTH + 1];
    enum config_priority priority;
    enum config_complete complete;
    enum config_symlinks symlinks;
    /* Keys retain and retain_bytes; 0: none of its own. The time replaces that of all, the bytes bound it besides. */
    uint64_t retain_ns, retain_bytes;
    uint32_t
        approvals; /* key approvals: so many approvals an item waits for; 0: none, but what lies there goes along */
};

struct config {
    char *spool, *state, *status, *signing_key;
    bool has_next_key; /* key next_key in [sender]: the public key that will follow is announced */
    struct signature_public next_key;
    uint64_t settle_ns, settle_tree_ns;
    uint64_t max_size; /* bytes of one transfer; key max_size in [sender], LIMIT_TRANSFER_SIZE by default */
    struct cpus cpus;  /* key cpus in [sender]: of the read thread, then of each lane's send thread */
    struct socket_address peer;
    uint32_t lanes;
    uint64_t rate_bits_per_s;
    uint32_t mtu; /* 0 = auto */
    bool carrier_required;
    bool sandbox;    /* key sandbox in [sender]; on by default */
    bool hide_names; /* in the log; key log_names in [sender] */
    char *link_key;  /* NULL: none */
    uint32_t source_symbols, repair_symbols;
    uint64_t burst_ns;
    uint64_t retain_ns, retain_bytes;
    uint64_t retain_free; /* key retain_free: bytes of free disk below which the oldest sent transfers go early */
    bool idle_resend;
    uint32_t idle_copies;    /* key idle_copies: how often a transfer is sent again at most (2) */
    uint32_t share;          /* key share in [sender]: per cent of the blocks that the classes below a busy one get
                                together; 0: one of SCHEDULE_SHARE */
    uint32_t idle_share;     /* key idle_share: per cent of the rate (50) */
    uint64_t idle_window_ns; /* key idle_window: for so long after its sending (24h) */
    char *replay_group; /* key group of [replay]: whose members may ask for replays; NULL: the sender's user only */
    struct config_channel *channels;
    size_t channel_count;
    /* Derived by config_load(): */
    uint16_t symbol_size; /* from mtu, or from the route when mtu = auto (at most 9000) */
    uint16_t depth;       /* config_depth() of the whole rate, also with several lanes: one of them may have it all */
    char interface[16];   /* of the route to peer */

    struct passed *passed; /* as given to config_load(); NULL once the link is open, or where nothing was passed */
};

/*
 * Prints every problem as FILE:LINE: message. STATUS_INVALID when there was one, STATUS_SYSTEM when the file can't be
 * read. *config is usable only on STATUS_OK; config_deinit() frees it. Loads the keys to see that they are sound, so
 * signature_init() comes first. `passed` (sender/passed.h) is borrowed, and NULL where nothing was passed: with it, the
 * route to the peer is that of the network namespace of the passed sockets.
 */
MUST_CHECK enum status config_load(const char *file, struct passed *passed, struct config *config);
void config_deinit(struct config *config);
/* Blocks in an interleave group: ceil(datagrams in the burst / (repair_symbols / 2)), at least 1. Pure. */
uint64_t config_depth(uint64_t rate_bits_per_s, uint64_t burst_ns, uint64_t wire_bits, uint32_t repair_symbols);
/* The channel's own section or the defaults (normal, settle, refuse). Never NULL. */
const struct config_channel *config_channel_find(const struct config *config, const char *name);

#endif
