// SPDX-License-Identifier: Apache-2.0

/*
 * Queue, slab, mailbox and doorbell between real threads, for ThreadSanitizer (which does not get on with cmocka): a
 * producer takes buffers, fills them and pushes them; the consumer checks and returns them; two more post messages. A
 * wake-up that is lost hangs the consumer, which the watchdog turns into a failure.
 */

#include <assert.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/doorbell.h"
#include "common/mailbox.h"
#include "common/queue.h"
#include "common/slab.h"
#include "common/worker.h"

enum { BUFFERS = 32, BUFFER_SIZE = 512, ITEMS = 200000, POSTERS = 2, MESSAGES = 20000, WATCHDOG_S = 300 };

struct message {
    struct mailbox_entry entry;
    int poster;
    int number;
};

struct rig {
    struct slab *slab;
    struct queue *queue;
    struct mailbox *mailbox;
    struct doorbell *consumer_bell;
    struct doorbell *producer_bell; /* rung when a buffer is free again */
    atomic_int next_poster;
    uint64_t producer_sleeps;
};

/* Waits until a buffer is there, by the pattern of doorbell.h. */
static unsigned char *take_buffer(struct rig *rig)
{
    for (;;) {
        unsigned char *buffer = slab_take(rig->slab);
        if (buffer != NULL)
            return buffer;
        doorbell_arm(rig->producer_bell);
        if (slab_available(rig->slab) == 0) {
            doorbell_wait(rig->producer_bell, UINT64_MAX);
            rig->producer_sleeps++;
        }
        doorbell_disarm(rig->producer_bell);
    }
}

static void produce(void *context)
{
    struct rig *rig = context;
    for (uint32_t i = 0; i < ITEMS; i++) {
        unsigned char *buffer = take_buffer(rig);
        memset(buffer, (int)(i & 0xff), BUFFER_SIZE);
        memcpy(buffer, &i, sizeof i);
        bool pushed = queue_push(rig->queue, buffer);
        assert(pushed); /* as many slots as buffers */
        (void)pushed;
        doorbell_ring(rig->consumer_bell);
        if (i % 1000 == 0)
            usleep(50); /* lets the consumer fall asleep now and then */
    }
}

static void post(void *context)
{
    struct rig *rig = context;
    int poster = atomic_fetch_add(&rig->next_poster, 1);
    for (int i = 0; i < MESSAGES; i++) {
        struct message *message = malloc(sizeof *message);
        assert(message != NULL);
        message->poster = poster;
        message->number = i;
        mailbox_post(rig->mailbox, &message->entry);
    }
}

struct tally {
    uint32_t items;
    int messages[POSTERS];
    uint64_t sleeps;
};

static bool is_done(const struct tally *tally)
{
    return tally->items == ITEMS && tally->messages[0] == MESSAGES && tally->messages[1] == MESSAGES;
}

static void check_buffer(const unsigned char *buffer, uint32_t expected)
{
    uint32_t number = 0;
    memcpy(&number, buffer, sizeof number);
    assert(number == expected);
    for (size_t i = sizeof number; i < BUFFER_SIZE; i++)
        assert(buffer[i] == (expected & 0xff));
}

/* Takes what is there; true when there was something. */
static bool consume_some(struct rig *rig, struct tally *tally)
{
    bool any = false;
    unsigned char *buffer;
    while ((buffer = queue_pop(rig->queue)) != NULL) {
        check_buffer(buffer, tally->items++);
        slab_return(rig->slab, buffer);
        doorbell_ring(rig->producer_bell);
        any = true;
    }
    struct mailbox_entry *entry;
    while ((entry = mailbox_take(rig->mailbox)) != NULL) {
        struct message *message = (struct message *)entry;
        assert(message->number == tally->messages[message->poster]); /* in order, per poster */
        tally->messages[message->poster]++;
        free(message);
        any = true;
    }
    return any;
}

static void consume(struct rig *rig, struct tally *tally)
{
    while (!is_done(tally)) {
        if (consume_some(rig, tally))
            continue;
        doorbell_arm(rig->consumer_bell);
        if (!consume_some(rig, tally) && !is_done(tally)) {
            doorbell_wait(rig->consumer_bell, UINT64_MAX);
            tally->sleeps++;
        }
        doorbell_disarm(rig->consumer_bell);
    }
}

static void on_alarm(int number)
{
    (void)number;
    static const char text[] = "test_threads: FAILED: hangs, a wake-up was lost\n";
    ssize_t written = write(STDERR_FILENO, text, sizeof text - 1);
    (void)written;
    _exit(1);
}

int main(void)
{
    struct rig rig = {.next_poster = 0};
    struct tally tally = {.items = 0};
    struct worker *workers[1 + POSTERS];
    signal(SIGALRM, on_alarm);
    alarm(WATCHDOG_S);
    enum status status = slab_create(BUFFER_SIZE, BUFFERS, &rig.slab);
    assert(status == STATUS_OK);
    rig.queue = queue_create(BUFFERS);
    rig.consumer_bell = doorbell_create();
    rig.producer_bell = doorbell_create();
    rig.mailbox = mailbox_create(rig.consumer_bell);
    assert(rig.queue != NULL && rig.consumer_bell != NULL && rig.producer_bell != NULL && rig.mailbox != NULL);

    uint64_t start_ns = clock_monotonic_ns();
    status = worker_start("produce", produce, &rig, &workers[0]);
    assert(status == STATUS_OK);
    for (int i = 0; i < POSTERS; i++) {
        status = worker_start("post", post, &rig, &workers[1 + i]);
        assert(status == STATUS_OK);
    }
    consume(&rig, &tally);
    for (int i = 0; i < 1 + POSTERS; i++)
        worker_join(workers[i]);
    uint64_t took_ns = clock_monotonic_ns() - start_ns;

    assert(slab_available(rig.slab) == BUFFERS);
    mailbox_destroy(rig.mailbox);
    queue_destroy(rig.queue);
    slab_destroy(rig.slab);
    doorbell_destroy(rig.consumer_bell);
    doorbell_destroy(rig.producer_bell);
    printf("test_threads: %d buffers and %d messages in %.1f s, %ju and %ju sleeps\n", ITEMS, POSTERS * MESSAGES,
           (double)took_ns / 1e9, (uintmax_t)tally.sleeps, (uintmax_t)rig.producer_sleeps);
    printf("test_threads: passed\n");
    return 0;
}
