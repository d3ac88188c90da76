// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_SENDERS_H
#define DIODECAST_RECEIVER_SENDERS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/audit.h"
#include "common/trust.h"
#include "proto/message.h"
#include "receiver/assembly.h"
#include "receiver/config.h"
#include "receiver/knowledge.h"
#include "receiver/ledger.h"
#include "receiver/opening.h"
#include "receiver/progress.h"
#include "receiver/publish.h"
#include "receiver/report.h"

/* What is known of each sender: its last heartbeat and its chains, kept in step with the ledger. The store thread's. */
struct senders;

/* All borrowed; `audit` may be NULL. Reads chains, delivered sequences, accepted losses and alarms from the ledger, and
 * confirms the epochs found there; NULL when that fails. */
struct senders *senders_create(const struct trust *trust, struct ledger *ledger, struct lane_progress *progress,
                               struct audit *audit, uint64_t now_ns);
void senders_destroy(struct senders *senders);

struct knowledge *senders_knowledge(struct senders *senders);
void senders_heartbeat(struct senders *senders, const struct message_heartbeat *heartbeat, uint64_t now_ns);
/* A manifest was bound, now or in an earlier run; looks whether it contradicts what was signed before. False when its
 * number can't be noted because the chain has too many gaps. */
bool senders_manifest(struct senders *senders, const struct assembly *assembly);
/* A transfer that was delivered has a second number (renumber.h), which is not missing: recorded, by a job for
 * `publish`, like a loss that was accepted. */
void senders_had(struct senders *senders, struct publish *publish, uint32_t sender_id, const struct opening *opening);
/* Whether the sender said that it will repeat this number of its current chain by itself. */
bool senders_are_healing(const struct senders *senders, uint32_t sender_id,
                         const uint8_t chain_id[static CHAIN_ID_SIZE], uint64_t sequence);
/* Gives the ledger the chains that changed and the alarms, through the publish stage; once a second. */
void senders_store(struct senders *senders, struct publish *publish, uint64_t now_ns);
/* The same at the end, whatever the time. */
void senders_finish(struct senders *senders, struct publish *publish);

/* Filling a snapshot: first the transfers that are shown as incomplete although only a number is known of their
 * manifest, then the rest, which leaves those out. */
void senders_begin_fill(struct senders *senders);
void senders_show(struct senders *senders, uint32_t sender_id, uint64_t sequence);
void senders_fill(struct senders *senders, enum config_tickets tickets, struct report_snapshot *snapshot,
                  uint64_t now_ns);

#endif
