# SPDX-License-Identifier: Apache-2.0
"""
No frame leaves the high end of a link that diodecast-link has prepared, whatever happens to it; and without that, the
same test sees what the kernel answers. `make check-silence` runs the long form.
"""

import os
import re
import time

import content
import frames
import harness
import pytest
from waiting import wait_until

pytestmark = pytest.mark.root

LONG = bool(os.environ.get("DIODECAST_LONG"))
RESTARTS = 100 if LONG else 10
PORTS = range(1, 65536, 1 if LONG else 331)
SIZE = 100_000_000 if LONG else 8_000_000
SCANS = 1
LOW_MAC, HIGH_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"
NOISE_S = 20


def prepare_high(wire, scratch):
    """What diodecast-link-high@high.service does, with IPV6=yes in its file."""
    return wire.run(wire.high, "env", "IPV6=yes", f"RUNTIME_DIRECTORY={scratch}/link",
                    harness.ROOT / "tools/diodecast-link.sh", "high", "up", "high")


def held_back(wire):
    """Frames that the high side's kernel wanted to send."""
    text = wire.run(wire.high, harness.ROOT / "tools/diodecast-link.sh", "high", "status", "high")
    return int(re.search(r"wanted to send (\d+) frames", text).group(1))


def give_ipv6_address(wire):
    wire.run(wire.high, "ip", "address", "replace", "fe80::2/64", "dev", "high", "nodad")


def neighbour(wire):
    return frames.Neighbour(LOW_MAC, HIGH_MAC, wire.LOW_ADDRESS, wire.HIGH_ADDRESS, "fe80::1", "fe80::2")


@pytest.fixture
def wire(link):
    """A link with IPv6 on, whose high end is still down."""
    made = link(ipv6=True)
    made.far_end_down()
    return made


def test_nothing_leaves_a_prepared_high_end(wire, scratch):
    capture = frames.Capture(wire.low, "low")
    before = wire.frames_towards_low()
    prepare_high(wire, scratch)
    give_ipv6_address(wire)
    sender = harness.Sender(scratch / "low", f"{wire.HIGH_ADDRESS}:4700", prefix=wire.in_low)
    receiver = harness.Receiver(scratch / "high", f"{wire.HIGH_ADDRESS}:4700", [sender.public], prefix=wire.in_high)
    receiver.start()
    sender.start()
    receiver.wait_heard()

    # The demo, alone.
    item = content.write_file(scratch / "wheel.whl", 300_000)
    facts = content.facts(item)
    sender.drop(item)
    receiver.wait_delivered("wheel.whl").check(facts, sender.public)

    # Scans and floods, with a transfer under way and restarts of the receiver.
    flood = frames.Flood(wire.low, "low", neighbour(wire), PORTS)
    sender.drop(content.write_file(scratch / "model", SIZE, seed=1))
    for _ in range(RESTARTS):
        receiver.stop()
        receiver.start()
    wait_until(lambda: flood.scans >= SCANS, 600, "a scan of all ports")
    sent = flood.stop()
    item = content.write_file(scratch / "after.whl", 300_000, seed=2)
    facts = content.facts(item)
    sender.drop(item)
    receiver.wait_delivered("after.whl").check(facts, sender.public)
    receiver.stop()

    wanted = held_back(wire)
    print(f"\n{sent} frames and {RESTARTS} restarts: the high side's kernel wanted to send {wanted} frames")
    assert wanted > 100
    seen = capture.stop()
    assert seen == {}
    assert wire.frames_towards_low() - before == 0


def test_without_it_the_test_sees_what_the_kernel_answers(wire):
    capture = frames.Capture(wire.low, "low")
    before = wire.frames_towards_low()
    wire.far_end_up()
    give_ipv6_address(wire)
    flood = frames.Flood(wire.low, "low", neighbour(wire), PORTS)
    expected = {"ARP", "ICMP", "MLD", "TCP", "ICMPv6", "neighbour advertisement"}
    begun = time.monotonic()
    wait_until(lambda: expected <= set(capture.seen), NOISE_S, lambda: f"{expected}; seen: {capture.seen}")
    flood.stop()
    seen = capture.stop()
    print(f"\nwithout it, in {time.monotonic() - begun:.1f} s: {seen}")
    assert wire.frames_towards_low() - before >= sum(seen.values()) > 0
