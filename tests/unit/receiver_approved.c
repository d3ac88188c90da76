// SPDX-License-Identifier: Apache-2.0
#include "receiver/approved.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/approval_fixture.h"
#include "tests/unit/sender_scratch.h"

static int set_up(void **state)
{
    static struct scratch scratch;
    scratch_open(&scratch);
    *state = &scratch;
    return 0;
}

static int tear_down(void **state)
{
    scratch_close(*state);
    return 0;
}

/* A manifest with these approvals, in their order: as a hostile sender could make it. */
static struct manifest_reader *manifest_of(const struct approval_bundle *bundle, uint8_t **body)
{
    struct manifest_reader *reader;
    struct manifest_writer *writer = approval_statement("wheels", "item", "hello", 1000);
    const struct manifest_head head = {.sequence = 1};
    char reason[256];
    size_t size;
    if (bundle->count > 0)
        assert_true(manifest_writer_adopt(writer, bundle, reason));
    manifest_writer_finish(writer, &head, body, &size);
    manifest_writer_destroy(writer);
    assert_int_equal(manifest_reader_create(*body, size, &reader, reason), STATUS_OK);
    return reader;
}

static void a_delivery_holds_the_signed_bytes_and_a_file_for_each_key(void **state)
{
    struct scratch *scratch = *state;
    struct approval_bundle bundle = {0};
    struct signature approval;
    uint8_t *body;
    char path[APPROVED_PATH_SIZE], *text;
    size_t size, paths = 0;
    struct manifest_writer *writer = approval_statement("wheels", "item", "hello", 1000);
    bundle.statement = manifest_writer_statement(writer, &bundle.statement_size);
    approval_sign(&bundle, 1);
    approval_sign(&bundle, 2);
    bundle.approvals[2] = bundle.approvals[0]; /* one key twice */
    bundle.approvals[3] = bundle.approvals[1]; /* and one without a comment */
    bundle.approvals[3].bytes[3] ^= 1;
    bundle.approvals[3].has_comment = false;
    bundle.count = 4;
    struct manifest_reader *reader = manifest_of(&bundle, &body);
    assert_int_equal(approved_count(reader), 2);
    assert_int_equal(approved_write(scratch->fd, reader), STATUS_OK);

    assert_int_equal(durable_read_file(scratch->fd, "statement.pb", 10000, &text, &size), STATUS_OK);
    assert_int_equal(size, bundle.statement_size);
    assert_memory_equal(text, bundle.statement, size);
    free(text);
    for (; approved_path(reader, paths, path); paths++) {
        assert_true(scratch_exists(scratch, path));
        if (paths < 2)
            continue;
        assert_int_equal(durable_read_file(scratch->fd, path, 10000, &text, &size), STATUS_OK);
        assert_int_equal(signature_from_file_text(text, size, &approval), STATUS_OK);
        assert_memory_equal(&approval, &bundle.approvals[paths - 2], sizeof approval);
        free(text);
    }
    assert_int_equal(paths, 4);
    manifest_reader_destroy(reader);
    manifest_writer_destroy(writer);
    free(body);
}

static void without_approvals_nothing_is_written(void **state)
{
    struct scratch *scratch = *state;
    struct approval_bundle bundle = {0};
    uint8_t *body;
    char path[APPROVED_PATH_SIZE];
    struct manifest_reader *reader = manifest_of(&bundle, &body);
    assert_int_equal(approved_write(scratch->fd, reader), STATUS_OK);
    assert_false(approved_path(reader, 0, path));
    assert_int_equal(approved_count(reader), 0);
    assert_false(scratch_exists(scratch, "statement.pb"));
    assert_false(scratch_exists(scratch, "approvals"));
    manifest_reader_destroy(reader);
    free(body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_delivery_holds_the_signed_bytes_and_a_file_for_each_key, set_up, tear_down),
        cmocka_unit_test_setup_teardown(without_approvals_nothing_is_written, set_up, tear_down),
    };
    if (signature_init() != STATUS_OK)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
