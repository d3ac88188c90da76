// SPDX-License-Identifier: Apache-2.0
#include "sender/pipeline.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "common/digest.h"
#include "proto/manifest.h"
#include "tests/unit/sender_link.h"

/*
 * The sender's whole data plane, with a socket of the test at the other end of the link, which loses nothing: what is
 * sent for each kind of transfer, in which blocks, and what is said about it.
 */
static struct transfer *newest;

/* Hashing takes so much longer than it does, for a processor that is slower than the link: see the Makefile. */
static _Atomic uint64_t hash_delay_ns_per_kib;
void __real_digest_update(struct digest *digest, const void *bytes, size_t size); /* NOLINT: the linker's names */
void __wrap_digest_update(struct digest *digest, const void *bytes, size_t size); /* NOLINT */

void __wrap_digest_update(struct digest *digest, const void *bytes, size_t size) /* NOLINT */
{
    uint64_t delay_ns = hash_delay_ns_per_kib * size / 1024;
    struct timespec delay = {.tv_sec = (time_t)(delay_ns / CLOCK_SECOND_NS),
                             .tv_nsec = (long)(delay_ns % CLOCK_SECOND_NS)};
    if (delay_ns > 0)
        nanosleep(&delay, NULL);
    __real_digest_update(digest, bytes, size);
}

static bool is_finished(struct fixture *fixture)
{
    if (newest == NULL)
        newest = (struct transfer *)mailbox_take(fixture->finished);
    return newest != NULL;
}

static struct transfer *wait_finished(struct fixture *fixture)
{
    newest = NULL;
    assert_true(watch(fixture, is_finished, PATIENCE_NS));
    drain(fixture);
    return newest;
}

/* A transfer of an item as control makes it; `sent`: what was sent before, or NULL. */
static struct transfer *make_transfer_of(struct fixture *fixture, const char *item, enum transfer_kind kind,
                                         const struct transfer *sent)
{
    char reason[400];
    struct transfer *transfer = transfer_create();
    transfer->kind = kind;
    snprintf(transfer->channel, sizeof transfer->channel, "wheels");
    snprintf(transfer->name, sizeof transfer->name, "%s", item);
    transfer->priority = CONFIG_PRIORITY_NORMAL;
    transfer->tree = true;
    transfer->directory_fd = dup(fixture->items.fd);
    assert_int_equal(
        scan_item(fixture->items.fd, item, CONFIG_SYMLINKS_REFUSE, LIMIT_TRANSFER_SIZE, &transfer->listing, reason),
        STATUS_OK);
    transfer->total_bytes = transfer->listing->total_bytes;
    transfer->artifact_count = transfer->listing->artifact_count;
    if (sent == NULL) {
        struct ledger_transfer row = {.claimed_at_ns = ++fixture->number};
        memset(transfer->id, fixture->number, sizeof transfer->id);
        memcpy(row.id, transfer->id, sizeof row.id);
        memcpy(row.channel, transfer->channel, sizeof row.channel);
        memcpy(row.name, transfer->name, sizeof row.name);
        assert_int_equal(ledger_claim(fixture->ledger, &row, 1), STATUS_OK);
    } else {
        memcpy(transfer->id, sent->id, sizeof transfer->id);
        transfer->sequence = sent->sequence;
        memcpy(transfer->manifest_hash, sent->manifest_hash, sizeof transfer->manifest_hash);
        transfer->signed_size = sent->signed_size;
        transfer->signed_bytes = malloc(sent->signed_size);
        memcpy(transfer->signed_bytes, sent->signed_bytes, sent->signed_size);
    }
    memcpy(fixture->id, transfer->id, sizeof fixture->id);
    return transfer;
}

static struct transfer *make_transfer(struct fixture *fixture, enum transfer_kind kind, const struct transfer *sent)
{
    return make_transfer_of(fixture, "t", kind, sent);
}

static struct transfer *send_fresh(struct fixture *fixture)
{
    pipeline_submit(fixture->pipeline, make_transfer(fixture, TRANSFER_FRESH, NULL));
    struct transfer *transfer = wait_finished(fixture);
    assert_int_equal(transfer->outcome, TRANSFER_SENT);
    return transfer;
}

static int set_up(void **state)
{
    make_fixture(state);
    struct fixture *fixture = *state;
    assert_int_equal(pipeline_start(fixture->pipeline), STATUS_OK);
    fixture->fresh = send_fresh(fixture);
    assert_int_equal(fixture->seen.repeats, 0);
    assert_int_equal(fixture->seen.copies, 3);
    return 0;
}

/* Of an artifact exactly [first, end) came, and as it is on disk. */
static void assert_came(const struct fixture *fixture, unsigned artifact, size_t first, size_t end)
{
    for (size_t at = 0; at < sizes[artifact]; at++) {
        assert_int_equal(fixture->seen.known[artifact][at], at >= first && at < end);
        if (at >= first && at < end && fixture->seen.bytes[artifact][at] != content(artifact, at))
            fail_msg("byte %zu of artifact %u is another", at, artifact);
    }
}

static void assert_manifest_describes_the_item(const struct transfer *transfer)
{
    struct signed_message message;
    struct manifest_reader *reader;
    struct manifest_entry entry;
    uint8_t sha256[SHA256_SIZE];
    char reason[256];
    uint8_t *bytes = malloc(BIG);
    unsigned artifact = 0;
    assert_int_equal(signed_decode(transfer->signed_bytes, transfer->signed_size, LIMIT_MANIFEST_SIZE, &message),
                     STATUS_OK);
    assert_int_equal(manifest_reader_create(message.body, message.body_size, &reader, reason), STATUS_OK);
    while (manifest_reader_next(reader, &entry)) {
        if (entry.kind != MANIFEST_FILE)
            continue;
        for (size_t at = 0; at < sizes[artifact]; at++)
            bytes[at] = content(artifact, at);
        digest_once(bytes, sizes[artifact++], sha256);
        assert_memory_equal(sha256, entry.sha256, SHA256_SIZE);
    }
    assert_int_equal(artifact, 2);
    manifest_reader_destroy(reader);
    signed_message_deinit(&message);
    free(bytes);
}

static bool was_beat(struct fixture *fixture)
{
    return fixture->seen.beat.beat > 0;
}

static void a_replay_sends_all_again_in_blocks_of_its_own(void **state)
{
    struct fixture *fixture = *state;
    const struct transfer *fresh = fixture->fresh;
    assert_came(fixture, 0, 0, BIG);
    assert_came(fixture, 1, 0, SMALL);
    assert_manifest_describes_the_item(fresh);
    forget(fixture);
    pipeline_submit(fixture->pipeline, make_transfer(fixture, TRANSFER_REPLAY, fresh));
    struct transfer *replay = wait_finished(fixture);
    assert_int_equal(replay->outcome, TRANSFER_SENT);
    assert_came(fixture, 0, 0, BIG);
    assert_came(fixture, 1, 0, SMALL);
    assert_int_equal(fixture->seen.data, BIG + SMALL);
    assert_int_equal(fixture->seen.manifest_bytes, 3 * fresh->signed_size);
    assert_true(fixture->seen.announces >= 1);
    assert_int_equal(fixture->seen.fresh, 0);
    assert_int_equal(fixture->seen.repeat_of, fresh->sequence);
    assert_false(fixture->seen.mixed);
    assert_null(replay->sha256);
    assert_true(atomic_load(&replay->mark) > BIG / 2);
    transfer_destroy(replay);
}

static void a_replay_of_ranges_sends_these_chunks(void **state)
{
    struct fixture *fixture = *state;
    const struct transfer *fresh = fixture->fresh;
    forget(fixture);
    struct transfer *replay = make_transfer(fixture, TRANSFER_REPLAY, fresh);
    replay->ranges = calloc(2, sizeof *replay->ranges);
    replay->ranges[0] = (struct transfer_range){1, 1};
    replay->ranges[1] = (struct transfer_range){3, 3};
    replay->range_count = 2;
    replay->now = true;
    pipeline_submit(fixture->pipeline, replay);
    assert_ptr_equal(wait_finished(fixture), replay);
    assert_int_equal(replay->outcome, TRANSFER_SENT);
    assert_came(fixture, 0, CHUNK_SIZE, 2 * CHUNK_SIZE);
    assert_came(fixture, 1, 0, SMALL);
    assert_int_equal(fixture->seen.manifest_bytes, 3 * fresh->signed_size);
    transfer_destroy(replay);

    forget(fixture);
    replay = make_transfer(fixture, TRANSFER_REPLAY, fresh);
    replay->ranges = calloc(1, sizeof *replay->ranges);
    replay->ranges[0] = (struct transfer_range){3, 4};
    replay->range_count = 1;
    pipeline_submit(fixture->pipeline, replay);
    assert_ptr_equal(wait_finished(fixture), replay);
    assert_int_equal(replay->outcome, TRANSFER_REFUSED);
    assert_int_equal(fixture->seen.data + fixture->seen.manifest_bytes, 0);
    transfer_destroy(replay);
}

static void a_replay_of_the_manifest_sends_no_data(void **state)
{
    struct fixture *fixture = *state;
    const struct transfer *fresh = fixture->fresh;
    forget(fixture);
    struct transfer *replay = make_transfer(fixture, TRANSFER_REPLAY, fresh);
    replay->manifest_only = true;
    pipeline_submit(fixture->pipeline, replay);
    assert_ptr_equal(wait_finished(fixture), replay);
    assert_int_equal(replay->outcome, TRANSFER_SENT);
    assert_int_equal(fixture->seen.data, 0);
    assert_int_equal(fixture->seen.copies, 3);
    assert_false(fixture->seen.mixed);
    transfer_destroy(replay);
}

static void what_is_not_what_was_sent_is_refused(void **state)
{
    struct fixture *fixture = *state;
    const struct transfer *fresh = fixture->fresh;
    forget(fixture);

    write_at(&fixture->items, "t/big", "X", 1, CHUNK_SIZE + 77); /* same size, another content of chunk 1 */
    struct transfer *replay = make_transfer(fixture, TRANSFER_HEAL, fresh);
    pipeline_submit(fixture->pipeline, replay);
    assert_ptr_equal(wait_finished(fixture), replay);
    assert_int_equal(replay->outcome, TRANSFER_REFUSED);
    assert_non_null(strstr(replay->reason, "t/big"));
    assert_non_null(strstr(replay->reason, "chunk 1"));
    assert_came(fixture, 0, 0, CHUNK_SIZE);
    assert_int_equal(fixture->seen.manifest_bytes, 0);
    transfer_destroy(replay);

    forget(fixture);
    write_at(&fixture->items, "t/big", &(uint8_t){content(0, CHUNK_SIZE + 77)}, 1, CHUNK_SIZE + 77);
    write_at(&fixture->items, "t/small", "Y", 1, 5); /* one chunk: its SHA-256 tells */
    replay = make_transfer(fixture, TRANSFER_REPLAY, fresh);
    pipeline_submit(fixture->pipeline, replay);
    assert_ptr_equal(wait_finished(fixture), replay);
    assert_int_equal(replay->outcome, TRANSFER_REFUSED);
    assert_non_null(strstr(replay->reason, "t/small"));
    assert_came(fixture, 0, 0, BIG);
    assert_came(fixture, 1, 0, 0);
    transfer_destroy(replay);

    forget(fixture);
    scratch_write(&fixture->items, "t/added", "");
    replay = make_transfer(fixture, TRANSFER_REPLAY, fresh);
    pipeline_submit(fixture->pipeline, replay);
    assert_ptr_equal(wait_finished(fixture), replay);
    assert_int_equal(replay->outcome, TRANSFER_REFUSED);
    assert_non_null(strstr(replay->reason, "t/"));
    assert_int_equal(fixture->seen.repeats, 0);
    transfer_destroy(replay);
    assert_int_equal(unlinkat(fixture->items.fd, "t/added", 0), 0);
    write_at(&fixture->items, "t/small", &(uint8_t){content(1, 5)}, 1, 5);
}

static void replays_and_heals_do_not_change_what_is_settled(void **state)
{
    struct fixture *fixture = *state;
    const struct transfer *fresh = fixture->fresh;
    pipeline_set_healing(fixture->pipeline, &(struct message_range){1, 9}, 1);
    pipeline_submit(fixture->pipeline, make_transfer(fixture, TRANSFER_HEAL, fresh));
    forget(fixture);
    assert_true(watch(fixture, was_beat, PATIENCE_NS));
    assert_int_equal(fixture->seen.beat.settled_sequence, fresh->sequence);
    assert_int_equal(fixture->seen.beat.in_flight_count, 0);
    assert_int_equal(fixture->seen.beat.healing_count, 1);
    assert_int_equal(fixture->seen.beat.healing[0].first, 1);
    assert_int_equal(fixture->seen.beat.healing[0].last, fresh->sequence);
    pipeline_set_healing(fixture->pipeline, NULL, 0);
    assert_false(pipeline_is_idle(fixture->pipeline));
    transfer_destroy(wait_finished(fixture));
    assert_came(fixture, 1, 0, SMALL);
}

static bool has_all_data(struct fixture *fixture)
{
    return fixture->seen.data >= BIG + SMALL;
}

static void heals_keep_to_their_share_of_the_rate(void **state)
{
    struct fixture *fixture = *state;
    const struct config *config = &fixture->config;
    const uint64_t wire_bits = datagram_wire_bits(config->symbol_size, false);
    const uint64_t group_bits = config->depth * (config->source_symbols + config->repair_symbols) * wire_bits;
    const uint64_t group_bytes = (uint64_t)config->depth * config->source_symbols * config->symbol_size;
    const uint64_t share = config->rate_bits_per_s / 100 * config->idle_share;
    forget(fixture);
    uint64_t start_ns = clock_monotonic_ns();
    pipeline_submit(fixture->pipeline, make_transfer(fixture, TRANSFER_HEAL, fixture->fresh));
    assert_true(watch(fixture, has_all_data, PATIENCE_NS));
    uint64_t groups = (BIG + SMALL) / group_bytes - 1; /* the last one may begin when these are paid for */
    assert_true(clock_monotonic_ns() - start_ns >= groups * group_bits * (CLOCK_SECOND_NS / 1000) / (share / 1000));
    transfer_destroy(wait_finished(fixture));
}

static void a_fresh_transfer_stops_a_heal_which_then_goes_on(void **state)
{
    struct fixture *fixture = *state;
    const struct transfer *fresh = fixture->fresh;
    struct transfer *heal = make_transfer(fixture, TRANSFER_HEAL, fresh);
    forget(fixture);
    pipeline_submit(fixture->pipeline, heal);
    struct transfer *other = make_transfer(fixture, TRANSFER_FRESH, NULL);
    memcpy(fixture->id, heal->id, sizeof fixture->id);
    pipeline_submit(fixture->pipeline, other);
    assert_ptr_equal(wait_finished(fixture), other);
    assert_int_equal(other->outcome, TRANSFER_SENT);
    /* While the fresh data was there, the heal had at most the group that it had begun. */
    assert_ptr_equal(wait_finished(fixture), heal);
    assert_int_equal(heal->outcome, TRANSFER_SENT);
    assert_int_equal(fixture->seen.data, 2 * (BIG + SMALL));
    assert_false(fixture->seen.mixed);
    transfer_destroy(other);
    transfer_destroy(heal);
}

static void what_left_before_a_restart_is_hashed_and_not_sent(void **state)
{
    struct fixture *fixture = *state;
    const size_t mark = CHUNK_SIZE + 300001;
    struct transfer *transfer = make_transfer(fixture, TRANSFER_FRESH, NULL);
    transfer->resume_at = mark;
    forget(fixture);
    pipeline_submit(fixture->pipeline, transfer);
    assert_ptr_equal(wait_finished(fixture), transfer);
    assert_int_equal(transfer->outcome, TRANSFER_SENT);
    assert_came(fixture, 0, mark, BIG);
    assert_came(fixture, 1, 0, SMALL);
    assert_manifest_describes_the_item(transfer);
    assert_true(atomic_load(&transfer->mark) >= mark);
    assert_int_equal(atomic_load(&transfer->bytes_sent), BIG + SMALL);

    /* All of it: nothing but announce and manifest is left. */
    forget(fixture);
    struct transfer *all = make_transfer(fixture, TRANSFER_FRESH, NULL);
    all->resume_at = all->total_bytes;
    pipeline_submit(fixture->pipeline, all);
    assert_ptr_equal(wait_finished(fixture), all);
    assert_int_equal(fixture->seen.data, 0);
    assert_manifest_describes_the_item(all);
    transfer_destroy(all);
    transfer_destroy(transfer);
}

/* A new epoch, which begins with the first block number again. */
static void restart(struct fixture *fixture)
{
    pipeline_stop(fixture->pipeline);
    pipeline_destroy(fixture->pipeline);
    drain(fixture);
    for (unsigned i = 0; i < BLOCKS; i++)
        free(fixture->blocks[i].payload);
    memset(fixture->blocks, 0, sizeof fixture->blocks);
    forget(fixture);
    assert_int_equal(
        pipeline_create(&fixture->config, fixture->key, fixture->ledger, NULL, fixture->finished, &fixture->pipeline),
        STATUS_OK);
}

static void what_was_sealed_before_a_restart_goes_on_from_its_mark(void **state)
{
    struct fixture *fixture = *state;
    const size_t mark = 2 * CHUNK_SIZE + 5;
    struct transfer *fresh = send_fresh(fixture);
    restart(fixture);
    struct transfer *transfer = make_transfer(fixture, TRANSFER_FRESH, fresh);
    transfer->resume_at = mark;
    pipeline_submit(fixture->pipeline, transfer);
    assert_int_equal(pipeline_start(fixture->pipeline), STATUS_OK);
    assert_true(watch(fixture, was_beat, PATIENCE_NS));
    assert_int_equal(fixture->seen.beat.settled_sequence, fresh->sequence - 1);
    assert_ptr_equal(wait_finished(fixture), transfer);
    assert_int_equal(transfer->outcome, TRANSFER_SENT);
    assert_came(fixture, 0, mark, BIG);
    assert_came(fixture, 1, 0, SMALL);
    assert_int_equal(fixture->seen.repeats, 0);
    assert_int_equal(transfer->signed_size, fresh->signed_size);
    assert_memory_equal(transfer->signed_bytes, fresh->signed_bytes, fresh->signed_size);
    transfer_destroy(transfer);
    transfer_destroy(fresh);
}

static const struct transfer *marked;

static bool is_marked(struct fixture *fixture)
{
    (void)fixture;
    return atomic_load(&marked->mark) > BIG / 3;
}

static bool is_never(struct fixture *fixture)
{
    (void)fixture;
    return false;
}

static void the_mark_does_not_run_ahead_of_what_has_left(void **state)
{
    struct fixture *fixture = *state;
    struct transfer *transfer = make_transfer(fixture, TRANSFER_FRESH, NULL);
    marked = transfer;
    forget(fixture);
    pipeline_submit(fixture->pipeline, transfer);
    assert_true(watch(fixture, is_marked, PATIENCE_NS));
    pipeline_set_carrier(fixture->pipeline, false);
    assert_false(watch(fixture, is_never, 200 * CLOCK_MILLISECOND_NS));
    size_t mark = atomic_load(&transfer->mark), came = 0;
    while (came < BIG && fixture->seen.known[0][came] == 1)
        came++;
    assert_true(mark > BIG / 3 && mark <= came);
    /* Three groups are enough for what is under way, what is held, and the grain of the mark. */
    assert_true(came - mark <=
                4 * fixture->config.depth * fixture->config.source_symbols * fixture->config.symbol_size);
    pipeline_set_carrier(fixture->pipeline, true);
    assert_ptr_equal(wait_finished(fixture), transfer);
    assert_came(fixture, 0, 0, BIG);
    transfer_destroy(transfer);
}

/* The link takes 20 MB of payload a second, hashing 10: blocks come back before they are hashed. */
static void slow_hashing(struct fixture *fixture, uint16_t depth)
{
    fixture->config.depth = depth;
    restart(fixture);
    assert_int_equal(pipeline_start(fixture->pipeline), STATUS_OK);
    hash_delay_ns_per_kib = 100000;
}

static void what_is_sent_before_it_is_hashed_stays_as_it_is_until_then(void **state)
{
    struct fixture *fixture = *state;
    slow_hashing(fixture, 5);
    struct transfer *transfer = send_fresh(fixture);
    hash_delay_ns_per_kib = 0;
    assert_came(fixture, 0, 0, BIG);
    assert_manifest_describes_the_item(transfer);
    transfer_destroy(transfer);
}

static struct transfer *slow;

static bool is_behind(struct fixture *fixture)
{
    (void)fixture;
    return atomic_load(&slow->bytes_sent) > CHUNK_SIZE / 4;
}

static void a_replay_that_is_wanted_now_does_not_wait_for_the_end_of_slow_hashing(void **state)
{
    enum { LONG = 64 << 20 };
    struct fixture *fixture = *state;
    slow_hashing(fixture, 40);
    scratch_mkdir(&fixture->items, "u");
    write_at(&fixture->items, "u/long", "", 1, LONG - 1);
    slow = make_transfer_of(fixture, "u", TRANSFER_FRESH, NULL);
    memcpy(fixture->other, slow->id, sizeof fixture->other);
    pipeline_submit(fixture->pipeline, slow);
    assert_true(watch(fixture, is_behind, PATIENCE_NS));
    struct transfer *replay = make_transfer(fixture, TRANSFER_REPLAY, fixture->fresh);
    replay->now = true;
    pipeline_submit(fixture->pipeline, replay);
    while (atomic_load(&replay->bytes_sent) == 0)
        (void)watch(fixture, is_never, CLOCK_MILLISECOND_NS);
    assert_true(atomic_load(&slow->bytes_sent) < LONG / 2);
    hash_delay_ns_per_kib = 0;
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(wait_finished(fixture)->outcome, TRANSFER_SENT);
    transfer_destroy(slow);
    transfer_destroy(replay);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_replay_sends_all_again_in_blocks_of_its_own),
        cmocka_unit_test(a_replay_of_ranges_sends_these_chunks),
        cmocka_unit_test(a_replay_of_the_manifest_sends_no_data),
        cmocka_unit_test(what_is_not_what_was_sent_is_refused),
        cmocka_unit_test(replays_and_heals_do_not_change_what_is_settled),
        cmocka_unit_test(heals_keep_to_their_share_of_the_rate),
        cmocka_unit_test(a_fresh_transfer_stops_a_heal_which_then_goes_on),
        cmocka_unit_test(what_left_before_a_restart_is_hashed_and_not_sent),
        cmocka_unit_test(the_mark_does_not_run_ahead_of_what_has_left),
        cmocka_unit_test(what_was_sealed_before_a_restart_goes_on_from_its_mark),
        cmocka_unit_test(what_is_sent_before_it_is_hashed_stays_as_it_is_until_then),
        cmocka_unit_test(a_replay_that_is_wanted_now_does_not_wait_for_the_end_of_slow_hashing),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
