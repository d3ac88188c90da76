// SPDX-License-Identifier: Apache-2.0
#include "common/mailbox.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>

/*
 * Posters push on a stack; the consumer takes the whole stack at once and turns it round. Since nobody pops single
 * entries from the shared side, a compare-and-swap needs no protection against reuse of an entry.
 */
struct mailbox {
    _Atomic(struct mailbox_entry *) posted;
    struct mailbox_entry *taken; /* consumer's, oldest first */
    struct doorbell *bell;
};

struct mailbox *mailbox_create(struct doorbell *bell)
{
    struct mailbox *mailbox = calloc(1, sizeof *mailbox);
    if (mailbox == NULL)
        return NULL;
    atomic_init(&mailbox->posted, NULL);
    mailbox->bell = bell;
    return mailbox;
}

void mailbox_destroy(struct mailbox *mailbox)
{
    if (mailbox == NULL)
        return;
    assert(mailbox->taken == NULL && atomic_load(&mailbox->posted) == NULL);
    free(mailbox);
}

void mailbox_post(struct mailbox *mailbox, struct mailbox_entry *entry)
{
    struct mailbox_entry *top = atomic_load_explicit(&mailbox->posted, memory_order_relaxed);
    do {
        entry->next = top;
    } while (!atomic_compare_exchange_weak_explicit(&mailbox->posted, &top, entry, memory_order_release,
                                                    memory_order_relaxed));
    if (mailbox->bell != NULL)
        doorbell_ring(mailbox->bell);
}

struct mailbox_entry *mailbox_take(struct mailbox *mailbox)
{
    if (mailbox->taken == NULL) {
        /* A plain look first, so that an idle consumer does not pull the cache line away from the posters. */
        if (atomic_load_explicit(&mailbox->posted, memory_order_acquire) == NULL)
            return NULL;
        struct mailbox_entry *newest = atomic_exchange_explicit(&mailbox->posted, NULL, memory_order_acquire);
        while (newest != NULL) {
            struct mailbox_entry *older = newest->next;
            newest->next = mailbox->taken;
            mailbox->taken = newest;
            newest = older;
        }
    }
    struct mailbox_entry *entry = mailbox->taken;
    mailbox->taken = entry->next;
    entry->next = NULL;
    return entry;
}
