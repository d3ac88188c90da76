// SPDX-License-Identifier: Apache-2.0
#include "proto/approval.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/approval_fixture.h"

static void a_bundle_comes_back_as_it_was_and_its_approvals_verify(void **state)
{
    (void)state;
    uint8_t *bytes;
    size_t size;
    char reason[256];
    struct approval_bundle bundle;
    approval_bundle_of("wheels", "item", "hello", 3, &bytes, &size);
    assert_true(approval_is_bundle(bytes, size));
    assert_int_equal(approval_decode(bytes, size, &bundle, reason), STATUS_OK);
    assert_int_equal(bundle.count, 3);
    for (size_t i = 0; i < bundle.count; i++) {
        int found = 0;
        for (uint8_t number = 1; number <= 3; number++) {
            uint8_t seed[32] = {number};
            struct signature_key *key = signature_key_from_seed(seed);
            found += signature_verify(signature_key_public(key), bundle.statement, bundle.statement_size,
                                      &bundle.approvals[i]);
            signature_key_destroy(key);
        }
        assert_int_equal(found, 1);
    }
    free(bytes);
}

static void the_order_of_signing_does_not_show(void **state)
{
    (void)state;
    uint8_t *forth, *back;
    size_t forth_size, back_size;
    struct approval_bundle bundle = {0};
    struct manifest_writer *writer = approval_statement("wheels", "item", "hello", 1000);
    approval_bundle_of("wheels", "item", "hello", 5, &forth, &forth_size);
    bundle.statement = manifest_writer_statement(writer, &bundle.statement_size);
    for (uint8_t i = 5; i >= 1; i--)
        approval_sign(&bundle, i);
    approval_encode(&bundle, &back, &back_size);
    assert_int_equal(forth_size, back_size);
    assert_memory_equal(forth, back, back_size);
    manifest_writer_destroy(writer);
    free(forth);
    free(back);
}

static void a_key_approves_once_and_sixteen_keys_are_all(void **state)
{
    (void)state;
    struct approval_bundle bundle = {0};
    struct manifest_writer *writer = approval_statement("wheels", "item", "hello", 1000);
    bundle.statement = manifest_writer_statement(writer, &bundle.statement_size);
    for (uint8_t i = 1; i <= LIMIT_APPROVALS; i++)
        approval_sign(&bundle, i);
    struct signature again = bundle.approvals[3], other = bundle.approvals[3];
    other.bytes[5] ^= 0xff;
    assert_int_equal(approval_add(&bundle, &again), APPROVAL_REPEATED);
    assert_int_equal(approval_add(&bundle, &other), APPROVAL_FULL);
    assert_int_equal(bundle.count, LIMIT_APPROVALS);
    manifest_writer_destroy(writer);
}

/* Whatever is accepted is what the encoder makes of it: no second text for one meaning. */
static void every_damage_is_refused_or_another_canonical_bundle(void **state)
{
    (void)state;
    uint8_t *bytes, *again;
    size_t size, again_size, accepted = 0;
    char reason[256];
    struct approval_bundle bundle;
    approval_bundle_of("wheels", "item", "hello", 2, &bytes, &size);
    for (size_t i = 0; i < size; i++) /* cut between two approvals it is one with fewer */
        if (approval_decode(bytes, i, &bundle, reason) == STATUS_OK)
            assert_true(bundle.count < 2);
    for (size_t i = 0; i < 8 * size; i++) {
        bytes[i / 8] ^= (uint8_t)(1u << i % 8);
        if (approval_decode(bytes, size, &bundle, reason) == STATUS_OK) {
            accepted++;
            approval_encode(&bundle, &again, &again_size);
            assert_int_equal(again_size, size);
            assert_memory_equal(again, bytes, size);
            free(again);
        } else {
            assert_true(reason[0] != '\0');
        }
        bytes[i / 8] ^= (uint8_t)(1u << i % 8);
    }
    assert_true(accepted > 0 && accepted < 8 * size); /* in signatures, digests and comments */
    free(bytes);
}

static void an_unknown_field_and_another_order_are_refused(void **state)
{
    (void)state;
    uint8_t *bytes;
    size_t size;
    char reason[256];
    struct approval_bundle bundle;
    approval_bundle_of("wheels", "item", "hello", 2, &bytes, &size);
    uint8_t *longer = calloc(1, size + 2);
    memcpy(longer, bytes, size);
    longer[size] = 15 << 3; /* field 15, a varint 0 */
    assert_int_equal(approval_decode(longer, size + 2, &bundle, reason), STATUS_INVALID);

    assert_int_equal(approval_decode(bytes, size, &bundle, reason), STATUS_OK);
    struct signature first = bundle.approvals[0];
    bundle.approvals[0] = bundle.approvals[1];
    bundle.approvals[1] = first;
    uint8_t *swapped;
    size_t swapped_size;
    approval_encode(&bundle, &swapped, &swapped_size);
    assert_int_equal(approval_decode(swapped, swapped_size, &bundle, reason), STATUS_INVALID);
    free(swapped);

    assert_int_equal(approval_decode(bytes, size, &bundle, reason), STATUS_OK);
    bundle.approvals[0].has_comment = false;
    approval_encode(&bundle, &swapped, &swapped_size);
    assert_int_equal(approval_decode(swapped, swapped_size, &bundle, reason), STATUS_INVALID);
    free(swapped);
    free(longer);
    free(bytes);
}

/* What the sender found, against what was signed for wheels/item "hello"; NULL when they agree. */
static const char *difference_to(struct manifest_writer *found)
{
    static char difference[256];
    uint8_t *bytes;
    size_t size;
    char reason[256];
    struct approval_bundle bundle;
    approval_bundle_of("wheels", "item", "hello", 2, &bytes, &size);
    assert_int_equal(approval_decode(bytes, size, &bundle, reason), STATUS_OK);
    bool taken = manifest_writer_adopt(found, &bundle, difference);
    free(bytes);
    manifest_writer_destroy(found);
    assert_true(taken == (difference[0] == '\0'));
    return taken ? NULL : difference;
}

static void what_was_signed_and_what_is_there_must_agree_but_for_times(void **state)
{
    (void)state;
    assert_null(difference_to(approval_statement("wheels", "item", "hello", 77)));
    assert_string_equal(difference_to(approval_statement("tools", "item", "hello", 1000)),
                        "it was signed for channel wheels and not tools");
    assert_string_equal(difference_to(approval_statement("wheels", "other", "hello", 1000)),
                        "item is the name that was signed");
    assert_string_equal(difference_to(approval_statement("wheels", "item", "hell", 1000)),
                        "item has another size than was signed");
    assert_string_equal(difference_to(approval_statement("wheels", "item", "jello", 1000)),
                        "item has another content than was signed");

    struct manifest_writer *writer = manifest_writer_create("wheels", "item");
    struct manifest_entry entry = {.path = "item", .kind = MANIFEST_FILE, .size = 5, .executable = true};
    digest_once("hello", 5, entry.sha256);
    manifest_writer_add(writer, &entry);
    assert_string_equal(difference_to(writer), "item is executable, which was not signed");

    writer = manifest_writer_create("wheels", "item");
    entry = (struct manifest_entry){.path = "item", .kind = MANIFEST_DIRECTORY};
    manifest_writer_add(writer, &entry);
    assert_string_equal(difference_to(writer), "item is of another kind than was signed");
}

static struct manifest_writer *tree(const char *const paths[], size_t count, const char *target)
{
    struct manifest_writer *writer = manifest_writer_create("wheels", "t");
    struct manifest_entry entry = {.path = "t", .kind = MANIFEST_DIRECTORY};
    manifest_writer_add(writer, &entry);
    for (size_t i = 0; i < count; i++) {
        entry = (struct manifest_entry){.path = paths[i], .kind = MANIFEST_SYMLINK, .target = target};
        manifest_writer_add(writer, &entry);
    }
    return writer;
}

static bool trees_agree(struct manifest_writer *says, struct manifest_writer *is, char difference[static 256])
{
    struct approval_bundle bundle = {0};
    bundle.statement = manifest_writer_statement(says, &bundle.statement_size);
    bool agree = manifest_writer_adopt(is, &bundle, difference);
    manifest_writer_destroy(says);
    manifest_writer_destroy(is);
    return agree;
}

static void trees_differ_by_what_is_missing_added_or_points_elsewhere(void **state)
{
    (void)state;
    static const char *const both[] = {"t/a", "t/b"};
    char difference[256];
    assert_true(trees_agree(tree(both, 2, "x"), tree(both, 2, "x"), difference));
    assert_false(trees_agree(tree(both, 2, "x"), tree(both, 1, "x"), difference));
    assert_string_equal(difference, "t/b was signed and is not there");
    assert_false(trees_agree(tree(both, 2, "x"), tree(both + 1, 1, "x"), difference));
    assert_string_equal(difference, "t/a was signed and is not there");
    assert_false(trees_agree(tree(both, 1, "x"), tree(both, 2, "x"), difference));
    assert_string_equal(difference, "t/b is there and was not signed");
    assert_false(trees_agree(tree(both, 2, "x"), tree(both, 2, "y"), difference));
    assert_string_equal(difference, "t/a points elsewhere than was signed");
}

static void a_manifest_carries_the_signed_bytes_and_the_approvals(void **state)
{
    (void)state;
    uint8_t *bytes, *body;
    size_t size, body_size, statement_size;
    char reason[256];
    struct approval_bundle bundle;
    struct manifest_reader *reader;
    struct signature approval;
    struct manifest_entry entry;
    const struct manifest_head head = {.sequence = 1, .time_ns = 5};
    struct manifest_writer *writer = approval_statement("wheels", "item", "hello", 77);
    approval_bundle_of("wheels", "item", "hello", 2, &bytes, &size);
    assert_int_equal(approval_decode(bytes, size, &bundle, reason), STATUS_OK);
    assert_true(manifest_writer_adopt(writer, &bundle, reason));
    manifest_writer_finish(writer, &head, &body, &body_size);
    manifest_writer_destroy(writer);

    assert_int_equal(manifest_reader_create(body, body_size, &reader, reason), STATUS_OK);
    const uint8_t *statement = manifest_reader_statement(reader, &statement_size);
    assert_int_equal(statement_size, bundle.statement_size);
    assert_memory_equal(statement, bundle.statement, statement_size);
    assert_int_equal(manifest_reader_approval_count(reader), 2);
    for (size_t i = 0; i < 2; i++) {
        assert_true(manifest_reader_approval(reader, i, &approval));
        assert_memory_equal(&approval, &bundle.approvals[i], sizeof approval);
    }
    assert_false(manifest_reader_approval(reader, 2, &approval));
    assert_true(manifest_reader_next(reader, &entry));
    assert_int_equal(entry.mtime_ns, 1000); /* the signed one */
    manifest_reader_destroy(reader);
    free(body);
    free(bytes);
}

static void labels_come_back_in_their_order(void **state)
{
    (void)state;
    char reason[256];
    size_t size;
    struct statement_reader *reader;
    struct statement_label label;
    struct manifest_writer *writer = manifest_writer_create("wheels", "d");
    struct manifest_entry entry = {.path = "d", .kind = MANIFEST_DIRECTORY};
    manifest_writer_add_label(writer, "ticket", "4711");
    manifest_writer_add_label(writer, "empty", "");
    manifest_writer_add(writer, &entry);
    const uint8_t *bytes = manifest_writer_statement(writer, &size);
    assert_int_equal(statement_reader_create(bytes, size, &reader, reason), STATUS_OK);
    assert_true(statement_reader_label(reader, 0, &label));
    assert_string_equal(label.key, "ticket");
    assert_string_equal(label.value, "4711");
    assert_true(statement_reader_label(reader, 1, &label));
    assert_string_equal(label.key, "empty");
    assert_string_equal(label.value, "");
    assert_false(statement_reader_label(reader, 2, &label));
    statement_reader_destroy(reader);
    manifest_writer_destroy(writer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bundle_comes_back_as_it_was_and_its_approvals_verify),
        cmocka_unit_test(the_order_of_signing_does_not_show),
        cmocka_unit_test(a_key_approves_once_and_sixteen_keys_are_all),
        cmocka_unit_test(every_damage_is_refused_or_another_canonical_bundle),
        cmocka_unit_test(an_unknown_field_and_another_order_are_refused),
        cmocka_unit_test(what_was_signed_and_what_is_there_must_agree_but_for_times),
        cmocka_unit_test(trees_differ_by_what_is_missing_added_or_points_elsewhere),
        cmocka_unit_test(a_manifest_carries_the_signed_bytes_and_the_approvals),
        cmocka_unit_test(labels_come_back_in_their_order),
    };
    if (signature_init() != STATUS_OK)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
