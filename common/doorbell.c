// SPDX-License-Identifier: Apache-2.0
#include "common/doorbell.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

/*
 * Producers and the consumer exchange one flag. Exchanges of one variable are totally ordered: either the producer's
 * comes second, sees the flag set and writes the eventfd, or the consumer's comes second and synchronises with the
 * producer's, so that its look for work finds what was published before.
 */
struct doorbell {
    atomic_bool armed;
    int fd;
    bool armed_here; /* consumer's view: armed and not yet disarmed */
    uint64_t owed;   /* consumer's: writes to the eventfd that are under way or done, and not yet read */
};

struct doorbell *doorbell_create(void)
{
    struct doorbell *bell = calloc(1, sizeof *bell);
    if (bell == NULL)
        return NULL;
    bell->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (bell->fd < 0) {
        free(bell);
        return NULL;
    }
    atomic_init(&bell->armed, false);
    return bell;
}

void doorbell_destroy(struct doorbell *bell)
{
    if (bell == NULL)
        return;
    close(bell->fd);
    free(bell);
}

void doorbell_ring(struct doorbell *bell)
{
    if (!atomic_exchange(&bell->armed, false))
        return;
    uint64_t one = 1;
    ssize_t written = write(bell->fd, &one, sizeof one);
    assert(written == (ssize_t)sizeof one);
    (void)written;
}

/* Takes the flag down and counts the ring that came since it was up. */
static void settle(struct doorbell *bell, bool next)
{
    bool still_armed = atomic_exchange(&bell->armed, next);
    if (bell->armed_here && !still_armed)
        bell->owed++;
    bell->armed_here = next;
}

void doorbell_arm(struct doorbell *bell)
{
    settle(bell, true);
}

void doorbell_disarm(struct doorbell *bell)
{
    settle(bell, false);
    if (bell->owed == 0)
        return;
    /* The producer may be between its exchange and its write: then the ring stays owed and wakes once for nothing. */
    uint64_t rings = 0;
    ssize_t got = read(bell->fd, &rings, sizeof rings);
    assert(got == (ssize_t)sizeof rings || (got < 0 && (errno == EAGAIN || errno == EINTR)));
    if (got > 0) {
        assert(rings <= bell->owed);
        bell->owed -= rings;
    }
}

int doorbell_fd(const struct doorbell *bell)
{
    return bell->fd;
}

void doorbell_wait(struct doorbell *bell, unsigned long timeout_ns)
{
    struct pollfd watch = {.fd = bell->fd, .events = POLLIN};
    struct timespec timeout = {.tv_sec = (time_t)(timeout_ns / 1000000000UL),
                               .tv_nsec = (long)(timeout_ns % 1000000000UL)};
    int result = ppoll(&watch, 1, timeout_ns == UINT64_MAX ? NULL : &timeout, NULL);
    assert(result >= 0 || errno == EINTR || errno == ENOMEM);
    (void)result;
}
