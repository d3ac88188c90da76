// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_SENDERS_H
#define DIODECAST_RECEIVER_SENDERS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/trust.h"
#include "proto/message.h"
#include "receiver/knowledge.h"
#include "receiver/ledger.h"
#include "receiver/progress.h"
#include "receiver/publish.h"
#include "receiver/report.h"

/* What is known of each sender: its last heartbeat and its chain, kept in step with the ledger. The store thread's. */
struct senders;

/* All borrowed. Reads chains and delivered sequences from the ledger, and confirms the epochs found there; NULL when
 * that fails. */
struct senders *senders_create(const struct trust *trust, struct ledger *ledger, struct lane_progress *progress);
void senders_destroy(struct senders *senders);

struct knowledge *senders_knowledge(struct senders *senders);
void senders_heartbeat(struct senders *senders, const struct message_heartbeat *heartbeat, uint64_t now_ns);
/* Whether the sender said that it will repeat these sequences by itself. */
bool senders_are_healing(const struct senders *senders, uint32_t sender_id, uint64_t first, uint64_t last);
/* Gives the ledger the chains that changed, through the publish stage; once a second. */
void senders_store(struct senders *senders, struct publish *publish, uint64_t now_ns);
void senders_fill(struct senders *senders, struct report_snapshot *snapshot, uint64_t now_ns);

#endif
