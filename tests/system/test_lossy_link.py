# SPDX-License-Identifier: Apache-2.0
"""Over real interfaces: 1 % independent loss and bursts of 4 ms each second at 500 Mbit/s, nothing coming back."""

import os
import time

import content
import harness
import pytest

RUNS = int(os.environ.get("DIODECAST_LINK_RUNS", "5" if os.environ.get("DIODECAST_LONG") else "1"))

pytestmark = pytest.mark.root


def start_pair(made, scratch, port=4700, **options):
    sender = harness.Sender(scratch / "low", f"{made.HIGH_ADDRESS}:{port}", prefix=made.in_low, **options)
    receiver = harness.Receiver(scratch / "high", f"{made.HIGH_ADDRESS}:{port}", [sender.public], prefix=made.in_high)
    receiver.start()
    sender.start()
    return sender, receiver


@pytest.mark.parametrize("run", range(RUNS))
@pytest.mark.parametrize("mtu", [1500, 9000])
def test_a_large_file_and_a_tree_arrive_and_nothing_comes_back(link, fast_scratch, mtu, run):
    file = content.write_file(fast_scratch / "large.bin", 200 << 20, seed=run)
    tree = content.make_tree(fast_scratch / "tree", 400, largest=64 << 10, seed=run)
    expected = {path.name: content.facts(path) for path in (file, tree)}
    made = link(mtu=mtu)
    made.lose(per_million=10_000, burst_ns=4_000_000)
    sender, receiver = start_pair(made, fast_scratch, link={"rate": "500Mbit/s", "mtu": "auto"})
    sender.drop(file)
    sender.drop(tree)
    for name in ("large.bin", "tree"):
        receiver.wait_delivered(name, timeout=90).check(expected[name], sender.public)
    status = receiver.wait_status(lambda status: status["transfers"]["delivered_total"] == 2, "two deliveries")
    assert made.dropped() > 0.008 * made.frames_received(), "the link lost what it was told to lose"
    assert status["link"]["lost_total"] > 0.008 * status["link"]["datagrams_total"]
    assert status["fec"]["repaired_total"] > 0
    assert status["fec"]["failed_total"] == 0
    assert sender.stop() == 0
    assert receiver.stop() == 0
    assert made.frames_towards_low() == 0


def test_datagrams_fill_the_mtu_and_are_never_fragmented(link, scratch):
    made = link(mtu=1500)
    made.run(made.high, "nft", "add table netdev sizes; add chain netdev sizes ingress "
             "{ type filter hook ingress device high priority 0; }; "
             "add rule netdev sizes ingress ip frag-off & 0x3fff != 0 counter; "
             "add rule netdev sizes ingress ip length > 1480 counter")
    sender, receiver = start_pair(made, scratch, link={"mtu": "auto"})
    sender.drop(content.write_file(scratch / "file", 1 << 20))
    receiver.wait_delivered("file")
    fragments, full = made.counters(made.high)
    assert fragments == 0
    assert full > 700


def test_the_rate_counts_wire_bits(link, fast_scratch):
    made = link(mtu=1500)
    sender, receiver = start_pair(made, fast_scratch, link={"rate": "100Mbit/s", "mtu": "auto"})
    receiver.wait_heard()
    frames, began = made.frames_received(), time.monotonic()
    sender.drop(content.write_file(fast_scratch / "paced", 25 << 20))
    receiver.wait_delivered("paced")
    frames, seconds = made.frames_received() - frames, time.monotonic() - began
    # Preamble, gap and FCS included a full frame is 1538 bytes. A pair that ignores the rate needs a tenth of the time.
    assert frames > (25 << 20) / 1400 * 144 / 128
    assert frames * 1538 * 8 / seconds < 101e6
