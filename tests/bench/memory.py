# SPDX-License-Identifier: Apache-2.0
"""
Memory that stays this machine's own while it is measured. Under a hypervisor the kernel tells the host of free blocks of
2 MiB (free page reporting, https://docs.kernel.org/mm/free_page_reporting.html), the host takes them, and the next one who
writes there waits for it to give them back, page by page: so files on tmpfs cost more, and a receiver's disk is slower, the
longer ago the memory was last used. Blocks below 2 MiB are not told of, so one page in each MiB is kept, and the rest is given
back to this machine's kernel, which takes small blocks first when it needs memory.
"""

import contextlib
import mmap
from pathlib import Path

POPULATE_WRITE = 23  # MADV_POPULATE_WRITE, Linux 5.14
KEPT_EACH = 1 << 20
AT_ONCE = 256 << 20
MOST_SHARE = 0.75  # of what is available; the rest is for who must not wait meanwhile


def _available():
    return int(next(line for line in Path("/proc/meminfo").read_text().splitlines() if "MemAvailable" in line).split()[1]) << 10


@contextlib.contextmanager
def kept(size):
    """`size` bytes of this machine's free memory have been written to and stay; yields how many it could be."""
    size = int(min(size, MOST_SHARE * _available())) // AT_ONCE * AT_ONCE
    if size == 0:
        yield 0
        return
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.madvise(mmap.MADV_NOHUGEPAGE)
        for start in range(0, size, AT_ONCE):
            memory.madvise(POPULATE_WRITE, start, AT_ONCE)
        for start in range(0, size, KEPT_EACH):
            memory.madvise(mmap.MADV_DONTNEED, start + mmap.PAGESIZE, KEPT_EACH - mmap.PAGESIZE)
        yield size
