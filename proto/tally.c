// SPDX-License-Identifier: Apache-2.0
#include "proto/tally.h"

#include <assert.h>
#include <string.h>

#include "proto/relpath.h"

void tally_init(struct tally *tally, const char *name)
{
    size_t size = strlen(name);

    assert(size <= LIMIT_COMPONENT_LENGTH);
    *tally = (struct tally){0};
    memcpy(tally->name, name, size + 1);
}

uint64_t tally_hash_count(const struct manifest_entry *entry)
{
    uint64_t chunks = entry->kind == MANIFEST_FILE ? manifest_chunk_count(entry->size) : 0;
    return chunks > 1 ? chunks : 0;
}

static const char *check_file(const struct tally *tally, const struct manifest_entry *entry)
{
    if (entry->size > LIMIT_ARTIFACT_SIZE)
        return "is larger than the 8 TiB that an artifact may have";
    if (entry->size > LIMIT_TRANSFER_SIZE - tally->total_bytes)
        return "makes the transfer larger than it may be";
    if (tally->artifacts == LIMIT_ARTIFACTS)
        return "is one artifact too many";
    if (entry->target != NULL)
        return "is a file with a link target";
    return NULL;
}

static const char *check_other(const struct manifest_entry *entry)
{
    static const uint8_t no_digest[SHA256_SIZE];

    if (entry->size != 0 || entry->executable || memcmp(entry->sha256, no_digest, SHA256_SIZE) != 0)
        return "has a property of files";
    if (entry->kind == MANIFEST_DIRECTORY)
        return entry->target != NULL ? "is a directory with a link target" : NULL;
    if (entry->target == NULL)
        return "is a symlink without a target";
    return relpath_check_symlink(entry->path, entry->target, strlen(entry->target));
}

/*
 * Whether an entry at `path` may follow the last one. In this order everything below a directory is one run behind it,
 * so the entry's parent is either the last entry or a directory that the last entry lies in, and it was checked then.
 */
static const char *check_place(const struct tally *tally, const char *path)
{
    const char *slash = strrchr(path, '/');

    if (tally->entries == 0)
        return strcmp(path, tally->name) != 0 ? "is not the item itself, which must come first" : NULL;
    if (tally->entries == LIMIT_ENTRIES)
        return "is one entry too many";
    int order = manifest_path_compare(tally->path, path);
    if (order >= 0)
        return order == 0 ? "is listed twice" : "is out of order";
    if (slash == NULL)
        return "is outside the item";
    size_t parent_size = (size_t)(slash - path);
    if (strncmp(tally->path, path, parent_size) != 0)
        return "has no parent directory";
    if (tally->path[parent_size] == '/')
        return NULL;
    if (tally->path[parent_size] != '\0')
        return "has no parent directory";
    return tally->kind == MANIFEST_DIRECTORY ? NULL : "has a parent that is not a directory";
}

const char *tally_add(struct tally *tally, const struct manifest_entry *entry)
{
    size_t path_size = strlen(entry->path);
    const char *wrong = relpath_check(entry->path, path_size);

    if (wrong == NULL)
        wrong = check_place(tally, entry->path);
    if (wrong == NULL)
        wrong = entry->kind == MANIFEST_FILE ? check_file(tally, entry) : check_other(entry);
    if (wrong != NULL)
        return wrong;

    memcpy(tally->path, entry->path, path_size + 1);
    tally->kind = entry->kind;
    tally->entries++;
    if (entry->kind == MANIFEST_FILE) {
        tally->artifacts++;
        tally->total_bytes += entry->size;
        tally->chunk_hashes += tally_hash_count(entry);
    }
    return NULL;
}
