// SPDX-License-Identifier: Apache-2.0
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "receiver/partial.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void collect(const struct partial_entry *entry, void *context)
{
    bool added = partial_list_add(context, entry);
    assert(added);
    assert(entry->file < LIMIT_ARTIFACTS || entry->file == PARTIAL_SMALL);
    assert(entry->kind == PARTIAL_PLACE || entry->first < entry->end);
}

/* What the ledger kept of an open transfer: it is read up to the first byte that is none of ours, and no further. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct partial_list list = {0};
    bool good = partial_decode(bytes, size, collect, &list);
    size_t again_size = 0;
    uint8_t *again = partial_encode(&list, &again_size);
    assert(again != NULL && again_size <= size && memcmp(again, bytes, again_size) == 0);
    assert(good == (again_size == size));
    free(again);
    partial_list_deinit(&list);
    return 0;
}
