// SPDX-License-Identifier: Apache-2.0
#include "receiver/held.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/digest.h"
#include "common/durable.h"
#include "common/log.h"
#include "proto/relpath.h"
#include "receiver/publish.h"
#include "receiver/witness.h"

enum { SWEEP_AT_ONCE = 64 /* that end in one turn */ };
#define SWEEP_INTERVAL_NS (60 * CLOCK_SECOND_NS)

struct held {
    const struct intake *intake;
    struct ledger *ledger;
    struct audit *audit;
    struct held_setup setup;
    int64_t clock_base_ns; /* of the clock by which they age: to be added to CLOCK_MONOTONIC */
    uint64_t sweep_ns;
    uint64_t trash_count;
    bool changed;
    struct held_facts facts;
};

static bool list(const struct ledger_held *row, void *context)
{
    struct held_facts *facts = context;
    facts->list[facts->listed++] = *row;
    return facts->listed < HELD_LISTED;
}

/* What the ledger says. */
static enum status look(struct held *held)
{
    enum status status = ledger_held_totals(held->ledger, &held->facts.totals);
    held->facts.listed = 0;
    if (status == STATUS_OK && held->facts.totals.count > 0)
        status = ledger_each_held(held->ledger, list, &held->facts);
    held->changed = status != STATUS_OK;
    return status;
}

struct held *held_create(const struct intake *intake, struct ledger *ledger, struct audit *audit,
                         const struct held_setup *setup)
{
    struct held *held = calloc(1, sizeof *held);
    if (held == NULL)
        return NULL;
    held->intake = intake;
    held->ledger = ledger;
    held->audit = audit;
    held->clock_base_ns = clock_realtime_ns() - (int64_t)clock_monotonic_ns();
    held->setup = setup != NULL ? *setup : (struct held_setup){.bytes = HELD_BYTES, .age_ns = HELD_AGE_NS};
    held->facts.limit_bytes = held->setup.bytes;
    if (look(held) == STATUS_OK)
        return held;
    free(held);
    return NULL;
}

void held_destroy(struct held *held)
{
    free(held);
}

static int64_t age_clock_ns(const struct held *held, uint64_t now_ns)
{
    return held->clock_base_ns + (int64_t)now_ns;
}

/* Takes the room at once, so that those of one batch don't take it twice; the ledger corrects it. */
static enum ledger_kept take_room(struct held *held, uint64_t bytes, uint64_t manifest_bytes)
{
    struct ledger_held_totals *totals = &held->facts.totals;
    if (totals->whole_count + totals->manifest_count >= HELD_COUNT)
        return LEDGER_KEPT_NOTHING;
    uint64_t whole_bytes = bytes + manifest_bytes;
    if (totals->whole_bytes <= held->setup.bytes && whole_bytes <= held->setup.bytes - totals->whole_bytes) {
        totals->whole_bytes += whole_bytes;
        totals->whole_count++;
        return LEDGER_KEPT_ALL;
    }
    if (totals->manifest_bytes + manifest_bytes > HELD_MANIFEST_BYTES)
        return LEDGER_KEPT_NOTHING;
    totals->manifest_bytes += manifest_bytes;
    totals->manifest_count++;
    return LEDGER_KEPT_MANIFEST;
}

void held_judge(struct held *held, struct publish_job *job)
{
    static const char *const notes[] = {
        [LEDGER_KEPT_NOTHING] = "; the quarantine is full, so nothing of it was kept",
        [LEDGER_KEPT_MANIFEST] = "; the quarantine is full, so only its manifest was kept",
        [LEDGER_KEPT_ALL] = "",
    };
    const struct assembly *assembly = job->assembly;
    char reason[HELD_REASON_SIZE] = "";
    if (job->judged)
        return;
    job->judged = true;
    if (held->setup.rule == NULL ||
        !held->setup.rule(held->setup.context, assembly->sender_id, assembly->first_seen_ns, assembly->reader, reason))
        return;
    job->held = calloc(1, sizeof *job->held);
    assert(job->held != NULL);
    job->held->state = LEDGER_HELD;
    job->held->since_ns = age_clock_ns(held, clock_monotonic_ns());
    job->held->first_seen_ns = assembly->first_seen_ns;
    job->held->manifest_bytes = assembly->manifest.body_size;
    job->held->kept = take_room(held, assembly->total_bytes, assembly->manifest.body_size);
    size_t note = strlen(notes[job->held->kept]);
    snprintf(job->held->reason, sizeof job->held->reason, "%.*s%s",
             (int)relpath_cut(reason, sizeof job->held->reason - 1 - note), reason, notes[job->held->kept]);
    held->changed = true;
}

/* Reads the manifest that lies with it, which must be the one that was held back. */
static enum status read_manifest(const struct held *held, const struct ledger_held *row, char **bytes, size_t *size)
{
    uint8_t hash[SHA256_SIZE];
    int fd = openat(held->intake->quarantine_fd, row->place, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return status_from_errno(errno);
    enum status status = durable_read_file(fd, "manifest.pb", LIMIT_MANIFEST_SIZE, bytes, size);
    int error = errno;
    close(fd);
    errno = error;
    if (status != STATUS_OK)
        return status;
    digest_once(*bytes, *size, hash);
    if (memcmp(hash, row->delivery.manifest_hash, SHA256_SIZE) == 0)
        return STATUS_OK;
    free(*bytes);
    return STATUS_CORRUPT;
}

enum status held_judge_again(struct held *held, const struct ledger_held *row, bool *good,
                             char reason[static HELD_REASON_SIZE])
{
    char problem[256];
    char *bytes = NULL;
    size_t size = 0;
    struct manifest_reader *reader = NULL;
    enum status status = read_manifest(held, row, &bytes, &size);
    if (status != STATUS_OK)
        return status;
    status = manifest_reader_create((const uint8_t *)bytes, size, &reader, problem);
    if (status == STATUS_OK) {
        *good = held->setup.rule == NULL ||
                !held->setup.rule(held->setup.context, row->delivery.sender_id, row->first_seen_ns, reader, reason);
        manifest_reader_destroy(reader);
    }
    free(bytes);
    return status == STATUS_INVALID ? STATUS_CORRUPT : status;
}

void held_changed(struct held *held)
{
    held->changed = true;
}

/* Out of sight by one rename, which a crash makes whole at the next start; gone is what is not there any more. */
static enum status take_away(struct held *held, const struct ledger_held *row,
                             char trash[static INTAKE_TRASH_NAME_SIZE])
{
    enum { TRIES = 1000 };
    int result = -1;
    for (unsigned i = 0; i < TRIES && result != 0; i++) {
        snprintf(trash, INTAKE_TRASH_NAME_SIZE, "trash-held-%llu", (unsigned long long)++held->trash_count);
        result = renameat2(held->intake->quarantine_fd, row->place, held->intake->staging_fd, trash, RENAME_NOREPLACE);
        if (result != 0 && errno != EEXIST)
            break;
    }
    if (result != 0)
        trash[0] = '\0';
    if (result != 0 && errno != ENOENT)
        return status_from_errno(errno);
    return durable_sync_directory(held->intake->quarantine_fd, NULL);
}

enum status held_discard(struct held *held, const struct ledger_held *row, const char *actor, const char *detail)
{
    struct ledger_key key = {.sender_id = row->delivery.sender_id};
    char trash[INTAKE_TRASH_NAME_SIZE] = "";
    struct audit_entry entry;
    memcpy(key.transfer_id, row->delivery.transfer_id, TRANSFER_ID_SIZE);
    witness_delivery(&entry, AUDIT_DISCARDED, &row->delivery);
    entry.actor = actor;
    entry.detail = detail;
    enum status status = audit_was_recorded(held->audit, AUDIT_DISCARDED, row->delivery.transfer_id)
                             ? STATUS_OK
                             : audit_record(held->audit, &entry, 1);
    if (status == STATUS_OK && row->kept != LEDGER_KEPT_NOTHING)
        status = take_away(held, row, trash);
    if (status == STATUS_OK)
        status = ledger_discarded(held->ledger, &key);
    int error = errno;
    held->changed = true;
    if (trash[0] != '\0' && durable_remove_tree(held->intake->staging_fd, trash) != STATUS_OK)
        log_warning("%s/.staging/%s can't be removed: %s; the next start tries again", held->intake->path, trash,
                    strerror(errno));
    errno = error;
    return status;
}

/* Those that end now. */
struct sweep {
    const struct held *held;
    int64_t now_ns;
    struct ledger_held *rows;
    size_t count;
};

static bool is_gone(const struct held *held, const struct ledger_held *row)
{
    struct stat stat;
    return row->kept != LEDGER_KEPT_NOTHING &&
           fstatat(held->intake->quarantine_fd, row->place, &stat, AT_SYMLINK_NOFOLLOW) != 0 && errno == ENOENT;
}

static bool is_old(const struct sweep *sweep, const struct ledger_held *row)
{
    return sweep->now_ns > row->since_ns && (uint64_t)(sweep->now_ns - row->since_ns) > sweep->held->setup.age_ns;
}

static bool collect(const struct ledger_held *row, void *context)
{
    struct sweep *sweep = context;
    if (row->state == LEDGER_HELD && (is_old(sweep, row) || is_gone(sweep->held, row)))
        sweep->rows[sweep->count++] = *row;
    return sweep->count < SWEEP_AT_ONCE;
}

static void end(struct held *held, const struct sweep *sweep, const struct ledger_held *row)
{
    bool old = is_old(sweep, row);
    if (held_discard(held, row, NULL,
                     old ? "held longer than quarantine_age" : "its directory was taken out of .quarantine") !=
        STATUS_OK) {
        log_warning("%s/.quarantine/" LOG_DELIVERED " can't be ended: %s; it is tried again", held->intake->path,
                    row->place, log_delivered(row->place), strerror(errno));
        return;
    }
    if (old)
        log_notice("%s/.quarantine/" LOG_DELIVERED " was held longer than quarantine_age and is discarded",
                   held->intake->path, row->place, log_delivered(row->place));
    else
        log_notice("%s/.quarantine/" LOG_DELIVERED " was taken away: its transfer counts as discarded",
                   held->intake->path, row->place, log_delivered(row->place));
}

static void sweep_now(struct held *held, uint64_t now_ns)
{
    struct sweep sweep = {.held = held, .now_ns = age_clock_ns(held, now_ns)};
    sweep.rows = calloc(SWEEP_AT_ONCE, sizeof *sweep.rows);
    if (sweep.rows == NULL || ledger_each_held(held->ledger, collect, &sweep) != STATUS_OK)
        sweep.count = 0;
    for (size_t i = 0; i < sweep.count; i++)
        end(held, &sweep, &sweep.rows[i]);
    held->sweep_ns = sweep.count < SWEEP_AT_ONCE ? now_ns + SWEEP_INTERVAL_NS : now_ns;
    free(sweep.rows);
}

void held_tick(struct held *held, uint64_t now_ns)
{
    if (held->facts.totals.count > 0 && now_ns >= held->sweep_ns)
        sweep_now(held, now_ns);
    if (held->changed)
        (void)look(held); /* the ledger has said what is wrong */
}

const struct held_facts *held_facts(const struct held *held)
{
    return &held->facts;
}
