// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_TRANSFERS_PRIVATE_H
#define DIODECAST_RECEIVER_TRANSFERS_PRIVATE_H

#include "common/log.h"
#include "receiver/catalog.h"
#include "receiver/discards.h"
#include "receiver/frames.h"
#include "receiver/hasher.h"
#include "receiver/keeper.h"
#include "receiver/knowledge.h"
#include "receiver/losses.h"
#include "receiver/refusals.h"
#include "receiver/renumber.h"
#include "receiver/senders.h"
#include "receiver/transfers.h"

/* What the files of transfers share; for transfers*.c only. */
struct transfers {
    struct transfers_setup setup;
    struct unpack unpack;
    struct frames frames;
    struct catalog *catalog;
    struct senders *senders;
    struct knowledge *knowledge; /* the senders' */
    struct losses *losses;
    struct writer *writer;
    struct hasher *hasher;
    struct keeper *keeper;
    struct renumber *renumber;
    bool restoring, finished;
    struct writer_block *block; /* being unpacked */
    uint64_t now_ns;

    uint64_t delivered_total, damaged_total;
    bool has_delivered;
    struct ledger_delivery last_delivered;
    uint64_t no_space_ns, io_error_ns;
    struct log_limit space_limit;
    struct refusals refusals;
    struct discards discards;
};

/* The intake's disk has failed: for the health. True when it may pass by itself. */
bool transfers_note_error(struct transfers *transfers, int error);

#endif
