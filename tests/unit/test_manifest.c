// SPDX-License-Identifier: Apache-2.0
#include "proto/manifest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/diodecast.pb-c.h"

enum { FILE_KIND = MANIFEST_FILE, DIR_KIND = MANIFEST_DIRECTORY, LINK_KIND = MANIFEST_SYMLINK, ENTRIES_MAX = 6 };

/* One entry as an attacker with the signing key, or a sender with a bug, might encode it. */
struct raw_entry {
    const char *path;
    int kind;
    uint64_t size;
    const char *target;
    size_t sha256_size; /* 0 stands for the right one */
    bool executable;
};

struct raw_case {
    const char *what;
    const char *name; /* of the item; NULL stands for "tree" */
    struct raw_entry entries[ENTRIES_MAX];
    bool legal;
};

#define D(name)                        \
    {                                  \
        .path = name, .kind = DIR_KIND \
    }
#define F(name, bytes)                                 \
    {                                                  \
        .path = name, .kind = FILE_KIND, .size = bytes \
    }
#define L(name, to)                                   \
    {                                                 \
        .path = name, .kind = LINK_KIND, .target = to \
    }

static uint8_t zeros[256];

static ProtobufCBinaryData bytes_of(size_t size)
{
    return (ProtobufCBinaryData){.len = size, .data = zeros};
}

static size_t pack_statement(uint8_t *out, const char *name, const struct raw_entry *entries, size_t count)
{
    Diodecast__Statement statement = DIODECAST__STATEMENT__INIT;
    Diodecast__Entry wire[ENTRIES_MAX], *list[ENTRIES_MAX];

    statement.context = (char *)"diodecast statement 1";
    statement.channel = (char *)"default";
    statement.name = (char *)name;
    for (size_t i = 0; i < count; i++) {
        size_t due = entries[i].kind == FILE_KIND ? SHA256_SIZE : 0;
        wire[i] = (Diodecast__Entry)DIODECAST__ENTRY__INIT;
        wire[i].path = (char *)entries[i].path;
        wire[i].kind = (Diodecast__Kind)entries[i].kind;
        wire[i].size = entries[i].size;
        wire[i].executable = entries[i].executable;
        wire[i].sha256 = bytes_of(entries[i].sha256_size != 0 ? entries[i].sha256_size : due);
        wire[i].target = (char *)(entries[i].target != NULL ? entries[i].target : "");
        list[i] = &wire[i];
    }
    statement.n_entries = count;
    statement.entries = list;
    return diodecast__statement__pack(&statement, out);
}

/* A manifest that is right in all but what the caller changes. Its statement has `count` entries of these. */
static Diodecast__Manifest raw_manifest(uint8_t *statement, const char *name, const struct raw_entry *entries,
                                        size_t count)
{
    Diodecast__Manifest wire = DIODECAST__MANIFEST__INIT;

    wire.context = (char *)"diodecast manifest 1";
    wire.chain_id = bytes_of(CHAIN_ID_SIZE);
    wire.sequence = 2;
    wire.previous_hash = bytes_of(SHA256_SIZE);
    wire.transfer_id = bytes_of(TRANSFER_ID_SIZE);
    for (size_t i = 0; i < count; i++) {
        wire.total_bytes += entries[i].size;
        wire.artifact_count += entries[i].kind == FILE_KIND;
        if (entries[i].size > CHUNK_SIZE && entries[i].size < 10 * (uint64_t)CHUNK_SIZE)
            wire.chunk_hashes.len += manifest_chunk_count(entries[i].size) * CHUNK_HASH_SIZE;
    }
    wire.chunk_hashes.data = zeros;
    wire.statement.data = statement;
    wire.statement.len = pack_statement(statement, name, entries, count);
    return wire;
}

static enum status open_bytes(const uint8_t *bytes, size_t size, char reason[static 256])
{
    struct manifest_reader *reader;
    enum status status = manifest_reader_create(bytes, size, &reader, reason);

    assert_int_equal(status == STATUS_OK, reader != NULL);
    assert_int_equal(status == STATUS_OK, reason[0] == '\0');
    manifest_reader_destroy(reader);
    return status;
}

static enum status open_raw(const Diodecast__Manifest *wire)
{
    static uint8_t bytes[65536];
    char reason[256];

    assert_true(diodecast__manifest__get_packed_size(wire) <= sizeof bytes);
    return open_bytes(bytes, diodecast__manifest__pack(wire, bytes), reason);
}

#define HUGE_SIZE (LIMIT_ARTIFACT_SIZE + 1)

static const struct raw_case cases[] = {
    {"a file", "f", {F("f", 5)}, true},
    {"an empty file", "f", {F("f", 0)}, true},
    {"a file of three chunks", "f", {F("f", 2 * CHUNK_SIZE + 1)}, true},
    {"an empty directory", NULL, {D("tree")}, true},
    {"a tree", NULL, {D("tree"), D("tree/a"), F("tree/a/f", 1), F("tree/a b", 0)}, true},
    {"a symlink inside", NULL, {D("tree"), L("tree/l", "x/y")}, true},
    {"no entry", NULL, {{0}}, false},
    {"parent reference", NULL, {D("tree"), D("tree/..")}, false},
    {"parent reference in the middle", NULL, {D("tree"), F("tree/../x", 0)}, false},
    {"parent reference in front", NULL, {D("tree"), F("../tree/x", 0)}, false},
    {"absolute path", NULL, {D("tree"), F("/tree/x", 0)}, false},
    {"absolute item", NULL, {D("/tree")}, false},
    {"empty component", NULL, {D("tree"), F("tree//x", 0)}, false},
    {"empty path", NULL, {D("tree"), F("", 0)}, false},
    {"slash at the end", NULL, {D("tree"), D("tree/a/")}, false},
    {"dot component", NULL, {D("tree"), F("tree/./x", 0)}, false},
    {"control character", NULL, {D("tree"), F("tree/a\nb", 0)}, false},
    {"invalid UTF-8", NULL, {D("tree"), F("tree/\xff", 0)}, false},
    {"duplicate file", NULL, {D("tree"), F("tree/a", 0), F("tree/a", 0)}, false},
    {"duplicate directory", NULL, {D("tree"), D("tree/a"), D("tree/a")}, false},
    {"file and directory of one name", NULL, {D("tree"), F("tree/a", 0), D("tree/a")}, false},
    {"duplicate item", NULL, {D("tree"), D("tree")}, false},
    {"duplicate that hides behind a tree", NULL, {D("tree"), D("tree/a"), F("tree/a/x", 0), D("tree/a")}, false},
    {"wrong order", NULL, {D("tree"), F("tree/b", 0), F("tree/a", 0)}, false},
    {"a tree torn apart", NULL, {D("tree"), D("tree/a"), F("tree/a b", 0), F("tree/a/f", 0)}, false},
    {"missing parent", NULL, {D("tree"), F("tree/a/f", 0)}, false},
    {"missing parent beside a longer name", NULL, {D("tree"), D("tree/aa"), F("tree/aab/f", 0)}, false},
    {"missing parent two levels up", NULL, {D("tree"), D("tree/a"), F("tree/a/b/c", 0)}, false},
    {"child before parent", NULL, {D("tree"), F("tree/a/f", 0), D("tree/a")}, false},
    {"file as parent", NULL, {D("tree"), F("tree/a", 0), F("tree/a/f", 0)}, false},
    {"symlink as parent", NULL, {D("tree"), L("tree/a", "b"), F("tree/a/f", 0)}, false},
    {"item missing", NULL, {F("tree/f", 0)}, false},
    {"item of another name", NULL, {D("other")}, false},
    {"second item", NULL, {D("tree"), F("uther", 0)}, false},
    {"second item that starts with the name", NULL, {D("tree"), F("tree2", 0)}, false},
    {"something in a file item", "f", {F("f", 0), F("f/x", 0)}, false},
    {"something beside a file item", "f", {F("f", 0), F("g", 0)}, false},
    {"symlink as item", "l", {L("l", "x")}, false},
    {"symlink out of the item", NULL, {D("tree"), L("tree/l", "..")}, false},
    {"symlink out and in again", NULL, {D("tree"), L("tree/l", "../tree")}, false},
    {"symlink out by way of another", NULL, {D("tree"), D("tree/a"), L("tree/a/l", "up/..")}, false},
    {"absolute symlink", NULL, {D("tree"), L("tree/l", "/etc")}, false},
    {"symlink without target", NULL, {D("tree"), {.path = "tree/l", .kind = LINK_KIND}}, false},
    {"symlink with a size", NULL, {D("tree"), {.path = "tree/l", .kind = LINK_KIND, .size = 1, .target = "x"}}, false},
    {"symlink with a digest",
     NULL,
     {D("tree"), {.path = "tree/l", .kind = LINK_KIND, .target = "x", .sha256_size = SHA256_SIZE}},
     false},
    {"directory with a size", NULL, {{.path = "tree", .kind = DIR_KIND, .size = 1}}, false},
    {"directory with a digest", NULL, {{.path = "tree", .kind = DIR_KIND, .sha256_size = SHA256_SIZE}}, false},
    {"directory with a target", NULL, {{.path = "tree", .kind = DIR_KIND, .target = "x"}}, false},
    {"executable directory", NULL, {{.path = "tree", .kind = DIR_KIND, .executable = true}}, false},
    {"file with a target", "f", {{.path = "f", .kind = FILE_KIND, .target = "x"}}, false},
    {"file with a short digest", "f", {{.path = "f", .kind = FILE_KIND, .sha256_size = 31}}, false},
    {"file with a long digest", "f", {{.path = "f", .kind = FILE_KIND, .sha256_size = 33}}, false},
    {"no kind", "f", {{.path = "f", .kind = 0}}, false},
    {"unknown kind", "f", {{.path = "f", .kind = 4}}, false},
    {"artifact over its limit", "f", {F("f", HUGE_SIZE)}, false},
    {"artifact of 2^64 - 1 bytes", "f", {F("f", UINT64_MAX)}, false},
    {"total over its limit", NULL, {D("tree"), F("tree/a", LIMIT_ARTIFACT_SIZE), F("tree/b", 1)}, false},
    {"chunk hashes that are not there", "f", {F("f", 100 * (uint64_t)CHUNK_SIZE)}, false},
    {"name with a slash", "a/b", {F("a/b", 0)}, false},
    {"name of dots", "..", {D("..")}, false},
};

static void hostile_statements_are_refused(void **state)
{
    (void)state;
    uint8_t statement[16384];

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct raw_case *c = &cases[i];
        size_t count = 0;
        while (count < ENTRIES_MAX && c->entries[count].path != NULL)
            count++;
        Diodecast__Manifest wire = raw_manifest(statement, c->name != NULL ? c->name : "tree", c->entries, count);
        if ((open_raw(&wire) == STATUS_OK) != c->legal)
            fail_msg("%s", c->what);
    }
}

static void heads_that_disagree_with_the_entries_are_refused(void **state)
{
    (void)state;
    static const struct raw_entry entries[] = {F("f", 2 * CHUNK_SIZE)};
    uint8_t statement[1024];
    const Diodecast__Manifest good = raw_manifest(statement, "f", entries, 1);
    Diodecast__Manifest bad;
    Diodecast__Approval approval = DIODECAST__APPROVAL__INIT, *approvals[LIMIT_APPROVALS + 1];
    char user[LIMIT_USER_LENGTH + 2];

    assert_int_equal(open_raw(&good), STATUS_OK);
#define REFUSED(change)                                   \
    do {                                                  \
        bad = good;                                       \
        change;                                           \
        assert_int_equal(open_raw(&bad), STATUS_INVALID); \
    } while (0)
    REFUSED(bad.context = (char *)"diodecast manifest 2");
    REFUSED(bad.context = (char *)"diodecast statement 1");
    REFUSED(bad.context = (char *)"");
    REFUSED(bad.chain_id.len = 15);
    REFUSED(bad.chain_id.len = 0);
    REFUSED(bad.sequence = 0);
    REFUSED(bad.sequence = LIMIT_SEQUENCE + 1);
    REFUSED(bad.previous_hash.len = 33);
    REFUSED(bad.previous_hash.len = 0);
    REFUSED(bad.previous_in_channel = 2);
    REFUSED(bad.transfer_id.len = 17);
    REFUSED(bad.time_ns = -1);
    REFUSED(bad.time_ns = INT64_MIN);
    REFUSED(bad.origin_user = (char *)"a\tb");
    REFUSED(bad.origin_user = user; memset(user, 'u', sizeof user); user[LIMIT_USER_LENGTH + 1] = '\0');
    REFUSED(bad.total_bytes++);
    REFUSED(bad.total_bytes = 0);
    REFUSED(bad.artifact_count++);
    REFUSED(bad.artifact_count = 0);
    REFUSED(bad.chunk_hashes.len -= CHUNK_HASH_SIZE);
    REFUSED(bad.chunk_hashes.len += CHUNK_HASH_SIZE);
    REFUSED(bad.chunk_hashes.len -= 1);
    REFUSED(bad.statement.len = 0);
    REFUSED(bad.statement.len -= 1);
    uint8_t signature[74] = "ED";
    approval.signature = (ProtobufCBinaryData){.len = sizeof signature, .data = signature};
    for (size_t i = 0; i < LIMIT_APPROVALS + 1; i++)
        approvals[i] = &approval;
    bad = good;
    bad.approvals = approvals;
    bad.n_approvals = LIMIT_APPROVALS;
    assert_int_equal(open_raw(&bad), STATUS_OK);
    REFUSED(bad.approvals = approvals; bad.n_approvals = LIMIT_APPROVALS + 1);
    REFUSED(bad.approvals = approvals; bad.n_approvals = 1; approval.signature.len = 73);
    REFUSED(bad.approvals = approvals; bad.n_approvals = 1; approval.signature.len = 74;
            approval.trusted_comment = (char *)"unsigned");
#undef REFUSED
}

static void the_first_of_a_chain_has_no_previous_hash(void **state)
{
    (void)state;
    static const struct raw_entry entries[] = {F("f", 0)};
    uint8_t statement[1024], hash[SHA256_SIZE] = {1};
    Diodecast__Manifest wire = raw_manifest(statement, "f", entries, 1);

    wire.sequence = 1;
    assert_int_equal(open_raw(&wire), STATUS_OK);
    wire.previous_hash.data = hash;
    assert_int_equal(open_raw(&wire), STATUS_INVALID);
}

static void statements_with_bad_heads_or_labels_are_refused(void **state)
{
    (void)state;
    static const char *const tails[] = {
        "\x0a\x15"
        "diodecast statement 1", /* a second context */
        "\x1a\x01"
        "f",                  /* a second name */
        "\x12\x00",           /* a second channel */
        "\x22\x00",           /* a label without a key */
        "\x22\x03\x0a\x01\n", /* a label with a control character */
        "\x2a\x05\x0a\x03"
        "f\0x", /* an entry with a NUL in its path */
    };
    static const size_t sizes[] = {23, 3, 2, 2, 5, 7};
    static const struct raw_entry entries[] = {F("f", 0)};
    uint8_t statement[1024];

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        Diodecast__Manifest wire = raw_manifest(statement, "f", entries, 1);
        memcpy(statement + wire.statement.len, tails[i], sizes[i]);
        wire.statement.len += sizes[i];
        assert_int_equal(open_raw(&wire), STATUS_INVALID);
    }
    Diodecast__Manifest wire = raw_manifest(statement, "f", entries, 1);
    for (size_t i = 0; i <= LIMIT_LABELS; i++)
        memcpy(statement + wire.statement.len + 5 * i, "\x22\x03\x0a\x01k", 5);
    wire.statement.len += 5 * LIMIT_LABELS;
    assert_int_equal(open_raw(&wire), STATUS_OK);
    wire.statement.len += 5;
    assert_int_equal(open_raw(&wire), STATUS_INVALID);
}

static void fields_of_later_versions_are_skipped(void **state)
{
    (void)state;
    static const struct raw_entry entries[] = {F("f", 3)};
    static const uint8_t later[] = {0xf8, 0x07, 0x01, 0xfa, 0x07, 0x02, 0xff, 0xff, 0xf9, 0x07, 1, 2,
                                    3,    4,    5,    6,    7,    8,    0xfd, 0x07, 1,    2,    3, 4};
    uint8_t statement[1024], bytes[2048];
    char reason[256];

    Diodecast__Manifest wire = raw_manifest(statement, "f", entries, 1);
    memcpy(statement + wire.statement.len, later, sizeof later);
    wire.statement.len += sizeof later;
    size_t size = diodecast__manifest__pack(&wire, bytes);
    memcpy(bytes + size, later, sizeof later);
    assert_int_equal(open_bytes(bytes, size + sizeof later, reason), STATUS_OK);
}

static void sizes_beyond_the_limit_are_refused_unread(void **state)
{
    (void)state;
    char reason[256];

    assert_int_equal(open_bytes(zeros, 0, reason), STATUS_INVALID);
    assert_int_equal(open_bytes(zeros, (size_t)LIMIT_MANIFEST_SIZE + 1, reason), STATUS_INVALID);
    assert_int_equal(open_bytes(zeros, SIZE_MAX, reason), STATUS_INVALID);
}

static void no_truncation_of_a_manifest_is_accepted(void **state)
{
    (void)state;
    static const struct raw_entry entries[] = {D("tree"), F("tree/a", 2 * CHUNK_SIZE), L("tree/l", "a")};
    uint8_t statement[1024], bytes[2048];
    char reason[256];
    Diodecast__Manifest wire = raw_manifest(statement, "tree", entries, 3);
    size_t size = diodecast__manifest__pack(&wire, bytes);

    assert_int_equal(open_bytes(bytes, size, reason), STATUS_OK);
    for (size_t cut = 0; cut < size; cut++) {
        uint8_t *copy = malloc(cut > 0 ? cut : 1);
        assert_non_null(copy);
        memcpy(copy, bytes, cut);
        assert_int_equal(open_bytes(copy, cut, reason), STATUS_INVALID);
        free(copy);
    }
}

static void entries_sort_with_their_directory_directly_in_front(void **state)
{
    (void)state;
    static const char *const sorted[] = {"a", "a/b", "a/b/c", "a/b c", "a/c", "a b", "a-", "aa", "b", "\xc3\xa4"};

    for (size_t i = 0; i < sizeof sorted / sizeof *sorted; i++) {
        for (size_t j = 0; j < sizeof sorted / sizeof *sorted; j++) {
            int order = manifest_path_compare(sorted[i], sorted[j]);
            assert_true(i < j ? order < 0 : i > j ? order > 0 : order == 0);
        }
    }
}

static void chunks_are_counted_up(void **state)
{
    (void)state;
    assert_int_equal(manifest_chunk_count(0), 0);
    assert_int_equal(manifest_chunk_count(1), 1);
    assert_int_equal(manifest_chunk_count(CHUNK_SIZE), 1);
    assert_int_equal(manifest_chunk_count(CHUNK_SIZE + 1), 2);
    assert_true(manifest_chunk_count(UINT64_MAX) == UINT64_MAX / CHUNK_SIZE + 1);
}

static struct manifest_head example_head(void)
{
    struct manifest_head head = {
        .chain_id = {1},
        .sequence = LIMIT_SEQUENCE,
        .previous_hash = {2},
        .previous_in_channel = LIMIT_SEQUENCE - 1,
        .transfer_id = {3},
        .time_ns = INT64_MAX,
    };
    memset(head.origin_user, 'u', LIMIT_USER_LENGTH);
    return head;
}

static void a_written_manifest_is_read_back(void **state)
{
    (void)state;
    uint8_t hashes[5 * CHUNK_HASH_SIZE], *bytes;
    size_t size, count;
    char reason[256];
    struct manifest_reader *reader;
    struct manifest_entry entry;
    struct manifest_head head = example_head();
    struct manifest_writer *writer = manifest_writer_create("models", "größe");
    const struct manifest_entry entries[] = {
        {.path = "größe", .kind = MANIFEST_DIRECTORY, .mtime_ns = -5},
        {.path = "größe/a", .kind = MANIFEST_FILE, .size = 2 * CHUNK_SIZE, .sha256 = {1}, .executable = true},
        {.path = "größe/b", .kind = MANIFEST_SYMLINK, .target = "a", .mtime_ns = INT64_MIN},
        {.path = "größe/c", .kind = MANIFEST_FILE, .size = CHUNK_SIZE, .sha256 = {2}},
        {.path = "größe/日本", .kind = MANIFEST_FILE, .size = 2 * CHUNK_SIZE + 1, .sha256 = {3}, .mtime_ns = INT64_MAX},
    };

    for (size_t i = 0; i < sizeof hashes; i++)
        hashes[i] = (uint8_t)i;
    manifest_writer_add_label(writer, "source", "https://example.org/größe");
    for (size_t i = 0; i < 5; i++)
        manifest_writer_add(writer, &entries[i]);
    manifest_writer_add_chunk_hashes(writer, hashes, 2);
    manifest_writer_add_chunk_hashes(writer, hashes + 2 * CHUNK_HASH_SIZE, 3);
    size_t bound = manifest_writer_size(writer);
    manifest_writer_finish(writer, &head, &bytes, &size);
    manifest_writer_destroy(writer);
    assert_true(size <= bound);

    assert_int_equal(manifest_reader_create(bytes, size, &reader, reason), STATUS_OK);
    const struct manifest_head *read = manifest_reader_head(reader);
    assert_int_equal(read->sequence, LIMIT_SEQUENCE);
    assert_true(read->time_ns == INT64_MAX);
    assert_string_equal(read->origin_user, head.origin_user);
    assert_string_equal(read->channel, "models");
    assert_string_equal(read->name, "größe");
    assert_int_equal(read->artifact_count, 3);
    assert_int_equal(read->total_bytes, 5 * (uint64_t)CHUNK_SIZE + 1);
    assert_memory_equal(read->previous_hash, head.previous_hash, SHA256_SIZE);
    const uint8_t *statement = manifest_reader_statement(reader, &count);
    assert_true(statement > bytes && statement + count <= bytes + size);

    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < 5; i++) {
            assert_true(manifest_reader_next(reader, &entry));
            assert_string_equal(entry.path, entries[i].path);
            assert_int_equal(entry.kind, entries[i].kind);
            assert_true(entry.size == entries[i].size && entry.mtime_ns == entries[i].mtime_ns);
            assert_int_equal(entry.executable, entries[i].executable);
            assert_memory_equal(entry.sha256, entries[i].sha256, SHA256_SIZE);
            assert_int_equal(entry.target == NULL, entries[i].target == NULL);
            const uint8_t *chunk_hashes = manifest_reader_chunk_hashes(reader, &count);
            assert_int_equal(count, i == 1 ? 2 : i == 4 ? 3 : 0);
            if (i == 1)
                assert_memory_equal(chunk_hashes, hashes, 2 * CHUNK_HASH_SIZE);
            if (i == 4)
                assert_memory_equal(chunk_hashes, hashes + 2 * CHUNK_HASH_SIZE, 3 * CHUNK_HASH_SIZE);
        }
        assert_false(manifest_reader_next(reader, &entry));
        assert_null(manifest_reader_chunk_hashes(reader, &count));
        manifest_reader_rewind(reader);
    }
    manifest_reader_destroy(reader);
    free(bytes);
}

static void a_tree_of_fifty_thousand_files_is_read_back(void **state)
{
    (void)state;
    enum { FOLDERS = 100, FILES = 500 };
    char path[64], reason[256];
    uint8_t *bytes;
    size_t size;
    struct manifest_reader *reader;
    struct manifest_entry entry = {.path = "tree", .kind = MANIFEST_DIRECTORY};
    struct manifest_head head = example_head();
    struct manifest_writer *writer = manifest_writer_create("default", "tree");

    manifest_writer_add(writer, &entry);
    for (int i = 0; i < FOLDERS; i++) {
        snprintf(path, sizeof path, "tree/ordner-é-%03d", i);
        entry = (struct manifest_entry){.path = path, .kind = MANIFEST_DIRECTORY};
        manifest_writer_add(writer, &entry);
        for (int j = 0; j < FILES; j++) {
            snprintf(path, sizeof path, "tree/ordner-é-%03d/%03d", i, j);
            entry = (struct manifest_entry){.path = path, .kind = MANIFEST_FILE, .size = (uint64_t)j};
            manifest_writer_add(writer, &entry);
        }
    }
    manifest_writer_finish(writer, &head, &bytes, &size);
    manifest_writer_destroy(writer);

    assert_int_equal(manifest_reader_create(bytes, size, &reader, reason), STATUS_OK);
    assert_int_equal(manifest_reader_head(reader)->artifact_count, FOLDERS * FILES);
    size_t entries = 0;
    while (manifest_reader_next(reader, &entry))
        entries++;
    assert_int_equal(entries, 1 + FOLDERS + FOLDERS * FILES);
    manifest_reader_destroy(reader);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hostile_statements_are_refused),
        cmocka_unit_test(heads_that_disagree_with_the_entries_are_refused),
        cmocka_unit_test(the_first_of_a_chain_has_no_previous_hash),
        cmocka_unit_test(statements_with_bad_heads_or_labels_are_refused),
        cmocka_unit_test(fields_of_later_versions_are_skipped),
        cmocka_unit_test(sizes_beyond_the_limit_are_refused_unread),
        cmocka_unit_test(no_truncation_of_a_manifest_is_accepted),
        cmocka_unit_test(entries_sort_with_their_directory_directly_in_front),
        cmocka_unit_test(chunks_are_counted_up),
        cmocka_unit_test(a_written_manifest_is_read_back),
        cmocka_unit_test(a_tree_of_fifty_thousand_files_is_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
