# SPDX-License-Identifier: Apache-2.0
"""A link that goes away: the sender notices, waits, and goes on where the link left off."""

import content
import harness
import pytest

pytestmark = pytest.mark.root


def reasons(status):
    return " ".join(reason["code"] for reason in status["reasons"])


def test_a_transfer_survives_the_loss_of_the_carrier(link, scratch):
    made = link()
    sender = harness.Sender(scratch / "low", f"{made.HIGH_ADDRESS}:4700", prefix=made.in_low,
                            link={"rate": "100Mbit/s"})
    receiver = harness.Receiver(scratch / "high", f"{made.HIGH_ADDRESS}:4700", [sender.public], prefix=made.in_high)
    receiver.start()
    sender.start()
    file = content.write_file(scratch / "long", 40 << 20)
    expected = content.facts(file)
    sender.drop(file)
    for _ in range(2):
        receiver.wait_status(lambda status: status["transfers"]["open"], "the transfer under way")
        made.far_end_down()
        sender.wait_status(lambda status: "carrier" in reasons(status), "the missing carrier named")
        made.far_end_up()
        sender.wait_status(lambda status: "carrier" not in reasons(status), "the carrier back")
    receiver.wait_delivered("long").check(expected, sender.public)
    assert made.frames_towards_low() == 0


def test_a_sender_that_starts_without_carrier_waits_for_it(link, scratch):
    made = link()
    made.far_end_down()
    sender = harness.Sender(scratch / "low", f"{made.HIGH_ADDRESS}:4700", prefix=made.in_low)
    receiver = harness.Receiver(scratch / "high", "0.0.0.0:4700", [sender.public], prefix=made.in_high)
    receiver.start()
    sender.drop(content.write_file(scratch / "patient", 1 << 20))
    sender.start()
    sender.wait_status(lambda status: "carrier" in reasons(status), "the missing carrier named")
    made.far_end_up()
    receiver.wait_delivered("patient")


def test_with_carrier_ignore_it_sends_all_the_same(link, scratch):
    made = link()
    made.far_end_down()
    sender = harness.Sender(scratch / "low", f"{made.HIGH_ADDRESS}:4700", prefix=made.in_low,
                            link={"carrier": "ignore"})
    sender.drop(content.write_file(scratch / "gone", 1 << 20))
    sender.start()
    sender.wait_sent(1)


def test_an_interface_that_goes_down_and_comes_back(link, scratch):
    """Sending fails with ENETUNREACH or ENETDOWN meanwhile; that is counted and retried."""
    made = link()
    sender = harness.Sender(scratch / "low", f"{made.HIGH_ADDRESS}:4700", prefix=made.in_low,
                            link={"rate": "100Mbit/s"})
    receiver = harness.Receiver(scratch / "high", f"{made.HIGH_ADDRESS}:4700", [sender.public], prefix=made.in_high)
    receiver.start()
    sender.start()
    file = content.write_file(scratch / "long", 20 << 20)
    expected = content.facts(file)
    sender.drop(file)
    receiver.wait_status(lambda status: status["transfers"]["open"], "the transfer under way")
    made.run(made.low, "ip", "link", "set", "low", "down")
    sender.wait_status(lambda status: status["health"] != "ok", "the missing link named")
    made.up()
    receiver.wait_delivered("long").check(expected, sender.public)
    assert sender.program.is_running()


def test_an_mtu_that_shrinks_is_said_and_the_sender_lives(link, scratch):
    made = link(mtu=9000)
    sender = harness.Sender(scratch / "low", f"{made.HIGH_ADDRESS}:4700", prefix=made.in_low, link={"mtu": "auto"})
    sender.start()
    made.run(made.low, "ip", "link", "set", "low", "mtu", 1500)
    sender.drop(content.write_file(scratch / "too wide", 1 << 20))
    status = sender.wait_status(lambda status: "mtu" in reasons(status) or "too_long" in reasons(status), "EMSGSIZE")
    assert status["health"] != "ok"
    assert sender.program.is_running()


def test_datagrams_that_a_full_queue_drops_are_named(link, scratch):
    """The kernel calls such a send a success, so that nothing but its counter tells."""
    made = link()
    said = made.run(made.low, "tc", "qdisc", "add", "dev", "low", "root", "tbf", "rate", "20mbit", "burst", "20kb",
                    "limit", "40kb", quiet=True)
    if said.strip():
        pytest.skip(f"this kernel has no token bucket filter: {said}")
    sender = harness.Sender(scratch / "low", f"{made.HIGH_ADDRESS}:4700", prefix=made.in_low,
                            link={"rate": "100Mbit/s"})
    sender.start()
    sender.drop(content.write_file(scratch / "too fast", 4 << 20))
    status = sender.wait_status(lambda status: "queue_overflow" in reasons(status), "the drops named")
    assert status["health"] == "degraded"
    assert status["link"]["queue_overflows"] > 0
