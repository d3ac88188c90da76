// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/receiver_fixture.h"

#include "receiver/catalog.h"

#define SECOND UINT64_C(1000000000)

static struct signature_key *keys[2];
static struct trust *trust;
static struct catalog *catalog;
static struct unpack_source source;
static uint8_t content[9 << 20];

static struct {
    uint8_t delivered[TRANSFER_ID_SIZE];
    unsigned writes, resets, bound, complete, refused, queries;
    unsigned closed[CATALOG_ENDS];
    char reason[256];
} seen;

static enum catalog_answer on_is_delivered(void *context, uint32_t sender_id, const uint8_t *id)
{
    (void)context;
    (void)sender_id;
    seen.queries++;
    return memcmp(id, seen.delivered, TRANSFER_ID_SIZE) == 0 ? CATALOG_DELIVERED : CATALOG_UNKNOWN;
}

static void on_write(void *context, struct assembly *assembly, uint32_t index, struct assembly_artifact *artifact,
                     uint64_t offset, const uint8_t *bytes, uint32_t size)
{
    (void)context, (void)assembly, (void)index, (void)artifact, (void)offset, (void)bytes, (void)size;
    seen.writes++;
}

static void on_reset(void *context, struct assembly *assembly, uint32_t index, struct assembly_artifact *artifact)
{
    (void)context, (void)assembly, (void)index, (void)artifact;
    seen.resets++;
}

static void on_bound(void *context, struct assembly *assembly)
{
    (void)context, (void)assembly;
    seen.bound++;
}

static void on_complete(void *context, struct assembly *assembly)
{
    (void)context;
    assembly->state = ASSEMBLY_PUBLISHING;
    seen.complete++;
}

static void on_closing(void *context, struct assembly *assembly, enum catalog_end end)
{
    (void)context, (void)assembly;
    seen.closed[end]++;
}

static void on_refused(void *context, const struct assembly *assembly, const char *reason, const uint8_t *bytes,
                       size_t size)
{
    (void)context, (void)assembly, (void)bytes;
    assert_true(size > 0);
    strncpy(seen.reason, reason, sizeof seen.reason - 1);
    seen.refused++;
}

static const struct catalog_actions actions = {.is_delivered = on_is_delivered,
                                               .write = on_write,
                                               .reset = on_reset,
                                               .bound = on_bound,
                                               .complete = on_complete,
                                               .closing = on_closing,
                                               .refused = on_refused};

static int begin(void **state)
{
    (void)state;
    memset(&seen, 0, sizeof seen);
    catalog = catalog_create(trust, &actions, NULL);
    source = (struct unpack_source){
        .sender_id = signature_sender_id(signature_key_public(keys[0])), .epoch = 3, .now_ns = 100 * SECOND};
    return catalog == NULL;
}

static int end(void **state)
{
    (void)state;
    catalog_destroy(catalog);
    return 0;
}

static void send_data(const uint8_t *id, uint32_t artifact, uint64_t total, uint64_t offset, uint32_t size)
{
    struct frame_data data = {.transfer_id = id,
                              .artifact = artifact,
                              .artifact_size = total,
                              .offset = offset,
                              .bytes = content,
                              .size = size};
    catalog_data(catalog, &source, &data);
}

static void send_announce(const uint8_t *id, uint64_t total)
{
    struct message_announce announce = {.channel = "tools", .name = "x", .total_bytes = total, .artifact_count = 1};
    memcpy(announce.transfer_id, id, TRANSFER_ID_SIZE);
    catalog_announce(catalog, &source, &announce);
}

static void send_part(const uint8_t *id, const uint8_t *bytes, size_t total, size_t offset, size_t size)
{
    struct frame_manifest part = {.transfer_id = id,
                                  .total = (uint32_t)total,
                                  .offset = (uint32_t)offset,
                                  .lanes = 1,
                                  .bytes = bytes + offset,
                                  .size = (uint32_t)size};
    catalog_manifest(catalog, &source, &part);
}

static void send_manifest(const struct signature_key *key, const uint8_t *signed_for, const uint8_t *id, uint64_t size)
{
    struct fixture_file file = {.path = "x", .bytes = content, .size = size};
    size_t bytes_size;
    uint8_t *bytes = fixture_manifest(key, signed_for, 1, "x", &file, 1, &bytes_size);
    size_t half = bytes_size / 2;
    send_part(id, bytes, bytes_size, half, bytes_size - half);
    send_part(id, bytes, bytes_size, 0, half);
    free(bytes);
}

static void a_transfer_completes_in_any_order_of_frames(void **state)
{
    (void)state;
    uint8_t id[TRANSFER_ID_SIZE];
    fixture_id(1, id);
    send_manifest(keys[0], id, id, 1000);
    assert_int_equal(seen.bound, 1);
    send_data(id, 0, 1000, 500, 500);
    assert_int_equal(seen.complete, 0);
    send_announce(id, 1000);
    send_data(id, 0, 1000, 0, 600);
    assert_int_equal(seen.complete, 1);
    assert_int_equal(seen.writes, 2);
    send_data(id, 0, 1000, 0, 600);
    assert_int_equal(catalog_counters(catalog)->after_end, 1);

    fixture_id(2, id);
    send_data(id, 0, 1000, 0, 1000);
    send_manifest(keys[0], id, id, 1000);
    assert_int_equal(seen.complete, 2);

    fixture_id(3, id);
    send_announce(id, 0);
    send_manifest(keys[0], id, id, 0); /* an empty artifact has no data */
    assert_int_equal(seen.complete, 3);
}

static void delivered_transfers_are_dropped_and_asked_for_once(void **state)
{
    (void)state;
    uint8_t id[TRANSFER_ID_SIZE];
    fixture_id(1, id);
    memcpy(seen.delivered, id, sizeof id);
    for (int i = 0; i < 10; i++)
        send_data(id, 0, 10, 0, 10);
    assert_false(catalog_wants_announce(catalog, &source, id, false));
    assert_int_equal(seen.queries, 1);
    assert_int_equal(catalog_counters(catalog)->after_delivery, 11);
    assert_int_equal(catalog_count(catalog), 0);

    fixture_id(2, id);
    send_data(id, 0, 10, 0, 10);
    send_manifest(keys[0], id, id, 10);
    assert_int_equal(seen.complete, 1);
    catalog_forget(catalog, catalog_find(catalog, source.sender_id, id), true);
    send_data(id, 0, 10, 0, 10);
    assert_int_equal(catalog_count(catalog), 0);
    assert_int_equal(seen.queries, 2);
}

static void the_same_id_of_two_senders_is_two_transfers(void **state)
{
    (void)state;
    uint8_t id[TRANSFER_ID_SIZE];
    fixture_id(1, id);
    send_data(id, 0, 10, 0, 10);
    source.sender_id = signature_sender_id(signature_key_public(keys[1]));
    send_data(id, 0, 20, 0, 20);
    assert_int_equal(catalog_count(catalog), 2);
    assert_int_equal(catalog_counters(catalog)->conflicts, 0);
    send_manifest(keys[0], id, id, 20);
    assert_int_equal(seen.refused, 1); /* signed by the other one */
    send_manifest(keys[1], id, id, 20);
    assert_int_equal(seen.complete, 1);
}

static void unannounced_transfers_share_a_small_quota(void **state)
{
    (void)state;
    uint8_t id[TRANSFER_ID_SIZE] = {[15] = 0xee};
    for (unsigned i = 0; i < CATALOG_UNANNOUNCED + 50; i++) {
        memcpy(id, &i, sizeof i);
        send_data(id, 0, 10, 0, 10);
    }
    assert_int_equal(catalog_count(catalog), CATALOG_UNANNOUNCED);
    assert_int_equal(catalog_counters(catalog)->over_limit, 50);
    send_announce(id, 10); /* a signature stands above the quota */
    assert_int_equal(catalog_count(catalog), CATALOG_UNANNOUNCED + 1);
    assert_true(catalog_find(catalog, source.sender_id, id)->announced);
    source.now_ns += ROOM_IDLE_NS;
    id[8] = 1;
    send_data(id, 0, 10, 0, 10);
    assert_int_equal(seen.closed[CATALOG_EVICTED], 1);
    assert_int_equal(catalog_count(catalog), CATALOG_UNANNOUNCED + 1);
}

static void unannounced_bytes_are_bounded(void **state)
{
    (void)state;
    uint8_t id[TRANSFER_ID_SIZE];
    fixture_id(1, id);
    uint64_t total = 2 * ROOM_UNANNOUNCED_BYTES;
    for (uint64_t offset = 0; offset < total; offset += CHUNK_SIZE)
        send_data(id, 0, total, offset, CHUNK_SIZE);
    struct assembly *assembly = catalog_find(catalog, source.sender_id, id);
    assert_int_equal(assembly->held_bytes, ROOM_UNANNOUNCED_BYTES);
    send_announce(id, total);
    send_data(id, 0, total, total - CHUNK_SIZE, CHUNK_SIZE);
    assert_int_equal(assembly->held_bytes, ROOM_UNANNOUNCED_BYTES + CHUNK_SIZE);
}

static void what_does_not_fit_the_disk_is_not_admitted(void **state)
{
    (void)state;
    uint8_t first[TRANSFER_ID_SIZE];
    uint8_t second[TRANSFER_ID_SIZE];
    fixture_id(1, first);
    fixture_id(2, second);
    catalog_set_free_bytes(catalog, ROOM_RESERVE + 1000, source.now_ns);
    send_announce(first, 700);
    send_announce(second, 700);
    send_data(first, 0, 700, 0, 300);
    send_data(second, 0, 700, 0, 300);
    assert_int_equal(catalog_find(catalog, source.sender_id, first)->held_bytes, 300);
    assert_int_equal(catalog_find(catalog, source.sender_id, second)->held_bytes, 0);
    assert_int_equal(catalog_counters(catalog)->not_admitted, 1);
    assert_false(catalog_wants_announce(catalog, &source, first, false));
    assert_true(catalog_wants_announce(catalog, &source, second, false));
    catalog_set_free_bytes(catalog, ROOM_RESERVE + 1000,
                           source.now_ns); /* 400 of them are still to come for the first */
    assert_false(catalog_find(catalog, source.sender_id, second)->admitted);
    catalog_lose(catalog, catalog_find(catalog, source.sender_id, first), 0, 0, 300);
    catalog_close(catalog, catalog_find(catalog, source.sender_id, first), CATALOG_FAILED);
    catalog_set_free_bytes(catalog, ROOM_RESERVE + 1000, source.now_ns);
    send_data(second, 0, 700, 0, 300);
    assert_int_equal(catalog_find(catalog, source.sender_id, second)->held_bytes, 300);
}

static void a_transfer_that_stands_still_reserves_no_room(void **state)
{
    (void)state;
    uint8_t stuck[TRANSFER_ID_SIZE];
    uint8_t next[TRANSFER_ID_SIZE];
    fixture_id(1, stuck);
    fixture_id(2, next);
    catalog_set_free_bytes(catalog, ROOM_RESERVE + 1000, source.now_ns);
    send_announce(stuck, 900);
    send_data(stuck, 0, 900, 0, 100);
    send_announce(next, 700);
    assert_false(catalog_find(catalog, source.sender_id, next)->admitted);
    source.now_ns += CATALOG_LAPSE_NS; /* its sender was given up, or its ABORT got lost */
    catalog_set_free_bytes(catalog, ROOM_RESERVE + 900, source.now_ns);
    assert_true(catalog_find(catalog, source.sender_id, next)->admitted);
    send_data(next, 0, 700, 0, 300);
    assert_int_equal(catalog_find(catalog, source.sender_id, next)->held_bytes, 300);
    /* It may go on all the same, and then counts again. */
    send_data(stuck, 0, 900, 100, 100);
    uint8_t third[TRANSFER_ID_SIZE];
    fixture_id(3, third);
    catalog_set_free_bytes(catalog, ROOM_RESERVE + 400 + 700 + 100, source.now_ns);
    send_announce(third, 101);
    assert_false(catalog_find(catalog, source.sender_id, third)->admitted);
    catalog_set_free_bytes(catalog, ROOM_RESERVE + 400 + 700 + 101, source.now_ns);
    assert_true(catalog_find(catalog, source.sender_id, third)->admitted);
}

static void a_forged_manifest_does_not_kill_the_transfer(void **state)
{
    (void)state;
    uint8_t id[TRANSFER_ID_SIZE];
    uint8_t other[TRANSFER_ID_SIZE];
    fixture_id(1, id);
    fixture_id(2, other);
    send_announce(id, 1000);
    send_data(id, 0, 1000, 0, 1000);
    send_manifest(keys[1], id, id, 1000);
    assert_string_equal(seen.reason, "is not signed by the key of its sender");
    send_manifest(keys[0], other, id, 1000);
    assert_string_equal(seen.reason, "is the manifest of another transfer");
    send_part(id, content, 100, 0, 100);
    assert_string_equal(seen.reason, "is not a signed message");
    assert_int_equal(seen.refused, 3);
    send_manifest(keys[0], id, id, 1000);
    assert_int_equal(seen.complete, 1);
}

static void a_signed_manifest_that_breaks_the_rules_ends_the_transfer(void **state)
{
    (void)state;
    uint8_t id[TRANSFER_ID_SIZE];
    fixture_id(1, id);
    send_announce(id, 1000);
    uint8_t *bytes;
    size_t size;
    signed_encode(keys[0], (const uint8_t *)"nonsense", 8, "comment", &bytes, &size, NULL);
    send_part(id, bytes, size, 0, size);
    free(bytes);
    assert_int_equal(seen.refused, 1);
    assert_int_equal(seen.closed[CATALOG_REFUSED], 1);
    struct assembly *assembly = catalog_find(catalog, source.sender_id, id);
    assert_int_equal(assembly->state, ASSEMBLY_CLOSED);
    send_data(id, 0, 1000, 0, 10); /* ignored before and after it is forgotten */
    catalog_forget(catalog, assembly, false);
    send_data(id, 0, 1000, 0, 10);
    assert_int_equal(seen.writes, 0);
    assert_int_equal(catalog_counters(catalog)->after_end, 2);
}

static void an_unsigned_refusal_does_not_last(void **state)
{
    (void)state;
    uint8_t id[TRANSFER_ID_SIZE];
    fixture_id(1, id);
    send_data(id, 0, 1000, 0, 10);
    catalog_refuse(catalog, &source, id);
    assert_int_equal(seen.closed[CATALOG_REFUSED], 1);
    catalog_forget(catalog, catalog_find(catalog, source.sender_id, id), false);
    source.now_ns += CATALOG_REFUSAL_NS - 1;
    send_data(id, 0, 1000, 0, 1000);
    assert_null(catalog_find(catalog, source.sender_id, id));
    source.now_ns++; /* anyone may have forged it: what is sent again counts */
    send_data(id, 0, 1000, 0, 1000);
    send_manifest(keys[0], id, id, 1000);
    assert_int_equal(seen.complete, 1);
}

static void an_unsigned_refusal_takes_nothing_from_a_transfer_that_a_signature_vouches_for(void **state)
{
    (void)state;
    uint8_t id[TRANSFER_ID_SIZE];
    fixture_id(1, id);
    send_announce(id, 1000);
    send_data(id, 0, 1000, 0, 600);
    catalog_refuse(catalog, &source, id);
    assert_int_equal(seen.closed[CATALOG_REFUSED], 0);
    source.now_ns += CATALOG_REFUSAL_NS - 1;
    send_data(id, 0, 1000, 600, 400);
    send_manifest(keys[0], id, id, 1000);
    assert_int_equal(seen.complete, 0);
    assert_int_equal(catalog_counters(catalog)->after_end, 3); /* data and both parts of the manifest */
    source.now_ns++;
    send_data(id, 0, 1000, 600, 400); /* only what did not come before has to come again */
    send_manifest(keys[0], id, id, 1000);
    assert_int_equal(seen.complete, 1);
}

static void an_abort_discards_and_is_remembered(void **state)
{
    (void)state;
    struct message_abort message = {.reason = "changed"};
    fixture_id(1, message.transfer_id);
    send_announce(message.transfer_id, 1000);
    send_data(message.transfer_id, 0, 1000, 0, 10);
    catalog_abort(catalog, &source, &message);
    assert_int_equal(seen.closed[CATALOG_ABORTED], 1);
    catalog_forget(catalog, catalog_find(catalog, source.sender_id, message.transfer_id), false);
    send_data(message.transfer_id, 0, 1000, 0, 10);
    assert_int_equal(catalog_count(catalog), 0);

    fixture_id(2, message.transfer_id); /* an abort that overtakes its data */
    catalog_abort(catalog, &source, &message);
    send_data(message.transfer_id, 0, 1000, 0, 10);
    assert_int_equal(catalog_count(catalog), 0);
    assert_int_equal(seen.writes, 1);
}

static void a_full_table_gives_up_the_idlest(void **state)
{
    (void)state;
    uint8_t id[TRANSFER_ID_SIZE] = {[15] = 0xee};
    for (unsigned i = 0; i < CATALOG_OPEN; i++) {
        memcpy(id, &i, sizeof i);
        send_announce(id, 10);
    }
    source.now_ns += ROOM_IDLE_NS;
    memset(id, 0, sizeof(unsigned));
    send_data(id, 0, 10, 0, 5); /* the first one moves again */
    unsigned one_more = CATALOG_OPEN;
    memcpy(id, &one_more, sizeof one_more);
    send_announce(id, 10);
    assert_int_equal(seen.closed[CATALOG_EVICTED], 1);
    unsigned second = 1;
    memcpy(id, &second, sizeof second);
    assert_int_equal(catalog_find(catalog, source.sender_id, id)->state, ASSEMBLY_CLOSED);
    assert_int_equal(catalog_count(catalog), CATALOG_OPEN);
}

static int make_keys(void **state)
{
    (void)state;
    if (signature_init() != STATUS_OK)
        return -1;
    keys[0] = fixture_key(1);
    keys[1] = fixture_key(2);
    trust = fixture_trust((const struct signature_key *const *)keys, 2);
    return 0;
}

static int drop_keys(void **state)
{
    (void)state;
    signature_key_destroy(keys[0]);
    signature_key_destroy(keys[1]);
    trust_destroy(trust);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_transfer_completes_in_any_order_of_frames, begin, end),
        cmocka_unit_test_setup_teardown(delivered_transfers_are_dropped_and_asked_for_once, begin, end),
        cmocka_unit_test_setup_teardown(the_same_id_of_two_senders_is_two_transfers, begin, end),
        cmocka_unit_test_setup_teardown(unannounced_transfers_share_a_small_quota, begin, end),
        cmocka_unit_test_setup_teardown(unannounced_bytes_are_bounded, begin, end),
        cmocka_unit_test_setup_teardown(what_does_not_fit_the_disk_is_not_admitted, begin, end),
        cmocka_unit_test_setup_teardown(a_transfer_that_stands_still_reserves_no_room, begin, end),
        cmocka_unit_test_setup_teardown(a_forged_manifest_does_not_kill_the_transfer, begin, end),
        cmocka_unit_test_setup_teardown(a_signed_manifest_that_breaks_the_rules_ends_the_transfer, begin, end),
        cmocka_unit_test_setup_teardown(an_unsigned_refusal_does_not_last, begin, end),
        cmocka_unit_test_setup_teardown(an_unsigned_refusal_takes_nothing_from_a_transfer_that_a_signature_vouches_for,
                                        begin, end),
        cmocka_unit_test_setup_teardown(an_abort_discards_and_is_remembered, begin, end),
        cmocka_unit_test_setup_teardown(a_full_table_gives_up_the_idlest, begin, end),
    };
    return cmocka_run_group_tests(tests, make_keys, drop_keys);
}
