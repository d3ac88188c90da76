// SPDX-License-Identifier: Apache-2.0
#include "common/descriptors.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/log.h"

static bool close_from_to(unsigned first, unsigned last)
{
    return first > last || syscall(SYS_close_range, first, last, 0U) == 0;
}

/* The smallest of `kept` that is at least `from`, or UINT_MAX. */
static unsigned next_kept(const int kept[], size_t count, unsigned from)
{
    unsigned next = UINT_MAX;
    for (size_t i = 0; i < count; i++)
        if (kept[i] >= 0 && (unsigned)kept[i] >= from && (unsigned)kept[i] < next)
            next = (unsigned)kept[i];
    return next;
}

enum status descriptors_separate(const int kept[], size_t count)
{
    unsigned from = STDERR_FILENO + 1;
    bool good = unshare(CLONE_FILES) == 0;
    assert(count <= DESCRIPTORS_KEPT_MAX);
    while (good) {
        unsigned next = next_kept(kept, count, from);
        good = close_from_to(from, next == UINT_MAX ? next : next - 1);
        if (next == UINT_MAX)
            break;
        from = next + 1;
    }
    if (good)
        return STATUS_OK;
    int error = errno;
    log_error("a thread can't have descriptors of its own: %s; allow unshare(2) and close_range(2)", strerror(error));
    return status_from_errno(error);
}

void descriptors_close(int fd)
{
    (void)close_from_to((unsigned)fd, (unsigned)fd);
}
