// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/receiver_fixture.h"

#include "receiver/catalog.h"

#define SECOND UINT64_C(1000000000)

enum { CHAIN = 0xc1, SIZE = 1000 };

static struct signature_key *keys[2];
static struct trust *trust;
static struct catalog *catalog;
static struct knowledge *knowledge;
static struct renumber *renumber;
static struct unpack_source source;
static uint8_t content[SIZE], chain_id[CHAIN_ID_SIZE];
static uint8_t transfer[TRANSFER_ID_SIZE];

static struct {
    bool delivered;
    unsigned bound, complete, had;
    uint64_t had_sequence;
    struct assembly *assembly;
} seen;

static enum catalog_answer on_is_delivered(void *context, uint32_t sender_id, const uint8_t *id)
{
    (void)context, (void)sender_id, (void)id;
    return seen.delivered ? CATALOG_DELIVERED : CATALOG_UNKNOWN;
}

static void on_write(void *context, struct assembly *assembly, uint32_t index, struct assembly_artifact *artifact,
                     uint64_t offset, const uint8_t *bytes, uint32_t size)
{
    (void)context, (void)assembly, (void)index, (void)artifact, (void)offset, (void)bytes, (void)size;
}

static void on_reset(void *context, struct assembly *assembly, uint32_t index, struct assembly_artifact *artifact)
{
    (void)context, (void)assembly, (void)index, (void)artifact;
}

static void on_bound(void *context, struct assembly *assembly)
{
    (void)context;
    seen.bound++;
    seen.assembly = assembly;
    assert_true(knowledge_add(knowledge, assembly->sender_id, assembly->chain_id, assembly->sequence, false));
}

static void on_complete(void *context, struct assembly *assembly)
{
    (void)context;
    assembly->state = ASSEMBLY_PUBLISHING;
    seen.complete++;
}

static const struct catalog_actions actions = {
    .is_delivered = on_is_delivered, .write = on_write, .reset = on_reset, .bound = on_bound, .complete = on_complete};

static void on_had(void *context, uint32_t sender_id, const struct opening *opening)
{
    const struct manifest_head *head = manifest_reader_head(opening->reader);
    (void)context;
    seen.had++;
    seen.had_sequence = head->sequence;
    assert_true(knowledge_add(knowledge, sender_id, head->chain_id, head->sequence, true));
}

static int begin(void **state)
{
    (void)state;
    memset(&seen, 0, sizeof seen);
    memset(chain_id, CHAIN, sizeof chain_id);
    fixture_id(1, transfer);
    catalog = catalog_create(trust, &actions, NULL);
    knowledge = knowledge_create();
    renumber = renumber_create(trust, catalog_checks(catalog), knowledge, on_had, NULL);
    catalog_set_renumber(catalog, renumber);
    source = (struct unpack_source){
        .sender_id = signature_sender_id(signature_key_public(keys[0])), .epoch = 3, .now_ns = 100 * SECOND};
    return 0;
}

static int end(void **state)
{
    (void)state;
    catalog_destroy(catalog);
    renumber_destroy(renumber);
    knowledge_destroy(knowledge);
    return 0;
}

static void beat(uint64_t epoch, uint64_t newest, uint64_t settled)
{
    struct message_heartbeat heartbeat = {
        .sender_id = source.sender_id, .epoch = epoch, .newest_sequence = newest, .settled_sequence = settled};
    memcpy(heartbeat.chain_id, chain_id, CHAIN_ID_SIZE);
    assert_true(knowledge_heartbeat(knowledge, &heartbeat, source.now_ns));
}

/* The manifest of `transfer` under this number, in parts of `part_size` bytes. */
static void send_manifest(const struct signature_key *key, uint64_t sequence, size_t part_size)
{
    struct fixture_file file = {.path = "x", .bytes = content, .size = SIZE};
    size_t size;
    uint8_t *bytes = fixture_manifest(key, transfer, sequence, "x", &file, 1, &size);
    for (size_t at = 0; at < size; at += part_size) {
        struct frame_manifest part = {.transfer_id = transfer,
                                      .total = (uint32_t)size,
                                      .offset = (uint32_t)at,
                                      .lanes = 1,
                                      .bytes = bytes + at,
                                      .size = (uint32_t)(size - at < part_size ? size - at : part_size)};
        catalog_manifest(catalog, &source, &part);
    }
    free(bytes);
}

static void send_data(uint64_t offset, uint32_t size)
{
    struct frame_data data = {
        .transfer_id = transfer, .artifact_size = SIZE, .offset = offset, .bytes = content, .size = size};
    struct message_announce announce = {.channel = "tools", .name = "x", .total_bytes = SIZE, .artifact_count = 1};
    memcpy(announce.transfer_id, transfer, TRANSFER_ID_SIZE);
    catalog_announce(catalog, &source, &announce);
    catalog_data(catalog, &source, &data);
}

static void count(const struct knowledge_chain *chain, uint64_t first, uint64_t last, void *context)
{
    uint64_t *total = context;
    (void)chain;
    *total += last - first + 1;
}

static uint64_t never_seen(void)
{
    uint64_t total = 0;
    knowledge_each_never_seen(knowledge, source.sender_id, source.now_ns + 10 * SECOND, count, &total);
    return total;
}

static void the_number_that_a_delivered_transfer_gets_after_a_rollback_is_not_missing(void **state)
{
    (void)state;
    beat(1, 5, 5);
    send_data(0, SIZE);
    send_manifest(keys[0], 10, SIZE);
    assert_int_equal(seen.complete, 1);
    seen.delivered = true;
    assert_true(knowledge_add(knowledge, source.sender_id, chain_id, 10, true));
    catalog_forget(catalog, seen.assembly, true);
    beat(1, 10, 10);
    beat(2, 5, 5);                    /* its state is an older one */
    send_manifest(keys[0], 10, SIZE); /* a late copy: nobody has given that number anew */
    beat(2, 6, 6);
    assert_int_equal(never_seen(), 1);
    assert_int_equal(seen.had, 0);
    send_manifest(keys[0], 6, SIZE);
    assert_int_equal(seen.had, 1);
    assert_int_equal(seen.had_sequence, 6);
    assert_int_equal(never_seen(), 0);
    send_manifest(keys[0], 6, SIZE);
    assert_int_equal(seen.had, 1);
}

static void a_manifest_in_parts_and_in_any_order_tells_it_too(void **state)
{
    (void)state;
    seen.delivered = true;
    beat(1, 5, 5);
    beat(1, 7, 7);
    source.now_ns += 2 * SECOND;
    beat(1, 7, 7); /* for longer than the grace: two numbers are missing */
    assert_int_equal(never_seen(), 2);
    send_manifest(keys[0], 7, 50);
    assert_int_equal(seen.had_sequence, 7);
    assert_int_equal(never_seen(), 1);
}

static void without_a_doubt_and_from_others_it_is_not_even_read(void **state)
{
    (void)state;
    seen.delivered = true;
    beat(1, 5, 5);
    send_manifest(keys[0], 6, SIZE);
    assert_int_equal(seen.had, 0);
    beat(1, 7, 7);
    source.now_ns += 2 * SECOND;
    beat(1, 7, 7);
    send_manifest(keys[1], 6, SIZE);
    assert_int_equal(seen.had, 0);
    memset(chain_id, 0xc2,
           sizeof chain_id); /* a new chain, in which nothing is missing; manifests are of the old one */
    beat(2, 1, 1);
    beat(2, 2, 2);
    source.now_ns += 2 * SECOND;
    beat(2, 2, 2);
    assert_true(knowledge_doubts(knowledge, source.sender_id));
    send_manifest(keys[0], 6, SIZE);
    assert_int_equal(seen.had, 0);
}

static void an_open_transfer_takes_its_new_number_and_keeps_its_bytes(void **state)
{
    (void)state;
    beat(1, 5, 5);
    send_data(0, SIZE / 2);
    send_manifest(keys[0], 10, SIZE);
    beat(1, 10, 9);
    assert_int_equal(seen.bound, 1);
    send_manifest(keys[0], 6, SIZE); /* no reason to believe it yet */
    assert_int_equal(seen.assembly->sequence, 10);
    beat(2, 6, 5);
    send_manifest(keys[0], 6, 100);
    assert_int_equal(seen.bound, 2);
    assert_int_equal(seen.assembly->sequence, 6);
    assert_int_equal(seen.assembly->held_bytes, SIZE / 2);
    assert_int_equal(never_seen(), 0);
    send_manifest(keys[0], 10, SIZE); /* a late copy of the old one */
    assert_int_equal(seen.assembly->sequence, 6);
    send_data(SIZE / 2, SIZE / 2);
    assert_int_equal(seen.complete, 1);
}

static void copies_under_way_displace_each_other_within_the_bound(void **state)
{
    (void)state;
    struct frame_manifest part = {
        .transfer_id = transfer, .total = LIMIT_MANIFEST_SIZE, .lanes = 1, .bytes = content, .size = sizeof content};
    seen.delivered = true;
    beat(1, 5, 5);
    beat(1, 7, 7);
    source.now_ns += 2 * SECOND;
    beat(1, 7, 7);
    for (uint8_t i = 0; i < 3 * RENUMBER_SLOTS; i++) {
        fixture_id((uint8_t)(10 + i), transfer);
        part.total = i % 2 == 0 ? LIMIT_MANIFEST_SIZE : 10 * SIZE;
        catalog_manifest(catalog, &source, &part);
    }
    fixture_id(1, transfer);
    send_manifest(keys[0], 7, 50);
    assert_int_equal(seen.had_sequence, 7);
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

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_number_that_a_delivered_transfer_gets_after_a_rollback_is_not_missing),
        TEST(a_manifest_in_parts_and_in_any_order_tells_it_too),
        TEST(without_a_doubt_and_from_others_it_is_not_even_read),
        TEST(an_open_transfer_takes_its_new_number_and_keeps_its_bytes),
        TEST(copies_under_way_displace_each_other_within_the_bound),
    };
    return cmocka_run_group_tests(tests, make_keys, drop_keys);
}
