# SPDX-License-Identifier: Apache-2.0
"""Memory does not grow with what is sent."""

import os
import re

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


def printed_bound(receiver):
    """KiB, as the receiver has printed it at its start."""
    (mib,) = re.findall(r"resident memory stays below (\d+) MiB", (receiver.directory / "diodecast-receiver.log").read_text())
    return int(mib) * 1024


def test_the_receiver_stays_below_the_bound_that_it_prints_and_96_mib(fast_scratch):
    both = harness.Pair(fast_scratch, link={"rate": "1Gbit/s"})
    both.start()
    bound = printed_bound(both.receiver)
    both.sender.drop(content.write_file(fast_scratch / "file", 200 * MIB))
    both.receiver.wait_delivered("file", timeout=90)
    peak = both.receiver.program.peak_memory_kib()
    print(f"receiver: {peak} KiB of {bound} KiB")
    assert bound <= 96 * 1024
    assert bound * 0.75 <= peak <= bound


def test_peak_memory_is_the_same_for_a_large_file_as_for_a_small_one(fast_scratch):
    for name in ("small", "large"):
        (fast_scratch / name).mkdir()
    small = peaks(fast_scratch / "small", 40 * MIB, "800Mbit/s")
    large = peaks(fast_scratch / "large", LARGE, "800Mbit/s")
    for side, before, after in zip(("receiver", "sender"), small, large):
        print(f"{side}: {before} KiB for 40 MiB, {after} KiB for {LARGE // MIB} MiB")
        assert after <= before * 1.1, side
