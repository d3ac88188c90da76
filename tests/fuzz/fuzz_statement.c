// SPDX-License-Identifier: Apache-2.0
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "proto/diodecast.pb-c.h"
#include "proto/manifest.h"
#include "proto/relpath.h"
#include "proto/statement.h"
#include "tests/fuzz/mutate.h"

/* The same statement inside a manifest whose totals are those that protobuf-c counts: both readers are of one opinion.
 */
static void check_in_manifest(const uint8_t *bytes, size_t size, const Diodecast__Statement *statement, bool accepted)
{
    static uint8_t id[TRANSFER_ID_SIZE], hash[SHA256_SIZE];
    static char context[] = "diodecast manifest 1", user[] = "alice";
    Diodecast__Manifest manifest = DIODECAST__MANIFEST__INIT;
    struct manifest_reader *reader;
    char reason[256];
    uint64_t hashes = 0;

    manifest.context = context;
    manifest.chain_id = manifest.transfer_id = (ProtobufCBinaryData){sizeof id, id};
    manifest.previous_hash = (ProtobufCBinaryData){sizeof hash, hash};
    manifest.sequence = 1;
    manifest.origin_user = user;
    manifest.statement = (ProtobufCBinaryData){size, (uint8_t *)bytes};
    for (size_t i = 0; i < statement->n_entries; i++) {
        const Diodecast__Entry *entry = statement->entries[i];
        if (entry->kind != DIODECAST__KIND__KIND_FILE)
            continue;
        manifest.artifact_count++;
        manifest.total_bytes += entry->size;
        hashes +=
            entry->size > CHUNK_SIZE && entry->size <= LIMIT_ARTIFACT_SIZE ? manifest_chunk_count(entry->size) : 0;
    }
    if (hashes > 1024)
        return;
    manifest.chunk_hashes = (ProtobufCBinaryData){hashes * CHUNK_HASH_SIZE, calloc(hashes + 1, CHUNK_HASH_SIZE)};
    size_t whole = diodecast__manifest__get_packed_size(&manifest);
    uint8_t *body = malloc(whole);
    assert(body != NULL && manifest.chunk_hashes.data != NULL);
    diodecast__manifest__pack(&manifest, body);
    enum status status = manifest_reader_create(body, whole, &reader, reason);
    assert((status == STATUS_OK) == accepted);
    if (status == STATUS_OK)
        manifest_reader_destroy(reader);
    free(manifest.chunk_hashes.data);
    free(body);
}

/* What is accepted names each thing once, in order, inside the item, and agrees with itself. */
static void check_accepted(struct statement_reader *reader, struct statement_reader *twin,
                           const Diodecast__Statement *statement)
{
    const struct statement_head *head = statement_reader_head(reader);
    struct manifest_entry entry;
    struct statement_label label;
    char last[LIMIT_PATH_LENGTH + 1] = "", difference[256];
    size_t count = 0, labels = 0;

    while (statement_reader_next(reader, &entry)) {
        assert(relpath_check(entry.path, strlen(entry.path)) == NULL && manifest_path_compare(last, entry.path) < 0);
        assert(strcmp(entry.path, statement->entries[count]->path) == 0);
        assert(entry.kind != MANIFEST_FILE || entry.size == statement->entries[count]->size);
        memcpy(last, entry.path, strlen(entry.path) + 1);
        count++;
    }
    assert(count == head->entries && count == statement->n_entries);
    while (statement_reader_label(reader, labels, &label))
        labels++;
    assert(labels == statement->n_labels && labels <= LIMIT_LABELS);
    assert(statement_agrees(reader, twin, STATEMENT_WHOLE, difference));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct statement_reader *reader = NULL, *twin = NULL;
    char reason[256] = "";

    enum status status = statement_reader_create(bytes, size, &reader, reason);
    assert(status == STATUS_OK || (status == STATUS_INVALID && reason[0] != '\0'));
    Diodecast__Statement *statement = diodecast__statement__unpack(NULL, size, bytes);
    assert(statement != NULL || status != STATUS_OK);
    if (statement != NULL) {
        check_in_manifest(bytes, size, statement, status == STATUS_OK);
        if (status == STATUS_OK && statement_reader_create(bytes, size, &twin, reason) == STATUS_OK) {
            check_accepted(reader, twin, statement);
            statement_reader_destroy(twin);
        }
        diodecast__statement__free_unpacked(statement, NULL);
    }
    if (status == STATUS_OK)
        statement_reader_destroy(reader);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t size, size_t size_max, unsigned seed)
{
    struct mutate mutate = {seed};
    return mutate_message(&mutate, &diodecast__statement__descriptor, bytes, size, size_max);
}
