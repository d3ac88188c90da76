// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/receiver_fixture.h"

#include "receiver/catalog.h"

#define SECOND UINT64_C(1000000000)

static struct signature_key *key;
static struct trust *trust;
static struct catalog *catalog;
static struct unpack_source source;
static uint8_t content[4096];
static enum catalog_answer answer;
static unsigned closed[CATALOG_ENDS];
static uint8_t closed_last;

static enum catalog_answer on_is_delivered(void *context, uint32_t sender_id, const uint8_t *id)
{
    (void)context, (void)sender_id, (void)id;
    return answer;
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

static void on_event(void *context, struct assembly *assembly)
{
    (void)context, (void)assembly;
}

static void on_closing(void *context, struct assembly *assembly, enum catalog_end end)
{
    uint8_t id[TRANSFER_ID_SIZE];
    (void)context;
    closed[end]++;
    for (closed_last = 1; closed_last < 100; closed_last++) {
        fixture_id(closed_last, id);
        if (memcmp(id, assembly->id, TRANSFER_ID_SIZE) == 0)
            return;
    }
}

static void on_refused(void *context, const struct assembly *assembly, const char *reason, const uint8_t *bytes,
                       size_t size)
{
    (void)context, (void)assembly, (void)reason, (void)bytes, (void)size;
}

static const struct catalog_actions actions = {.is_delivered = on_is_delivered,
                                               .write = on_write,
                                               .reset = on_reset,
                                               .bound = on_event,
                                               .complete = on_event,
                                               .closing = on_closing,
                                               .refused = on_refused};

static void announce(uint8_t number, uint64_t total)
{
    struct message_announce message = {.channel = "tools", .name = "x", .total_bytes = total, .artifact_count = 1};
    fixture_id(number, message.transfer_id);
    catalog_announce(catalog, &source, &message);
}

static void data(uint8_t number, uint64_t total, uint64_t offset, uint32_t size)
{
    uint8_t id[TRANSFER_ID_SIZE];
    fixture_id(number, id);
    struct frame_data frame = {
        .transfer_id = id, .artifact = 0, .artifact_size = total, .offset = offset, .bytes = content, .size = size};
    catalog_data(catalog, &source, &frame);
}

static struct assembly *find(uint8_t number)
{
    uint8_t id[TRANSFER_ID_SIZE];
    fixture_id(number, id);
    return catalog_find(catalog, source.sender_id, id);
}

static int begin(void **state)
{
    (void)state;
    memset(closed, 0, sizeof closed);
    answer = CATALOG_UNKNOWN;
    catalog = catalog_create(trust, &actions, NULL);
    source = (struct unpack_source){
        .sender_id = signature_sender_id(signature_key_public(key)), .epoch = 3, .now_ns = 100 * SECOND};
    return catalog == NULL;
}

static int end(void **state)
{
    (void)state;
    catalog_destroy(catalog);
    return 0;
}

static void the_staging_of_all_open_transfers_is_bounded(void **state)
{
    (void)state;
    struct room_limits limits = {.staging = 5000, .reserve = 0, .max_open = 10};
    catalog_set_limits(catalog, &limits);
    announce(1, 3000);
    announce(2, 3000);
    assert_true(find(1)->admitted);
    assert_false(find(2)->admitted);
    announce(3, 2000);
    assert_true(find(3)->admitted);
    data(4, 1000, 0, 1000); /* nobody vouches for it, but its bytes count */
    data(1, 3000, 0, 2000);
    data(1, 3000, 2000, 1000);
    data(3, 2000, 0, 1000);
    data(3, 2000, 1000, 1000);
    assert_true(find(1)->held_bytes + find(3)->held_bytes + find(4)->held_bytes <= 5000);
}

static void the_oldest_and_least_complete_makes_room(void **state)
{
    (void)state;
    struct room_limits limits = {.staging = 10000, .reserve = 0, .max_open = 10};
    catalog_set_limits(catalog, &limits);
    announce(1, 4000);
    data(1, 4000, 0, 3900); /* nearly there */
    source.now_ns += SECOND;
    announce(2, 4000);
    data(2, 4000, 0, 400);
    source.now_ns += ROOM_IDLE_NS;
    announce(3, 3000);
    assert_int_equal(closed[CATALOG_EVICTED], 1);
    assert_int_equal(closed_last, 2);
    assert_true(find(3)->admitted);
    assert_int_equal(find(1)->held_bytes, 3900);
}

static void nobody_makes_room_in_vain(void **state)
{
    (void)state;
    struct room_limits limits = {.staging = 10000, .reserve = 0, .max_open = 10};
    catalog_set_limits(catalog, &limits);
    announce(1, 4000);
    data(1, 4000, 0, 400);
    source.now_ns += ROOM_IDLE_NS;
    announce(2, 20000);
    assert_false(find(2)->admitted);
    assert_int_equal(closed[CATALOG_EVICTED], 0);
}

static void the_number_of_open_transfers_is_bounded(void **state)
{
    (void)state;
    struct room_limits limits = {.staging = UINT64_MAX, .reserve = 0, .max_open = 2};
    catalog_set_limits(catalog, &limits);
    announce(1, 100);
    announce(2, 100);
    announce(3, 100);
    assert_null(find(3));
    source.now_ns += ROOM_IDLE_NS;
    data(2, 100, 0, 10);
    announce(3, 100);
    assert_non_null(find(3));
    assert_int_equal(closed_last, 1);
}

static void the_largest_waits_when_the_disk_shrinks(void **state)
{
    (void)state;
    struct room_limits limits = {.staging = UINT64_MAX, .reserve = 1000, .max_open = 10};
    catalog_set_limits(catalog, &limits);
    catalog_set_free_bytes(catalog, 10000, source.now_ns);
    announce(1, 6000);
    announce(2, 2000);
    assert_true(find(1)->admitted && find(2)->admitted);
    catalog_set_free_bytes(catalog, 8500, source.now_ns); /* the reserve gives a little */
    assert_true(find(1)->admitted);
    catalog_set_free_bytes(catalog, 4000, source.now_ns);
    assert_false(find(1)->admitted);
    assert_true(find(2)->admitted);
    data(1, 6000, 0, 1000);
    assert_int_equal(find(1)->held_bytes, 0);
    data(2, 2000, 0, 2000);
    assert_int_equal(find(2)->held_bytes, 2000);
    announce(3, 900);
    assert_true(find(3)->admitted);
    catalog_set_free_bytes(catalog, 9000, source.now_ns);
    assert_true(find(1)->admitted);
}

static void what_is_only_announced_expires(void **state)
{
    (void)state;
    announce(1, 1000);
    announce(2, 1000);
    data(2, 1000, 0, 10);
    source.now_ns += CATALOG_EXPIRE_NS;
    catalog_set_free_bytes(catalog, UINT64_MAX, source.now_ns);
    assert_int_equal(closed[CATALOG_EXPIRED], 1);
    assert_int_equal(closed_last, 1);
    assert_int_equal(find(2)->state, ASSEMBLY_OPEN);
}

static void announces_that_go_along_take_half_of_the_places(void **state)
{
    (void)state;
    const struct room_limits limits = {.max_open = 4, .staging = UINT64_MAX};
    catalog_set_limits(catalog, &limits);
    uint8_t id[TRANSFER_ID_SIZE];
    fixture_id(3, id);
    announce(1, 10);
    assert_true(catalog_wants_announce(catalog, &source, id, true));
    announce(2, 10);
    assert_false(catalog_wants_announce(catalog, &source, id, true));
    assert_true(catalog_wants_announce(catalog, &source, id, false));
}

static void what_nobody_vouches_for_expires(void **state)
{
    (void)state;
    data(1, 1000, 0, 10);
    announce(2, 1000);
    data(2, 1000, 0, 10);
    source.now_ns += CATALOG_EXPIRE_NS - 1;
    catalog_set_free_bytes(catalog, UINT64_MAX, source.now_ns);
    assert_int_equal(closed[CATALOG_EXPIRED], 0);
    source.now_ns += 1;
    catalog_set_free_bytes(catalog, UINT64_MAX, source.now_ns);
    assert_int_equal(closed[CATALOG_EXPIRED], 1);
    assert_int_equal(closed_last, 1);
    assert_int_equal(find(2)->state, ASSEMBLY_OPEN);
}

static void an_unreadable_ledger_costs_the_frame_and_no_more(void **state)
{
    (void)state;
    answer = CATALOG_UNSURE;
    announce(1, 1000);
    data(1, 1000, 0, 10);
    assert_null(find(1));
    assert_int_equal(catalog_counters(catalog)->unsure, 2);
    answer = CATALOG_UNKNOWN;
    data(1, 1000, 0, 10);
    assert_int_equal(find(1)->held_bytes, 10);
}

static int make_key(void **state)
{
    (void)state;
    if (signature_init() != STATUS_OK)
        return -1;
    key = fixture_key(1);
    const struct signature_key *keys[] = {key};
    trust = fixture_trust(keys, 1);
    return 0;
}

static int drop_key(void **state)
{
    (void)state;
    signature_key_destroy(key);
    trust_destroy(trust);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_staging_of_all_open_transfers_is_bounded, begin, end),
        cmocka_unit_test_setup_teardown(the_oldest_and_least_complete_makes_room, begin, end),
        cmocka_unit_test_setup_teardown(nobody_makes_room_in_vain, begin, end),
        cmocka_unit_test_setup_teardown(the_number_of_open_transfers_is_bounded, begin, end),
        cmocka_unit_test_setup_teardown(the_largest_waits_when_the_disk_shrinks, begin, end),
        cmocka_unit_test_setup_teardown(what_nobody_vouches_for_expires, begin, end),
        cmocka_unit_test_setup_teardown(what_is_only_announced_expires, begin, end),
        cmocka_unit_test_setup_teardown(announces_that_go_along_take_half_of_the_places, begin, end),
        cmocka_unit_test_setup_teardown(an_unreadable_ledger_costs_the_frame_and_no_more, begin, end),
    };
    return cmocka_run_group_tests(tests, make_key, drop_key);
}
