// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/receiver_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/durable.h"
#include "receiver/intake.h"
#include "receiver/ledger_partial.h"
#include "receiver/partial.h"
#include "receiver/verify.h"

enum { SMALL = 1000, ONE_CHUNK = 1 << 20, CHUNKS = 9 << 20, PIECE = 256 << 10 };

static char directory[64];
static struct signature_key *key;
static struct intake intake;
static struct ledger *ledger;
static struct verify *verify;
static struct verify_report report;
static struct assembly *assembly;
static struct assembly_budget budget = {.memory_limit = SIZE_MAX, .held_limit = UINT64_MAX};
static atomic_bool stop;
static uint8_t *content;
static int staged_fd;

static void no_write(void *context, struct assembly *of, uint32_t index, struct assembly_artifact *artifact,
                     uint64_t offset, const uint8_t *bytes, uint32_t size)
{
    (void)context, (void)of, (void)index, (void)artifact, (void)offset, (void)bytes, (void)size;
}

static void no_reset(void *context, struct assembly *of, uint32_t index, struct assembly_artifact *artifact)
{
    (void)context, (void)of, (void)index, (void)artifact;
}

static void write_file(const char *name, uint64_t offset, const void *bytes, size_t size)
{
    int fd = openat(staged_fd, name, O_WRONLY | O_CREAT, 0600);
    assert_int_equal(pwrite(fd, bytes, size, (off_t)offset), size);
    close(fd);
}

static void damage(const char *name, uint64_t offset)
{
    uint8_t other = (uint8_t)(content[offset] ^ 1);
    write_file(name, offset, &other, 1);
}

/* A transfer of one artifact of `size` bytes, staged as it should be and complete. */
static void stage(uint64_t size)
{
    uint8_t id[TRANSFER_ID_SIZE];
    char name[INTAKE_STAGING_NAME_SIZE];
    uint32_t sender_id = signature_sender_id(signature_key_public(key));
    const struct fixture_file file = {.path = "x", .bytes = content, .size = size};
    struct signed_message message;
    struct manifest_reader *reader;
    char reason[256];
    size_t bytes_size;
    fixture_id(1, id);
    intake_staging_name(sender_id, id, name);
    assert_int_equal(mkdirat(intake.staging_fd, name, 0700), 0);
    staged_fd = openat(intake.staging_fd, name, O_RDONLY | O_DIRECTORY);
    assembly = assembly_create(id, sender_id, &budget, 1);
    uint8_t *bytes = fixture_manifest(key, id, 1, "x", &file, 1, &bytes_size);
    assert_int_equal(signed_decode(bytes, bytes_size, LIMIT_MANIFEST_SIZE, &message), STATUS_OK);
    assert_int_equal(manifest_reader_create(message.body, message.body_size, &reader, reason), STATUS_OK);
    assert_true(assembly_bind(assembly, &message, reader, 1, no_reset, NULL));
    free(bytes);
    for (uint64_t at = 0; at < size; at += CHUNK_SIZE) {
        struct frame_data data = {.transfer_id = id,
                                  .artifact_size = size,
                                  .offset = at,
                                  .bytes = content + at,
                                  .size = (uint32_t)(size - at < CHUNK_SIZE ? size - at : CHUNK_SIZE)};
        assert_int_equal(assembly_data(assembly, &data, 1, no_write, NULL), ASSEMBLY_NEW);
    }
    assembly_artifact(assembly, 0)->placed = size <= INTAKE_SMALL;
    write_file(size <= INTAKE_SMALL ? INTAKE_SMALL_NAME : "0", 0, content, (size_t)size);
}

static void remove_staged(void)
{
    char name[INTAKE_STAGING_NAME_SIZE];
    intake_staging_name(assembly->sender_id, assembly->id, name);
    assert_int_equal(durable_remove_tree(intake.staging_fd, name), STATUS_OK);
}

static void look(void)
{
    free(report.ranges);
    verify_assembly(verify, assembly, &report);
}

static void assert_range(size_t number, uint64_t first, uint64_t end)
{
    assert_true(report.result == VERIFY_DAMAGED && number < report.count);
    assert_int_equal(report.ranges[number].index, 0);
    assert_true(report.ranges[number].first == first && report.ranges[number].end == end);
}

static void good_bytes_are_read_once(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {SMALL, ONE_CHUNK, CHUNKS};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        stage(sizes[i]);
        assert_true(verify_bytes_to_read(assembly) == sizes[i]);
        look();
        assert_true(report.result == VERIFY_GOOD && report.count == 0);
        assert_true(assembly->verified_bytes == sizes[i] && verify_bytes_to_read(assembly) == 0);
        look();
        assert_true(report.result == VERIFY_GOOD && assembly->verified_bytes == sizes[i]);
        remove_staged();
        close(staged_fd);
        assembly_destroy(assembly);
        assembly = NULL;
    }
}

static void it_goes_on_where_arrival_stopped_hashing(void **state)
{
    (void)state;
    stage(ONE_CHUNK);
    struct assembly_artifact *artifact = assembly_artifact(assembly, 0);
    artifact->digest = digest_create();
    artifact->hashed = PIECE;
    digest_update(artifact->digest, content, PIECE);
    damage("0", 5); /* in what was hashed from memory: the disk is not asked again */
    assert_true(verify_bytes_to_read(assembly) == ONE_CHUNK - PIECE);
    look();
    assert_true(report.result == VERIFY_GOOD && assembly->verified_bytes == ONE_CHUNK - PIECE);
    digest_destroy(artifact->digest);
}

static void chunks_that_differ_are_named(void **state)
{
    (void)state;
    stage(CHUNKS);
    damage("0", 0);
    damage("0", CHUNKS - 1);
    look();
    assert_int_equal(report.count, 2);
    assert_range(0, 0, CHUNK_SIZE);
    assert_range(1, 2 * (uint64_t)CHUNK_SIZE, CHUNKS);
}

static void chunks_behind_each_other_are_one_range(void **state)
{
    (void)state;
    stage(CHUNKS);
    damage("0", CHUNK_SIZE);
    int fd = openat(staged_fd, "0", O_WRONLY | O_CLOEXEC);
    assert_int_equal(ftruncate(fd, 2 * CHUNK_SIZE + 1), 0);
    close(fd);
    look();
    assert_int_equal(report.count, 1);
    assert_range(0, CHUNK_SIZE, CHUNKS);
}

static void a_small_artifact_comes_again_as_a_whole(void **state)
{
    (void)state;
    stage(SMALL);
    damage(INTAKE_SMALL_NAME, SMALL / 2);
    look();
    assert_int_equal(report.count, 1);
    assert_range(0, 0, SMALL);
}

static void what_is_not_there_is_damaged_as_a_whole(void **state)
{
    (void)state;
    stage(CHUNKS);
    assert_int_equal(unlinkat(staged_fd, "0", 0), 0);
    look();
    assert_int_equal(report.count, 1);
    assert_range(0, 0, CHUNKS);
    remove_staged();
    look();
    assert_range(0, 0, CHUNKS);
}

static void add(struct partial_list *list, enum partial_kind kind, bool hashed, uint64_t first, uint64_t end)
{
    struct partial_entry entry = {.kind = kind, .hashed = hashed, .first = first, .end = end};
    if (hashed)
        checksum128(content + first, end - first, entry.hash);
    assert_true(partial_list_add(list, &entry));
}

/* In pieces, of which the second was lost once and held again without a hash; and one of another artifact. */
static void record(const void *junk, size_t junk_size)
{
    struct ledger_partial partial = {.key = {.sender_id = assembly->sender_id}};
    struct ledger_checkpoint checkpoint = {.partial = &partial, .anew = true};
    struct partial_list list = {0};
    memcpy(partial.key.transfer_id, assembly->id, TRANSFER_ID_SIZE);
    for (uint64_t at = 0; at < ONE_CHUNK; at += PIECE)
        add(&list, PARTIAL_HELD, true, at, at + PIECE);
    add(&list, PARTIAL_LOST, false, PIECE, PIECE + 1);
    add(&list, PARTIAL_HELD, false, PIECE, PIECE + 1);
    add(&list, PARTIAL_HELD, true, ONE_CHUNK, ONE_CHUNK + 1); /* behind its end: nothing can be compared */
    list.entries[list.count - 1].hash[0] ^= 1;
    const struct partial_entry other = {.kind = PARTIAL_HELD, .hashed = true, .file = 7, .first = 0, .end = 10};
    assert_true(partial_list_add(&list, &other));
    uint8_t *entries = partial_encode(&list, &checkpoint.entries_size);
    checkpoint.entries = junk != NULL ? junk : entries;
    checkpoint.entries_size = junk != NULL ? junk_size : checkpoint.entries_size;
    assert_int_equal(ledger_partial_record(ledger, &checkpoint, 1), STATUS_OK);
    free(entries);
    partial_list_deinit(&list);
    verify_set_ledger(verify, ledger);
}

static void without_chunk_hashes_the_recorded_ones_tell(void **state)
{
    (void)state;
    stage(ONE_CHUNK);
    record(NULL, 0);
    damage("0", 0);
    damage("0", ONE_CHUNK - 1);
    look();
    assert_int_equal(report.count, 2);
    assert_range(0, 0, PIECE);
    assert_range(1, ONE_CHUNK - PIECE, ONE_CHUNK);
}

static void where_no_recorded_hash_differs_all_of_it_comes_again(void **state)
{
    (void)state;
    stage(ONE_CHUNK);
    record(NULL, 0);
    damage("0", PIECE);
    look();
    assert_int_equal(report.count, 1);
    assert_range(0, 0, ONE_CHUNK);
}

static void a_record_that_is_none_of_ours_tells_nothing(void **state)
{
    (void)state;
    stage(ONE_CHUNK);
    record("\xff junk", 6);
    damage("0", 0);
    look();
    assert_int_equal(report.count, 1);
    assert_range(0, 0, ONE_CHUNK);
}

static void a_stop_ends_it_before_the_next_piece(void **state)
{
    (void)state;
    stage(CHUNKS);
    atomic_store(&stop, true);
    look();
    assert_true(report.result == VERIFY_STOPPED && assembly->verified_bytes == 0);
    atomic_store(&stop, false);
    look();
    assert_int_equal(report.result, VERIFY_GOOD);
}

static void a_stop_ends_the_search_for_damage_too(void **state)
{
    (void)state;
    stage(CHUNKS);
    struct assembly_artifact *artifact = assembly_artifact(assembly, 0);
    artifact->hashed = CHUNKS; /* on arrival, and it came out wrong */
    damage("0", CHUNK_SIZE);
    atomic_store(&stop, true);
    look();
    assert_true(report.result == VERIFY_STOPPED && report.count == 0);
    atomic_store(&stop, false);
    look();
    assert_int_equal(report.count, 1);
    assert_range(0, CHUNK_SIZE, 2 * (uint64_t)CHUNK_SIZE);
}

static void what_cannot_be_read_is_a_failure_and_no_damage(void **state)
{
    (void)state;
    stage(ONE_CHUNK);
    assert_int_equal(unlinkat(staged_fd, "0", 0), 0);
    assert_int_equal(mkdirat(staged_fd, "0", 0700), 0);
    look();
    assert_true(report.result == VERIFY_FAILED && report.error == EISDIR && report.count == 0);
    assert_int_equal(unlinkat(staged_fd, "0", AT_REMOVEDIR), 0);
    assert_int_equal(symlinkat("/etc/passwd", staged_fd, "0"), 0);
    look();
    assert_true(report.result == VERIFY_FAILED && report.error == ELOOP);
    remove_staged();
    char name[INTAKE_STAGING_NAME_SIZE];
    intake_staging_name(assembly->sender_id, assembly->id, name);
    assert_int_equal(symlinkat("/etc", intake.staging_fd, name), 0);
    look();
    assert_true(report.result == VERIFY_FAILED && report.error == ENOTDIR);
}

static int begin(void **state)
{
    char path[128];
    (void)state;
    snprintf(directory, sizeof directory, "/tmp/diodecast-verify-XXXXXX");
    if (mkdtemp(directory) == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/in", directory);
    if (mkdir(path, 0770) != 0 || intake_open(path, &intake) != STATUS_OK ||
        ledger_open(directory, &ledger) != STATUS_OK)
        return -1;
    atomic_store(&stop, false);
    verify = verify_create(intake.staging_fd, &stop);
    report = (struct verify_report){0};
    return verify == NULL;
}

static int end(void **state)
{
    (void)state;
    free(report.ranges);
    assembly_destroy(assembly);
    assembly = NULL;
    close(staged_fd);
    verify_destroy(verify);
    ledger_close(ledger);
    intake_close(&intake);
    return durable_remove_tree(AT_FDCWD, directory) == STATUS_OK ? 0 : -1;
}

static int make_key(void **state)
{
    (void)state;
    if (signature_init() != STATUS_OK)
        return -1;
    key = fixture_key(1);
    content = malloc(CHUNKS);
    for (size_t i = 0; content != NULL && i < CHUNKS; i++)
        content[i] = (uint8_t)(i * 2654435761u >> 13);
    return content == NULL;
}

static int drop_key(void **state)
{
    (void)state;
    signature_key_destroy(key);
    free(content);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(good_bytes_are_read_once, begin, end),
        cmocka_unit_test_setup_teardown(it_goes_on_where_arrival_stopped_hashing, begin, end),
        cmocka_unit_test_setup_teardown(chunks_that_differ_are_named, begin, end),
        cmocka_unit_test_setup_teardown(chunks_behind_each_other_are_one_range, begin, end),
        cmocka_unit_test_setup_teardown(a_small_artifact_comes_again_as_a_whole, begin, end),
        cmocka_unit_test_setup_teardown(what_is_not_there_is_damaged_as_a_whole, begin, end),
        cmocka_unit_test_setup_teardown(without_chunk_hashes_the_recorded_ones_tell, begin, end),
        cmocka_unit_test_setup_teardown(where_no_recorded_hash_differs_all_of_it_comes_again, begin, end),
        cmocka_unit_test_setup_teardown(a_record_that_is_none_of_ours_tells_nothing, begin, end),
        cmocka_unit_test_setup_teardown(a_stop_ends_it_before_the_next_piece, begin, end),
        cmocka_unit_test_setup_teardown(a_stop_ends_the_search_for_damage_too, begin, end),
        cmocka_unit_test_setup_teardown(what_cannot_be_read_is_a_failure_and_no_damage, begin, end),
    };
    return cmocka_run_group_tests(tests, make_key, drop_key);
}
