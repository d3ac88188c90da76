// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/audit_fixture.h"

#include <jansson.h>

#include "common/clock.h"

static const uint8_t chain_id[CHAIN_ID_SIZE] = {0xc0, 1, 2};
static const uint8_t transfer_id[TRANSFER_ID_SIZE] = {0x1d, 3};
static const uint8_t manifest_hash[SHA256_SIZE] = {0xab, [31] = 0xcd};
static const uint8_t prev[DIGEST_SIZE] = {0x01, [31] = 0xfe};

static char line[AUDIT_LINE_SIZE + 1];

/* Formats, and parses again; the line stays in `line`. */
static size_t pass(const struct audit_entry *entry, int64_t time_ns, struct audit_record *record)
{
    static char body[AUDIT_BODY_SIZE];
    size_t size = audit_format_body(entry, "low", time_ns, body);
    size = audit_format_line(7, body, size, prev, line);
    line[size] = '\0';
    assert_true(audit_parse(line, size, record));
    return size;
}

static void a_record_is_one_line_of_json_and_comes_back_whole(void **state)
{
    (void)state;
    static struct audit_record record;
    struct audit_entry entry = {.event = AUDIT_WRITTEN_OFF,
                                .sender_id = 0x1f2e3d4c,
                                .chain_id = chain_id,
                                .sequence = 42,
                                .last_sequence = 44,
                                .transfer_id = transfer_id,
                                .manifest_hash = manifest_hash,
                                .channel = "wheels",
                                .name = "größe \"x\"\\y",
                                .bytes = UINT64_C(1) << 43,
                                .actor = "alice",
                                .detail = "tape\nlost"};
    size_t size = pass(&entry, INT64_C(1763788325123456789), &record);
    assert_ptr_equal(memchr(line, '\n', size), line + size - 1);
    assert_int_equal(record.number, 7);
    assert_string_equal(record.time, "2025-11-22T05:12:05.123456789Z");
    assert_string_equal(record.side, "low");
    assert_int_equal(record.event, AUDIT_WRITTEN_OFF);
    assert_true(record.has_sender && record.has_chain && record.has_transfer && record.has_digest);
    assert_int_equal(record.sender_id, 0x1f2e3d4c);
    assert_memory_equal(record.chain_id, chain_id, CHAIN_ID_SIZE);
    assert_int_equal(record.sequence, 42);
    assert_int_equal(record.last_sequence, 44);
    assert_memory_equal(record.transfer_id, transfer_id, TRANSFER_ID_SIZE);
    assert_memory_equal(record.manifest_hash, manifest_hash, SHA256_SIZE);
    assert_string_equal(record.channel, "wheels");
    assert_string_equal(record.name, "größe \"x\"\\y");
    assert_true(record.bytes == UINT64_C(1) << 43);
    assert_string_equal(record.actor, "alice");
    assert_string_equal(record.detail, "tape\nlost");
    assert_memory_equal(record.prev, prev, DIGEST_SIZE);
}

static void what_an_entry_lacks_its_record_lacks(void **state)
{
    (void)state;
    static struct audit_record record;
    struct audit_entry entry = {.event = AUDIT_STOPPED, .detail = "", .name = ""};
    pass(&entry, 0, &record);
    assert_string_equal(line, "{\"v\":1,\"n\":7,\"time\":\"1970-01-01T00:00:00.000000000Z\",\"side\":\"low\","
                              "\"event\":\"stopped\",\"prev\":"
                              "\"01000000000000000000000000000000000000000000000000000000000000fe\"}\n");
}

static void any_bytes_in_a_name_leave_a_line_of_printable_utf_8(void **state)
{
    (void)state;
    static struct audit_record record;
    char name[256];
    for (unsigned i = 0; i < 255; i++)
        name[i] = (char)(i + 1);
    name[255] = '\0';
    struct audit_entry entry = {.event = AUDIT_REFUSED, .name = name};
    size_t size = pass(&entry, 1, &record);
    for (size_t i = 0; i + 1 < size; i++)
        assert_true((unsigned char)line[i] >= 0x20 && line[i] != 0x7f);
    json_t *root = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(root);
    const char *hex = json_string_value(json_object_get(root, "name_bytes"));
    assert_non_null(hex);
    assert_int_equal(strlen(hex), 2 * 255);
    assert_int_equal(strncmp(hex, "010203", 6), 0);
    json_decref(root);
}

static void the_longest_entry_fits_a_line(void **state)
{
    (void)state;
    static struct audit_record record;
    char text[2048];
    memset(text, 1, sizeof text - 1);
    text[sizeof text - 1] = '\0';
    struct audit_entry entry = {.event = AUDIT_QUARANTINED,
                                .sender_id = UINT32_MAX,
                                .chain_id = chain_id,
                                .sequence = LIMIT_SEQUENCE,
                                .last_sequence = LIMIT_SEQUENCE,
                                .transfer_id = transfer_id,
                                .manifest_hash = manifest_hash,
                                .channel = text,
                                .name = text,
                                .bytes = INT64_MAX,
                                .actor = text,
                                .detail = text};
    assert_true(pass(&entry, INT64_MAX, &record) <= AUDIT_LINE_SIZE);
    assert_int_equal(strlen(record.detail), AUDIT_DETAIL_SIZE);
    memset(text, 0xff, sizeof text - 1);
    assert_true(pass(&entry, INT64_MIN + 1000000000, &record) <= AUDIT_LINE_SIZE);
    assert_int_equal(strlen(record.name), 3 * LIMIT_COMPONENT_LENGTH);
}

static void what_is_no_record_is_refused(void **state)
{
    (void)state;
    static struct audit_record record;
    static const char *const bad[] = {
        "\n",
        "{}\n",
        "[]\n",
        "{\"v\":1}\n",
        "{\"v\":2,\"n\":1,\"time\":\"1970-01-01T00:00:00.000000000Z\",\"side\":\"low\",\"event\":\"x\",\"prev\":\"00\"}"
        "\n",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(audit_parse(bad[i], strlen(bad[i]), &record));
    struct audit_entry entry = {.event = AUDIT_STARTED, .detail = "x"};
    size_t size = pass(&entry, 5, &record);
    for (size_t i = 0; i < size; i++)
        assert_false(audit_parse(line, i, &record));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_record_is_one_line_of_json_and_comes_back_whole),
        cmocka_unit_test(what_an_entry_lacks_its_record_lacks),
        cmocka_unit_test(any_bytes_in_a_name_leave_a_line_of_printable_utf_8),
        cmocka_unit_test(the_longest_entry_fits_a_line),
        cmocka_unit_test(what_is_no_record_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
