// SPDX-License-Identifier: Apache-2.0
#include "sender/retain.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/durable.h"
#include "proto/identity.h"

enum { REMOVE_MAX = 1000 /* in one pass; the rest in the next */ };

struct kept {
    uint8_t id[TRANSFER_ID_SIZE];
    int64_t finished_at_ns;
    uint64_t bytes;
};

struct list {
    struct kept *kept;
    size_t count, capacity;
    uint64_t bytes;
};

static void collect(const struct ledger_transfer *transfer, void *context)
{
    struct list *list = context;
    if (list->count == list->capacity) {
        list->capacity = list->capacity == 0 ? 256 : 2 * list->capacity;
        list->kept = reallocarray(list->kept, list->capacity, sizeof *list->kept);
        assert(list->kept != NULL);
    }
    struct kept *kept = &list->kept[list->count++];
    memcpy(kept->id, transfer->id, TRANSFER_ID_SIZE);
    kept->finished_at_ns = transfer->finished_at_ns;
    kept->bytes = transfer->bytes;
    list->bytes += transfer->bytes;
}

static int compare_finished(const void *a, const void *b)
{
    const struct kept *x = a, *y = b;
    return (x->finished_at_ns > y->finished_at_ns) - (x->finished_at_ns < y->finished_at_ns);
}

static bool is_expired(const struct config *config, const struct kept *kept, uint64_t bytes, int64_t now_ns)
{
    return bytes > config->retain_bytes ||
           (now_ns > kept->finished_at_ns && (uint64_t)(now_ns - kept->finished_at_ns) > config->retain_ns);
}

void retain_run(const struct claim *claim, int64_t now_ns, struct retain_result *result)
{
    struct list list = {0};
    *result = (struct retain_result){0};
    if (ledger_each(claim->ledger, LEDGER_SENT, collect, &list) != STATUS_OK)
        goto cleanup;
    if (list.count > 0)
        qsort(list.kept, list.count, sizeof *list.kept, compare_finished);
    result->kept = list.count;
    for (size_t i = 0; i < list.count && result->removed < REMOVE_MAX; i++) {
        struct ledger_change change = {.state = LEDGER_EXPIRED};
        char id[TRANSFER_ID_TEXT_SIZE];
        if (!is_expired(claim->config, &list.kept[i], list.bytes, now_ns))
            break;
        identity_transfer_text(list.kept[i].id, id);
        memcpy(change.id, list.kept[i].id, TRANSFER_ID_SIZE);
        if (durable_remove_tree(claim->dirs->sent, id) != STATUS_OK) {
            result->stuck = true;
            snprintf(result->message, sizeof result->message, "remove %s/.sent/%s, which the sender can't: %s",
                     claim->dirs->path, id, strerror(errno));
            continue;
        }
        if (ledger_apply(claim->ledger, &change, 1) != STATUS_OK)
            break;
        list.bytes -= list.kept[i].bytes;
        result->kept--;
        result->removed++;
    }
    result->kept_bytes = list.bytes;

cleanup:
    free(list.kept);
}
