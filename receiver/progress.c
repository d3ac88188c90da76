// SPDX-License-Identifier: Apache-2.0
#include "receiver/progress.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "common/clock.h"

/* Epoch and SBN belong together: the version is odd while its one writer changes them. */
struct cell {
    _Atomic uint64_t version;
    _Atomic uint64_t epoch, passed_sbn;
};

enum { ROW_TAKEN = 1 };
#define DISK_BEHIND_NS (100 * CLOCK_MILLISECOND_NS) /* a write that takes so long waits for the disk */

/* A row goes to the first thread that names its sender. Trust is fixed, so there is a row for each. */
struct row {
    _Atomic uint64_t owner; /* sender id << 1 | ROW_TAKEN, or 0 */
    _Atomic uint64_t confirmed_epoch;
};

struct lane_progress {
    size_t senders;
    unsigned lanes;
    struct row *rows;
    struct cell *cells; /* [sender][lane] */
    _Atomic uint64_t oldest_write_ns;
};

struct lane_progress *progress_create(const struct trust *trust, unsigned lanes)
{
    struct lane_progress *progress = calloc(1, sizeof *progress);
    if (progress == NULL)
        return NULL;
    progress->senders = trust_count(trust);
    progress->lanes = lanes;
    progress->rows = calloc(progress->senders, sizeof *progress->rows);
    progress->cells = calloc(progress->senders * lanes, sizeof *progress->cells);
    if (progress->rows == NULL || progress->cells == NULL) {
        progress_destroy(progress);
        return NULL;
    }
    return progress;
}

void progress_destroy(struct lane_progress *progress)
{
    if (progress == NULL)
        return;
    free(progress->rows);
    free(progress->cells);
    free(progress);
}

/* The sender's row; NULL when it has none and `take` is false. */
static struct row *find(const struct lane_progress *progress, uint32_t sender_id, bool take)
{
    uint64_t owner = (uint64_t)sender_id << 1 | ROW_TAKEN;
    for (size_t i = 0; i < progress->senders; i++) {
        uint64_t found = atomic_load(&progress->rows[i].owner);
        if (found == 0 && take && atomic_compare_exchange_strong(&progress->rows[i].owner, &found, owner))
            found = owner;
        if (found == owner)
            return &progress->rows[i];
        if (found == 0)
            return NULL;
    }
    assert(!take);
    return NULL;
}

static struct cell *cell_of(const struct lane_progress *progress, const struct row *row, unsigned lane)
{
    assert(lane < progress->lanes);
    return &progress->cells[(size_t)(row - progress->rows) * progress->lanes + lane];
}

void progress_set_passed(struct lane_progress *progress, uint32_t sender_id, unsigned lane, uint64_t epoch,
                         uint64_t passed_sbn)
{
    struct cell *cell = cell_of(progress, find(progress, sender_id, true), lane);
    atomic_fetch_add(&cell->version, 1);
    atomic_store(&cell->epoch, epoch);
    atomic_store(&cell->passed_sbn, passed_sbn);
    atomic_fetch_add(&cell->version, 1);
}

bool progress_passed(const struct lane_progress *progress, uint32_t sender_id, unsigned lane, uint64_t *epoch,
                     uint64_t *passed_sbn)
{
    const struct row *row = find(progress, sender_id, false);
    if (row == NULL || lane >= progress->lanes)
        return false;
    struct cell *cell = cell_of(progress, row, lane);
    uint64_t version;
    do {
        version = atomic_load(&cell->version);
        *epoch = atomic_load(&cell->epoch);
        *passed_sbn = atomic_load(&cell->passed_sbn);
    } while (version % 2 != 0 || atomic_load(&cell->version) != version);
    return version != 0;
}

void progress_confirm_epoch(struct lane_progress *progress, uint32_t sender_id, uint64_t epoch)
{
    struct row *row = find(progress, sender_id, true);
    uint64_t known = atomic_load(&row->confirmed_epoch);
    while (known < epoch && !atomic_compare_exchange_weak(&row->confirmed_epoch, &known, epoch)) {
    }
}

uint64_t progress_confirmed_epoch(const struct lane_progress *progress, uint32_t sender_id)
{
    const struct row *row = find(progress, sender_id, false);
    return row == NULL ? 0 : atomic_load(&row->confirmed_epoch);
}

void progress_set_oldest_write(struct lane_progress *progress, uint64_t begun_ns)
{
    atomic_store_explicit(&progress->oldest_write_ns, begun_ns, memory_order_relaxed);
}

bool progress_is_disk_behind(const struct lane_progress *progress, uint64_t now_ns)
{
    uint64_t begun_ns = atomic_load_explicit(&progress->oldest_write_ns, memory_order_relaxed);
    return begun_ns != 0 && now_ns > begun_ns + DISK_BEHIND_NS;
}
