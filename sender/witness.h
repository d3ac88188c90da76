// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_WITNESS_H
#define DIODECAST_SENDER_WITNESS_H

#include <stddef.h>

#include "common/audit.h"
#include "sender/ledger.h"
#include "sender/transfer.h"

/* What the audit trail is told of transfers. */

/* An entry about a transfer, which it borrows, as it does the chain's id. */
void witness_transfer(struct audit_entry *entry, enum audit_event event, const struct transfer *transfer,
                      const uint8_t chain_id[static CHAIN_ID_SIZE], const char *detail);
/* The same from its row in the ledger. */
void witness_row(struct audit_entry *entry, enum audit_event event, const struct ledger_transfer *row,
                 const uint8_t chain_id[static CHAIN_ID_SIZE], const char *detail);
/* Notes that a transfer was sent again, how much of it and why; never waits. */
void witness_replayed(struct audit *audit, const struct ledger *ledger, const struct transfer *transfer);
/* Records what has happened already: durable on return, or noted for later where the log can't be written now. */
void witness_record(struct audit *audit, const struct audit_entry *entries, size_t count);

#endif
