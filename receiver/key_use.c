// SPDX-License-Identifier: Apache-2.0
#include "receiver/key_use.h"

#include <stdatomic.h>
#include <stdlib.h>

/* The version is odd while its one writer changes what belongs together. */
struct shared {
    _Atomic uint64_t version, sender_id, epoch, secret, last_ns;
};

struct key_use {
    size_t count;
    struct shared list[];
};

struct key_use *key_use_create(size_t senders)
{
    struct key_use *use = calloc(1, sizeof *use + senders * sizeof *use->list);
    if (use != NULL)
        use->count = senders;
    return use;
}

void key_use_destroy(struct key_use *use)
{
    free(use);
}

void key_use_note(struct key_use *use, const struct linkkey *key, const struct epochs *epochs, uint8_t lane)
{
    for (size_t i = 0; i < use->count; i++) {
        uint32_t sender_id;
        uint64_t epoch, last_ns;
        if (!epochs_newest(epochs, i, &sender_id, &epoch, &last_ns))
            continue;
        int secret = linkkey_secret_of(key, sender_id, epoch, lane);
        if (secret < 0)
            continue;
        struct shared *shared = &use->list[i];
        atomic_fetch_add(&shared->version, 1);
        atomic_store(&shared->sender_id, sender_id);
        atomic_store(&shared->epoch, epoch);
        atomic_store(&shared->secret, (uint64_t)secret);
        atomic_store(&shared->last_ns, last_ns);
        atomic_fetch_add(&shared->version, 1);
    }
}

bool key_use_get(const struct key_use *use, size_t index, struct key_use_entry *entry)
{
    if (use == NULL || index >= use->count)
        return false;
    const struct shared *shared = &use->list[index];
    uint64_t version;
    do {
        version = atomic_load(&shared->version);
        entry->sender_id = (uint32_t)atomic_load(&shared->sender_id);
        entry->epoch = atomic_load(&shared->epoch);
        entry->secret = (unsigned)atomic_load(&shared->secret);
        entry->last_ns = atomic_load(&shared->last_ns);
    } while (version % 2 != 0 || atomic_load(&shared->version) != version);
    return version != 0;
}
