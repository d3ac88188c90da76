// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/receiver_fixture.h"

#include "receiver/checkpoint.h"
#include "receiver/writer.h"

/* Posts come here, and writes are over at once. */
static struct checkpoint_job *posted;

static void take_post(struct checkpoint *checkpoint, struct checkpoint_job *job)
{
    (void)checkpoint;
    assert_null(posted);
    posted = job;
}

static void take_cut(struct writer *writer, struct assembly *assembly)
{
    (void)writer;
    (void)assembly;
}

#define checkpoint_post take_post
#define writer_cut      take_cut
#include "receiver/keeper.c"
#undef checkpoint_post
#undef writer_cut

enum { SENDER = 0x12345678 };

static const uint8_t id[TRANSFER_ID_SIZE] = {1, 2, 3};
static struct trust *trust;
static struct catalog *catalog;
static struct keeper *keeper;

static enum catalog_answer is_delivered(void *context, uint32_t sender_id, const uint8_t *transfer_id)
{
    (void)context;
    (void)sender_id;
    (void)transfer_id;
    return CATALOG_UNKNOWN;
}

static void closing(void *context, struct assembly *assembly, enum catalog_end why)
{
    (void)context;
    (void)assembly;
    (void)why;
}

static const struct catalog_actions actions = {.is_delivered = is_delivered, .closing = closing};

static int begin(void **state)
{
    (void)state;
    posted = NULL;
    struct signature_key *key = signature_init() == STATUS_OK ? fixture_key(1) : NULL;
    trust = key == NULL ? NULL : fixture_trust((const struct signature_key *const[]){key}, 1);
    signature_key_destroy(key);
    if (trust == NULL)
        return -1;
    catalog = catalog_create(trust, &actions, NULL);
    keeper = keeper_create(&(struct keeper_setup){.catalog = catalog});
    return catalog != NULL && keeper != NULL ? 0 : -1;
}

static void let_go(struct assembly *assembly, void *context)
{
    (void)context;
    keeper_let_go(keeper, assembly);
}

static int end(void **state)
{
    (void)state;
    checkpoint_job_destroy(posted);
    catalog_each(catalog, let_go, NULL);
    keeper_destroy(keeper);
    catalog_destroy(catalog);
    trust_destroy(trust);
    return 0;
}

static struct assembly *open_one(void)
{
    struct unpack_source source = {.sender_id = SENDER, .now_ns = 1};
    struct assembly *assembly = catalog_open(catalog, &source, id);
    assert_non_null(assembly);
    return assembly;
}

static void the_end_records_what_is_open(void **state)
{
    (void)state;
    open_one();
    keeper_record_all(keeper);
    assert_non_null(posted);
    assert_true(posted->first && !posted->remove);
}

/* What is not hashed in its first second is read back for the record. */
static void a_large_transfer_is_hashed_from_the_start(void **state)
{
    (void)state;
    static const uint8_t bytes[] = "bytes";
    struct assembly_artifact artifact = {.size = KEEPER_LARGE};
    for (unsigned large = 0; large < 2; large++) {
        struct assembly *assembly = open_one();
        assembly->total_bytes = KEEPER_LARGE - 1 + large;
        artifact.noted = false;
        keeper_hold(keeper, assembly, 0, &artifact, 0, bytes, sizeof bytes, assembly->opened_ns);
        keeper_record_all(keeper);
        assert_non_null(posted);
        const struct partial_list *list = &posted->list;
        assert_int_equal(list->count, 2);
        assert_int_equal(list->entries[1].kind, PARTIAL_HELD);
        assert_int_equal(list->entries[1].hashed, large == 1);
        checkpoint_job_destroy(posted);
        posted = NULL;
        keeper_let_go(keeper, assembly);
    }
}

/* It was given up so late that nobody removes its bytes any more: the next start does, unless a record holds them. */
static void the_end_forgets_the_record_of_what_was_closed(void **state)
{
    (void)state;
    struct assembly *assembly = open_one();
    keeper_adopt(keeper, assembly);
    catalog_close(catalog, assembly, CATALOG_FAILED);
    keeper_record_all(keeper);
    assert_non_null(posted);
    assert_true(posted->remove);
    assert_memory_equal(posted->partial.key.transfer_id, id, TRANSFER_ID_SIZE);
}

static void what_was_closed_and_never_recorded_needs_no_forgetting(void **state)
{
    (void)state;
    struct assembly *assembly = open_one();
    catalog_close(catalog, assembly, CATALOG_FAILED);
    keeper_record_all(keeper);
    assert_null(posted);
}

/* It is complete and was to be published when its checkpoint is back, which is after the publish stage has ended. */
static void the_end_records_what_waits_for_its_checkpoint_to_be_published(void **state)
{
    (void)state;
    struct assembly *assembly = open_one();
    keeper_record_all(keeper); /* a job is out now */
    struct checkpoint_job *out = posted;
    posted = NULL;
    assembly->state = ASSEMBLY_PUBLISHING;
    assert_false(keeper_may_publish(keeper, assembly));
    keeper_record_all(keeper);
    assert_non_null(posted);
    assert_int_equal(assembly->state, ASSEMBLY_OPEN);
    keeper_take_result(keeper, out, 2); /* publishes nothing */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_end_records_what_is_open, begin, end),
        cmocka_unit_test_setup_teardown(a_large_transfer_is_hashed_from_the_start, begin, end),
        cmocka_unit_test_setup_teardown(the_end_forgets_the_record_of_what_was_closed, begin, end),
        cmocka_unit_test_setup_teardown(the_end_records_what_waits_for_its_checkpoint_to_be_published, begin, end),
        cmocka_unit_test_setup_teardown(what_was_closed_and_never_recorded_needs_no_forgetting, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
