# SPDX-License-Identifier: Apache-2.0
"""With a link key a flood of ten times the datagrams of a real transfer neither stops it nor costs memory."""

import json
import os
import re
import signal
from pathlib import Path

import content
import harness
import pytest

pytestmark = pytest.mark.root

PORT = 4700
RATE = 50_000_000
FULL_FRAME = 1538  # bytes of Ethernet, preamble and gap included
FLOOD = harness.BUILD / "tests" / "system" / "flood"
EACH_MS = 600
SIZE = 240 << 20 if os.environ.get("DIODECAST_LONG") else 24 << 20
DELIVERY_KIB = 4096  # what the delivery itself may take for the first time; the flood brings more than 300 MB
# What comes of the sender's own datagrams never counts under these reasons, and all that is forged does.
FORGED = ("short", "version", "geometry", "lane", "sender", "tag", "epoch")


def resident_kib(program):
    text = Path(f"/proc/{program.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", text).group(1))


def drops(status):
    """By reason, without those of later stages and of the kernel; and symbols of blocks that were complete."""
    link = status["link"]
    others = ("kernel_socket_buffer", "store_queue_full", "disk_too_slow")
    return {**{name: count for name, count in link["drops"].items() if name not in others},
            "surplus": link["surplus_total"]}


def test_a_transfer_completes_in_a_flood_of_ten_times_its_datagrams(link, fast_scratch):
    made = link(mtu=1500)
    harness.diodecast("keygen", "--link", fast_scratch / "link.key", check=0)
    key = {"key": fast_scratch / "link.key"}
    sender = harness.Sender(fast_scratch / "low", f"{made.HIGH_ADDRESS}:{PORT}", prefix=made.in_low,
                            link={"rate": f"{RATE // 1_000_000}Mbit/s", "mtu": "auto", **key})
    receiver = harness.Receiver(fast_scratch / "high", f"{made.HIGH_ADDRESS}:{PORT}", [sender.public],
                                prefix=made.in_high, link=key).start()
    sender.start()
    receiver.wait_heard()
    file = content.write_file(fast_scratch / "real.bin", SIZE)
    expected = content.facts(file)
    sender.drop(content.write_file(fast_scratch / "before", 1 << 20))
    receiver.wait_delivered("before")

    rate = 10 * RATE // (8 * FULL_FRAME)
    counted = fast_scratch / "flood.json"
    arguments = ["low", made.HIGH_ADDRESS, str(PORT), str(rate), str(EACH_MS), counted]
    attacker = harness.Program("flood", [*made.in_low, FLOOD, *arguments], fast_scratch).start()
    sender.drop(file)
    samples = []

    def delivered(status):
        samples.append(resident_kib(receiver.program))
        return status["transfers"]["delivered_total"] == 2

    receiver.wait_status(delivered, "the transfer in the flood", timeout=SIZE * 8 / RATE * 3 + 30)
    attacker.process.send_signal(signal.SIGTERM)
    assert attacker.wait(10) == 0
    sender.stop()
    receiver.wait_delivered("real.bin").check(expected, sender.public)
    sent = json.loads(counted.read_text())
    injected = sum(sent.values())
    real = sender.status()["link"]["datagrams_sent"]
    assert all(count > rate * EACH_MS / 1000 * 0.8 for count in sent.values()), sent

    # All that the kernel did not drop was counted, and all that was not the sender's was dropped for a reason.
    status = receiver.wait_status(
        lambda status: status["link"]["datagrams_total"] + status["link"]["drops"]["kernel_socket_buffer"]
        >= real + injected, f"{real} + {injected} datagrams counted")
    lost = real + injected - status["link"]["datagrams_total"]
    reasons = drops(status)
    print(f"{real} datagrams of the sender, injected {sent}, lost before the receiver {lost}, dropped {reasons}")
    forged = injected - sent["recorded"]
    assert forged - lost <= sum(reasons[name] for name in FORGED) <= forged
    accepted = status["link"]["datagrams_total"] - sum(reasons.values())
    assert SIZE / 1392 <= accepted <= real
    assert injected - lost <= sum(reasons.values()) <= injected + real - accepted
    assert status["link"]["lost_total"] <= lost
    assert status["fec"]["failed_total"] == 0
    assert status["transfers"]["never_seen_total"] == 0
    settled = samples[len(samples) // 4:]
    assert max(settled) - min(settled) <= DELIVERY_KIB, samples


def test_a_link_key_is_replaced_without_losing_anything(pair, scratch):
    for name in ("old.key", "new.key"):
        harness.diodecast("keygen", "--link", scratch / name, check=0)
    both = pair(link={"key": scratch / "old.key"},
                receiver={"link": {"key": scratch / "old.key", "key_next": scratch / "new.key"}})
    keys = both.receiver.wait_status(lambda status: status["link"]["keys"]["key"]["senders"], "the old key in use")
    assert keys["link"]["keys"]["key_next"] == {"last_used_at": None, "senders": []}
    assert keys["link"]["keys"]["key_is_unused"] is False
    both.sender.drop(content.write_file(scratch / "with the old key", 300_000))
    both.receiver.wait_delivered("with the old key")

    both.sender.stop()
    both.sender.sections["link"]["key"] = scratch / "new.key"
    both.sender.start()
    both.sender.drop(content.write_file(scratch / "with the new key", 300_000))
    both.receiver.wait_delivered("with the new key")
    status = both.receiver.wait_status(lambda status: status["link"]["keys"]["key_is_unused"], "the old key unused")
    keys = status["link"]["keys"]
    assert keys["key"]["senders"] == []
    assert len(keys["key_next"]["senders"]) == 1
    assert sum(status["link"]["drops"].values()) == 0

    # The last step: the new key alone.
    both.receiver.stop()
    both.receiver.sections["link"] = {"listen": f"127.0.0.1:{both.port}", "key": scratch / "new.key"}
    both.receiver.start()
    both.sender.drop(content.write_file(scratch / "afterwards", 300_000))
    both.receiver.wait_delivered("afterwards")
    assert both.receiver.status()["link"]["keys"]["key_next"] is None
