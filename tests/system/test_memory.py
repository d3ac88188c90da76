# SPDX-License-Identifier: Apache-2.0
"""Memory does not grow with what is sent."""

import os

import content
import harness

MIB = 1 << 20
LARGE = 4096 * MIB if os.environ.get("DIODECAST_LONG") else 512 * MIB


def peaks(directory, size, rate):
    """VmHWM in KiB of receiver and sender after one file of `size` bytes, in processes of their own."""
    both = harness.Pair(directory, link={"rate": rate})
    both.start()
    both.sender.drop(content.write_file(directory / "file", size))
    both.receiver.wait_delivered("file", timeout=60 + size / (20 * MIB))
    both.sender.wait_sent(1)
    found = both.receiver.program.peak_memory_kib(), both.sender.program.peak_memory_kib()
    assert both.sender.stop() == 0
    assert both.receiver.stop() == 0
    return found


def test_peak_memory_is_the_same_for_a_large_file_as_for_a_small_one(fast_scratch):
    for name in ("small", "large"):
        (fast_scratch / name).mkdir()
    small = peaks(fast_scratch / "small", 40 * MIB, "800Mbit/s")
    large = peaks(fast_scratch / "large", LARGE, "800Mbit/s")
    for side, before, after in zip(("receiver", "sender"), small, large):
        print(f"{side}: {before} KiB for 40 MiB, {after} KiB for {LARGE // MIB} MiB")
        assert after <= before * 1.1, side
