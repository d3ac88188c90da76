// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_WITNESS_H
#define DIODECAST_RECEIVER_WITNESS_H

#include "common/audit.h"
#include "receiver/assembly.h"
#include "receiver/ledger.h"

/* What the audit trail is told of transfers. */

/* An entry about a delivery, which it borrows. */
void witness_delivery(struct audit_entry *entry, enum audit_event event, const struct ledger_delivery *delivery);
/* Notes what happened to an open transfer; never waits. `detail` may be NULL. Any thread that owns the assembly. */
void witness_assembly(struct audit *audit, enum audit_event event, const struct assembly *assembly, const char *detail);

#endif
