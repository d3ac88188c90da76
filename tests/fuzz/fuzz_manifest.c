// SPDX-License-Identifier: Apache-2.0
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "proto/diodecast.pb-c.h"
#include "proto/manifest.h"
#include "proto/relpath.h"
#include "proto/signed.h"
#include "tests/fuzz/mutate.h"

/* What a receiver builds on: every path is safe and inside the item, in order, and the sums agree. */
static void check_entries(struct manifest_reader *reader, struct manifest_writer *writer)
{
    const struct manifest_head *head = manifest_reader_head(reader);
    struct manifest_entry entry;
    char last[LIMIT_PATH_LENGTH + 1] = "";
    size_t name_size = strlen(head->name), count;
    uint64_t total_bytes = 0;
    uint32_t artifacts = 0;

    while (manifest_reader_next(reader, &entry)) {
        assert(relpath_check(entry.path, strlen(entry.path)) == NULL);
        assert(strncmp(entry.path, head->name, name_size) == 0);
        assert(entry.path[name_size] == '/' || (entry.path[name_size] == '\0' && last[0] == '\0'));
        assert(manifest_path_compare(last, entry.path) < 0);
        memcpy(last, entry.path, strlen(entry.path) + 1);
        assert((entry.target != NULL) == (entry.kind == MANIFEST_SYMLINK));
        if (entry.kind == MANIFEST_FILE) {
            artifacts++;
            total_bytes += entry.size;
        }
        manifest_writer_add(writer, &entry);
        const uint8_t *hashes = manifest_reader_chunk_hashes(reader, &count);
        assert((hashes != NULL) == (count > 0));
        if (count > 0)
            manifest_writer_add_chunk_hashes(writer, hashes, count);
    }
    assert(artifacts == head->artifact_count && total_bytes == head->total_bytes);
}

static void check_manifest(const uint8_t *bytes, size_t size)
{
    struct manifest_reader *reader, *again;
    char reason[256];
    enum status status = manifest_reader_create(bytes, size, &reader, reason);

    assert(strlen(reason) < sizeof reason && (status == STATUS_OK) == (reason[0] == '\0'));
    if (status != STATUS_OK)
        return;
    const struct manifest_head *head = manifest_reader_head(reader);
    struct manifest_writer *writer = manifest_writer_create(head->channel, head->name);
    check_entries(reader, writer);

    /* What is accepted can be written anew, and is accepted again. */
    uint8_t *out;
    size_t out_size;
    manifest_writer_finish(writer, head, &out, &out_size);
    status = manifest_reader_create(out, out_size, &again, reason);
    assert(status == STATUS_OK);
    assert(memcmp(manifest_reader_head(again), head, sizeof *head) == 0);
    manifest_reader_destroy(again);
    manifest_writer_destroy(writer);
    manifest_reader_destroy(reader);
    free(out);
}

/* The first byte says whether the rest is an envelope or a body. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct signed_message message;

    if (size == 0)
        return 0;
    if (bytes[0] != 'S') {
        check_manifest(bytes + 1, size - 1);
        return 0;
    }
    if (signed_decode(bytes + 1, size - 1, LIMIT_MANIFEST_SIZE, &message) == STATUS_OK) {
        assert(message.body_size > 0 && message.body_size < size);
        assert(strlen(message.signature.trusted_comment) <= LIMIT_COMMENT_LENGTH);
        check_manifest(message.body, message.body_size);
        signed_message_deinit(&message);
    }
    return 0;
}

/* The totals, as protobuf-c counts the entries. */
static void count_entries(Diodecast__Manifest *manifest)
{
    Diodecast__Statement *statement =
        diodecast__statement__unpack(NULL, manifest->statement.len, manifest->statement.data);
    if (statement == NULL)
        return;
    manifest->total_bytes = manifest->artifact_count = 0;
    for (size_t i = 0; i < statement->n_entries; i++) {
        if (statement->entries[i]->kind != DIODECAST__KIND__KIND_FILE)
            continue;
        manifest->artifact_count++;
        manifest->total_bytes += statement->entries[i]->size;
    }
    diodecast__statement__free_unpacked(statement, NULL);
}

/* A body whose totals agree with its entries. */
static size_t mend_totals(uint8_t *bytes, size_t size, size_t size_max)
{
    Diodecast__Manifest *manifest = diodecast__manifest__unpack(NULL, size, bytes);
    if (manifest == NULL)
        return size;
    count_entries(manifest);
    if (diodecast__manifest__get_packed_size(manifest) <= size_max)
        size = diodecast__manifest__pack(manifest, bytes);
    diodecast__manifest__free_unpacked(manifest, NULL);
    return size;
}

size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t size, size_t size_max, unsigned seed)
{
    struct mutate mutate = {seed};
    if (size < 2 || mutate_chance(&mutate, 50))
        return LLVMFuzzerMutate(bytes, size, size_max);
    if (bytes[0] == 'S')
        return 1 + mutate_message(&mutate, &diodecast__signed__descriptor, bytes + 1, size - 1, size_max - 1);
    size = 1 + mutate_message(&mutate, &diodecast__manifest__descriptor, bytes + 1, size - 1, size_max - 1);
    return mutate_chance(&mutate, 3) ? size : 1 + mend_totals(bytes + 1, size - 1, size_max - 1);
}
