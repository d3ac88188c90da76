// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/receiver_fixture.h"

#include "receiver/bounds.h"
#include "receiver/catalog.h"

static struct signature_key *key;
static struct trust *trust;
static struct catalog *catalog;
static struct unpack_source source;
static const uint8_t content[100];
static struct {
    unsigned refused, bound, closed[CATALOG_ENDS];
    bool with_manifest;
    char reason[BOUNDS_REASON_SIZE];
} seen;

static enum catalog_answer on_is_delivered(void *context, uint32_t sender_id, const uint8_t *id)
{
    (void)context, (void)sender_id, (void)id;
    return CATALOG_UNKNOWN;
}

static void on_reset(void *context, struct assembly *assembly, uint32_t index, struct assembly_artifact *artifact)
{
    (void)context, (void)assembly, (void)index, (void)artifact;
}

static void on_bound(void *context, struct assembly *assembly)
{
    (void)context, (void)assembly;
    seen.bound++;
}

static void on_complete(void *context, struct assembly *assembly)
{
    (void)context, (void)assembly;
}

static void on_closing(void *context, struct assembly *assembly, enum catalog_end end)
{
    (void)context, (void)assembly;
    seen.closed[end]++;
}

static void on_refused(void *context, const struct assembly *assembly, const char *reason, const uint8_t *bytes,
                       size_t size)
{
    (void)context, (void)assembly;
    assert_int_equal(bytes != NULL, size > 0);
    seen.with_manifest = bytes != NULL;
    strncpy(seen.reason, reason, sizeof seen.reason - 1);
    seen.refused++;
}

static const struct catalog_actions actions = {.is_delivered = on_is_delivered,
                                               .reset = on_reset,
                                               .bound = on_bound,
                                               .complete = on_complete,
                                               .closing = on_closing,
                                               .refused = on_refused};

static int begin(void **state)
{
    (void)state;
    if (signature_init() != STATUS_OK)
        return -1;
    memset(&seen, 0, sizeof seen);
    key = fixture_key(1);
    const struct signature_key *const keys[] = {key};
    trust = fixture_trust(keys, 1);
    catalog = catalog_create(trust, &actions, NULL);
    source = (struct unpack_source){
        .sender_id = signature_sender_id(signature_key_public(key)), .epoch = 3, .now_ns = UINT64_C(100000000000)};
    return catalog == NULL;
}

static int end(void **state)
{
    (void)state;
    catalog_destroy(catalog);
    trust_destroy(trust);
    signature_key_destroy(key);
    return 0;
}

static void announce(uint8_t number, uint64_t bytes, uint32_t artifacts)
{
    struct message_announce message = {
        .channel = "tools", .name = "x", .total_bytes = bytes, .artifact_count = artifacts};
    fixture_id(number, message.transfer_id);
    catalog_announce(catalog, &source, &message);
}

static const struct fixture_file tree[] = {
    {.path = "x"},
    {.path = "x/dir"},
    {.path = "x/dir/a", .bytes = content, .size = sizeof content},
    {.path = "x/dir/b", .bytes = content, .size = sizeof content},
};

static size_t send_manifest(uint8_t number, uint64_t sequence)
{
    uint8_t id[TRANSFER_ID_SIZE];
    size_t size;
    fixture_id(number, id);
    uint8_t *bytes = fixture_manifest(key, id, sequence, "x", tree, 4, &size);
    struct frame_manifest part = {
        .transfer_id = id, .total = (uint32_t)size, .bytes = bytes, .size = (uint32_t)size, .lanes = 1};
    catalog_manifest(catalog, &source, &part);
    free(bytes);
    return size;
}

static void expect_refused(const struct bounds *bounds, const char *part)
{
    static uint8_t number = 10;
    unsigned before = seen.refused;
    catalog_set_bounds(catalog, bounds);
    number++;
    send_manifest(number, number);
    assert_int_equal(seen.refused, before + 1);
    assert_true(seen.with_manifest);
    if (strstr(seen.reason, part) == NULL)
        fail_msg("%s is not in: %s", part, seen.reason);
}

static void what_a_manifest_names_is_measured_against_each_bound(void **state)
{
    (void)state;
    struct bounds bounds = {.size = 200, .artifacts = 2, .path = 7, .depth = 3, .manifest = LIMIT_MANIFEST_SIZE};
    catalog_set_bounds(catalog, &bounds);
    (void)send_manifest(1, 5); /* all of them are just kept */
    assert_int_equal(seen.refused, 0);
    assert_int_equal(seen.bound, 1);
    expect_refused(
        &(struct bounds){.size = 199, .artifacts = 2, .path = 7, .depth = 3, .manifest = LIMIT_MANIFEST_SIZE},
        "max_size");
    expect_refused(
        &(struct bounds){.size = 200, .artifacts = 1, .path = 7, .depth = 3, .manifest = LIMIT_MANIFEST_SIZE},
        "max_artifacts");
    expect_refused(
        &(struct bounds){.size = 200, .artifacts = 2, .path = 6, .depth = 3, .manifest = LIMIT_MANIFEST_SIZE},
        "max_path");
    expect_refused(
        &(struct bounds){.size = 200, .artifacts = 2, .path = 7, .depth = 2, .manifest = LIMIT_MANIFEST_SIZE},
        "max_depth");
    assert_int_equal(seen.closed[CATALOG_REFUSED], 4);
    assert_int_equal(catalog_count(catalog), 1); /* the good one goes on */
}

static void an_announcement_beyond_a_bound_takes_no_room(void **state)
{
    (void)state;
    struct bounds bounds = bounds_none;
    bounds.size = 1000;
    catalog_set_bounds(catalog, &bounds);
    announce(1, 1000, 1);
    announce(2, 1001, 1);
    assert_int_equal(seen.refused, 1);
    assert_false(seen.with_manifest);
    assert_int_equal(catalog_count(catalog), 1);
    announce(2, 1001, 1); /* it stays refused, and is told once */
    assert_int_equal(seen.refused, 1);
    assert_int_equal(catalog_counters(catalog)->beyond_bounds, 1);
}

static void a_manifest_too_large_to_be_collected_says_nothing_against_its_transfer(void **state)
{
    (void)state;
    struct bounds bounds = bounds_none;
    bounds.manifest = 0;
    uint8_t id[TRANSFER_ID_SIZE];
    fixture_id(1, id);
    catalog_set_bounds(catalog, &bounds);
    struct frame_manifest part = {
        .transfer_id = id, .total = LIMIT_SIGNED_OVERHEAD + 1, .bytes = content, .size = sizeof content, .lanes = 1};
    catalog_manifest(catalog, &source, &part);
    assert_int_equal(seen.refused, 1);
    assert_non_null(strstr(seen.reason, "max_manifest"));
    assert_int_equal(seen.closed[CATALOG_REFUSED], 0);
    assert_int_equal(catalog_count(catalog), 1);
}

int main(void)
{
#define test(name) cmocka_unit_test_setup_teardown(name, begin, end)
    const struct CMUnitTest tests[] = {
        test(what_a_manifest_names_is_measured_against_each_bound),
        test(an_announcement_beyond_a_bound_takes_no_room),
        test(a_manifest_too_large_to_be_collected_says_nothing_against_its_transfer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
