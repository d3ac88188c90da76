// SPDX-License-Identifier: Apache-2.0
#include "common/trust.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"

struct trust {
    struct signature_public *keys; /* ascending by sender id */
    size_t count;
};

static int compare_ids(uint32_t a, uint32_t b)
{
    return a < b ? -1 : a > b;
}

static int compare_keys(const void *a, const void *b)
{
    return compare_ids(signature_sender_id(a), signature_sender_id(b));
}

static int is_public_key_name(const struct dirent *entry)
{
    size_t length = strlen(entry->d_name);
    return entry->d_name[0] != '.' && length > 4 && strcmp(entry->d_name + length - 4, ".pub") == 0;
}

/* Loads one file into the set, after comparing it with those before; says what is wrong. */
static enum status add_file(struct trust *trust, const char *directory, struct dirent *const names[], size_t index)
{
    char reason[256];
    char *path = NULL;
    int length = asprintf(&path, "%s/%s", directory, names[index]->d_name);
    assert(length > 0);
    struct signature_public *key = &trust->keys[trust->count];
    enum status status = signature_public_load(path, key, reason);
    free(path);
    if (status != STATUS_OK) {
        log_error("trusted key %s", reason);
        return status;
    }
    for (size_t i = 0; i < trust->count; i++) {
        if (signature_sender_id(&trust->keys[i]) != signature_sender_id(key))
            continue;
        log_error("trusted keys %s/%s and %s/%s name the same sender %08x; remove one of them", directory,
                  names[i]->d_name, directory, names[index]->d_name, signature_sender_id(key));
        return STATUS_INVALID;
    }
    trust->count++;
    return STATUS_OK;
}

enum status trust_load(const char *directory, struct trust **trust)
{
    *trust = NULL;
    struct dirent **names = NULL;
    int found = scandir(directory, &names, is_public_key_name, alphasort);
    if (found < 0) {
        int error = errno;
        log_error("trusted keys: can't read directory %s: %s", directory, strerror(error));
        return error == ENOENT ? STATUS_NOT_FOUND : status_from_errno(error);
    }

    enum status status = STATUS_OK;
    struct trust *loaded = trust_from_keys(NULL, 0);
    if (found == 0) {
        log_error("trusted keys: no *.pub file in %s; copy the sender's public key there: install -m 644 sender.pub %s",
                  directory, directory);
        status = STATUS_INVALID;
    } else {
        loaded->keys = calloc((size_t)found, sizeof(*loaded->keys));
        assert(loaded->keys != NULL);
    }
    for (int i = 0; i < found && status == STATUS_OK; i++)
        status = add_file(loaded, directory, names, (size_t)i);

    for (int i = 0; i < found; i++)
        free(names[i]);
    free(names);
    if (status != STATUS_OK) {
        trust_destroy(loaded);
        return status;
    }
    qsort(loaded->keys, loaded->count, sizeof(*loaded->keys), compare_keys);
    *trust = loaded;
    return STATUS_OK;
}

struct trust *trust_from_keys(const struct signature_public *keys, size_t count)
{
    struct trust *trust = calloc(1, sizeof(*trust));
    assert(trust != NULL);
    if (count == 0)
        return trust;
    trust->keys = malloc(count * sizeof(*keys));
    assert(trust->keys != NULL);
    memcpy(trust->keys, keys, count * sizeof(*keys));
    trust->count = count;
    qsort(trust->keys, count, sizeof(*keys), compare_keys);
    return trust;
}

const struct signature_public *trust_find(const struct trust *trust, uint32_t sender_id)
{
    size_t low = 0, high = trust->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = compare_ids(signature_sender_id(&trust->keys[middle]), sender_id);
        if (order == 0)
            return &trust->keys[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

size_t trust_count(const struct trust *trust)
{
    return trust->count;
}

void trust_destroy(struct trust *trust)
{
    if (trust == NULL)
        return;
    free(trust->keys);
    free(trust);
}
