// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_RECEIVER_LEDGER_HELD_H
#define DIODECAST_RECEIVER_LEDGER_HELD_H

#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "receiver/ledger.h"

/*
 * The part of the ledger that keeps transfers which were received, verified, and held back by the policy. Their row in
 * `delivery` has one of these states instead of "publishing" or "delivered"; each counts as received. What is only
 * known of them stands in `held`, which has a row in the first three.
 *
 *     3 HOLDING    about to be renamed into .quarantine         → 4, or forgotten
 *     4 HELD                                                    → 5, 6
 *     5 RELEASING  about to be renamed from there to its channel → 2 (delivered), or back to 4
 *     6            discarded; never received again
 *
 * A transfer that is still open has its first sight recorded too, so that what the expiry of a key means for it does
 * not depend on restarts. Must come behind whatever makes the tables `delivery` and `partial`.
 */
#define LEDGER_HELD_SCHEMA                                                                                    \
    "CREATE TABLE held (number INTEGER PRIMARY KEY REFERENCES delivery ON DELETE CASCADE,"                    \
    "  place TEXT NOT NULL, reason TEXT NOT NULL, since_ns INTEGER NOT NULL, first_seen_ns INTEGER NOT NULL," \
    "  kept INTEGER NOT NULL, manifest_bytes INTEGER NOT NULL);"                                              \
    "CREATE INDEX held_place ON held (place);"                                                                \
    "CREATE TRIGGER partial_held AFTER UPDATE OF state ON delivery WHEN new.state = 4 AND old.state = 3"      \
    "  BEGIN DELETE FROM partial WHERE sender_id = new.sender_id AND transfer_id = new.transfer_id; END;"     \
    "CREATE TRIGGER held_over AFTER UPDATE OF state ON delivery WHEN new.state IN (2, 6) AND old.state > 2"   \
    "  BEGIN DELETE FROM held WHERE number = new.number; END;"                                                \
    "ALTER TABLE partial ADD COLUMN first_seen_ns INTEGER NOT NULL DEFAULT 0;"

enum { LEDGER_HELD_REASON_SIZE = 256 };

enum ledger_held_state { LEDGER_HOLDING = 3, LEDGER_HELD = 4, LEDGER_RELEASING = 5 };

/* What of it lies in .quarantine. */
enum ledger_kept { LEDGER_KEPT_NOTHING, LEDGER_KEPT_MANIFEST, LEDGER_KEPT_ALL };

struct ledger_held {
    struct ledger_delivery delivery; /* `directory` is that in its channel, in RELEASING only; likewise at_ns */
    enum ledger_held_state state;
    char place[LIMIT_COMPONENT_LENGTH + 1]; /* its name, and that of its directory under .quarantine if it has one */
    char reason[LEDGER_HELD_REASON_SIZE];
    int64_t since_ns;      /* of the clock by which it ages (held.h) */
    int64_t first_seen_ns; /* CLOCK_REALTIME */
    enum ledger_kept kept;
    uint64_t manifest_bytes;
};

struct ledger_held_totals {
    uint64_t count;
    uint64_t whole_count, whole_bytes;       /* of which all is kept, their manifests included */
    uint64_t manifest_count, manifest_bytes; /* of which the manifest is kept */
    int64_t oldest_ns;                       /* since_ns of the oldest; 0: there is none */
};

/* Step one of holding, as ledger_publishing() is of publishing; step two is ledger_delivered(), of which the row says
 * what it means. STATUS_EXISTS when the transfer is known already. ledger_publish_failed() forgets it. */
MUST_CHECK enum status ledger_holding(struct ledger *ledger, const struct ledger_held *held);
/* The same for a release: `held->delivery` says where to and when. Step two is ledger_delivered(). */
MUST_CHECK enum status ledger_releasing(struct ledger *ledger, const struct ledger_held *held);
/* It stays held after all. */
MUST_CHECK enum status ledger_release_failed(struct ledger *ledger, const struct ledger_key *key);
/* What is held of it is gone for good. */
MUST_CHECK enum status ledger_discarded(struct ledger *ledger, const struct ledger_key *key);

/* All of them, the oldest first. `visit` must not use the ledger; false ends the walk. */
MUST_CHECK enum status ledger_each_held(struct ledger *ledger,
                                        bool (*visit)(const struct ledger_held *held, void *context), void *context);
/* By its name; the newest, should there be several. STATUS_NOT_FOUND. */
MUST_CHECK enum status ledger_find_held(struct ledger *ledger, const char *place, struct ledger_held *held);
MUST_CHECK enum status ledger_held_totals(struct ledger *ledger, struct ledger_held_totals *totals);

#endif
