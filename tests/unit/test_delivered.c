// SPDX-License-Identifier: Apache-2.0
/* The tools are one program without an archive: what is under test is compiled in. */
#include "tools/beneath.c"
#include "tools/delivered.c"
#include "tools/terminal.c"

#include <setjmp.h>

#include <cmocka.h>

#include "common/durable.h"

/* A delivered transfer in a new directory, which is the working directory. */
struct fixture {
    char directory[32];
    uint8_t *manifest;
    struct manifest_reader *reader;
};

static void write_text(const char *path, const char *text, mode_t mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

static void add(struct manifest_writer *writer, const char *path, enum manifest_kind kind, const char *content,
                bool executable, const char *target)
{
    struct manifest_entry entry = {.path = path, .kind = kind, .executable = executable, .target = target};
    if (content != NULL) {
        entry.size = strlen(content);
        digest_once(content, strlen(content), entry.sha256);
    }
    manifest_writer_add(writer, &entry);
}

static void add_sum(FILE *sums, const char *line_start, const char *path, const char *content)
{
    uint8_t digest[DIGEST_SIZE];
    char text[DIGEST_TEXT_SIZE];
    digest_once(content, strlen(content), digest);
    digest_text(digest, text);
    fprintf(sums, "%s%s  %s\n", line_start, text, path);
}

static void make_manifest(struct fixture *fixture)
{
    struct manifest_writer *writer = manifest_writer_create("wheels", "item");
    struct manifest_head head = {.sequence = 7, .total_bytes = 9, .artifact_count = 3, .origin_user = "op"};
    size_t size = 0;
    char reason[256] = "";
    add(writer, "item", MANIFEST_DIRECTORY, NULL, false, NULL);
    add(writer, "item/back\\n", MANIFEST_FILE, "", false, NULL);
    add(writer, "item/file", MANIFEST_FILE, "hello", false, NULL);
    add(writer, "item/link", MANIFEST_SYMLINK, NULL, false, "sub/run");
    add(writer, "item/sub", MANIFEST_DIRECTORY, NULL, false, NULL);
    add(writer, "item/sub/run", MANIFEST_FILE, "exec", true, NULL);
    manifest_writer_finish(writer, &head, &fixture->manifest, &size);
    manifest_writer_destroy(writer);
    enum status status = manifest_reader_create(fixture->manifest, size, &fixture->reader, reason);
    assert_string_equal(reason, "");
    assert_int_equal(status, STATUS_OK);
}

static int deliver(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    strncpy(fixture->directory, "/tmp/diodecast-test-XXXXXX", sizeof(fixture->directory) - 1);
    if (mkdtemp(fixture->directory) == NULL || chdir(fixture->directory) < 0)
        return -1;
    if (mkdir("payload", 0755) < 0 || mkdir("payload/item", 0755) < 0 || mkdir("payload/item/sub", 0755) < 0 ||
        symlink("sub/run", "payload/item/link") < 0)
        return -1;
    write_text("payload/item/file", "hello", 0640);
    write_text("payload/item/sub/run", "exec", 0750);
    write_text("payload/item/back\\n", "", 0640);
    FILE *sums = fopen("SHA256SUMS", "w");
    add_sum(sums, "\\", "item/back\\\\n", "");
    add_sum(sums, "", "item/file", "hello");
    add_sum(sums, "", "item/sub/run", "exec");
    fclose(sums);
    make_manifest(fixture);
    *state = fixture;
    return 0;
}

static int remove_delivered(void **state)
{
    struct fixture *fixture = *state;
    manifest_reader_destroy(fixture->reader);
    free(fixture->manifest);
    int failed = chdir("/") < 0 || durable_remove_tree(AT_FDCWD, fixture->directory) != STATUS_OK;
    free(fixture);
    return failed;
}

/* The number of problems; what is printed goes to standard output, as in the tool. */
static uint64_t problems(struct fixture *fixture, uint64_t right_artifacts)
{
    struct delivered_report report = {0};
    int dirfd = open(".", O_PATH | O_DIRECTORY);
    assert_true(dirfd >= 0);
    delivered_check(dirfd, fixture->reader, &report);
    close(dirfd);
    assert_int_equal(report.artifact_count, right_artifacts);
    return report.problem_count;
}

static void an_untouched_transfer_has_no_problem(void **state)
{
    assert_int_equal(problems(*state, 3), 0);
    assert_int_equal(problems(*state, 3), 0);
}

static void another_content_size_or_mode_is_found(void **state)
{
    write_text("payload/item/file", "jello", 0640);
    assert_int_equal(problems(*state, 2), 1);
    write_text("payload/item/file", "hello!", 0640);
    assert_int_equal(problems(*state, 2), 1);
    write_text("payload/item/file", "hello", 0750);
    assert_int_equal(problems(*state, 2), 1);
    write_text("payload/item/file", "hello", 0640);
    assert_int_equal(chmod("payload/item/sub/run", 0640), 0);
    assert_int_equal(problems(*state, 2), 1);
}

static void what_is_missing_is_found(void **state)
{
    assert_int_equal(unlink("payload/item/link"), 0);
    assert_int_equal(problems(*state, 3), 1);
    assert_int_equal(unlink("payload/item/sub/run"), 0);
    assert_int_equal(problems(*state, 2), 2);
    assert_int_equal(rmdir("payload/item/sub"), 0);
    assert_int_equal(problems(*state, 2), 3);
    assert_int_equal(unlink("SHA256SUMS"), 0);
    assert_int_equal(problems(*state, 2), 4);
}

static void what_is_too_much_is_found(void **state)
{
    write_text("payload/item/.hidden", "", 0640);
    assert_int_equal(problems(*state, 3), 1);
    assert_int_equal(mkdir("payload/extra", 0755), 0);
    write_text("payload/extra/below", "", 0640);
    assert_int_equal(problems(*state, 3), 2);
    assert_int_equal(mkdir("payload/item/sub/more", 0755), 0);
    assert_int_equal(problems(*state, 3), 3);
}

static void another_kind_in_the_place_is_found_and_nothing_is_followed(void **state)
{
    write_text("outside", "hello", 0640);
    assert_int_equal(unlink("payload/item/file"), 0);
    assert_int_equal(symlink("../../outside", "payload/item/file"), 0);
    assert_int_equal(problems(*state, 2), 1);

    assert_int_equal(unlink("payload/item/file"), 0);
    assert_int_equal(mkfifo("payload/item/file", 0640), 0);
    assert_int_equal(problems(*state, 2), 1);

    assert_int_equal(unlink("payload/item/link"), 0);
    assert_int_equal(symlink("sub", "payload/item/link"), 0);
    assert_int_equal(problems(*state, 2), 2);
    assert_int_equal(unlink("payload/item/link"), 0);
    write_text("payload/item/link", "", 0640);
    assert_int_equal(problems(*state, 2), 2);

    /* The directory is moved out and reached by a symlink: all is "there", and must not count. */
    assert_int_equal(rename("payload/item/sub", "moved"), 0);
    assert_int_equal(symlink("../../moved", "payload/item/sub"), 0);
    assert_int_equal(problems(*state, 1), 4);
    assert_int_equal(rename("payload", "elsewhere"), 0);
    assert_int_equal(symlink("elsewhere", "payload"), 0);
    assert_int_equal(problems(*state, 0), 1);
}

static void a_list_of_sums_that_says_otherwise_is_found(void **state)
{
    FILE *sums = fopen("SHA256SUMS", "w");
    add_sum(sums, "\\", "item/back\\\\n", "");
    add_sum(sums, "", "item/file", "jello");       /* another digest */
    add_sum(sums, "", "item/file", "hello");       /* again */
    add_sum(sums, "", "item/sub", "");             /* a directory */
    add_sum(sums, "", "../payload/item/file", ""); /* not in the manifest */
    fputs("not a line of sums\n", sums);
    fputs("\\0123\n\n", sums); /* two more that are none */
    fclose(sums);              /* and item/sub/run has no line */
    assert_int_equal(problems(*state, 3), 8);
}

int main(void)
{
#define DELIVERED(test) cmocka_unit_test_setup_teardown(test, deliver, remove_delivered)
    const struct CMUnitTest tests[] = {
        DELIVERED(an_untouched_transfer_has_no_problem),
        DELIVERED(another_content_size_or_mode_is_found),
        DELIVERED(what_is_missing_is_found),
        DELIVERED(what_is_too_much_is_found),
        DELIVERED(another_kind_in_the_place_is_found_and_nothing_is_followed),
        DELIVERED(a_list_of_sums_that_says_otherwise_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
