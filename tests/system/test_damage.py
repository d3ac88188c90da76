# SPDX-License-Identifier: Apache-2.0
"""Losses beyond what FEC repairs stay with the transfer that they hit, and nothing in flight is called lost."""

import content
import relay
from waiting import holds_for

BULK, WHEEL = 30 << 20, 5 << 20
CHANNELS = {"models": {"priority": "low"}, "wheels": {"priority": "high"}}


def never_seen(status):
    return status.get("transfers", {}).get("never_seen", [])


def test_a_transfer_that_lost_a_block_stays_incomplete_and_the_other_is_delivered(pair, scratch):
    lose = relay.LoseOneBlock(BULK)
    both = pair(relay=lambda port: relay.Relay(port, lose), channels=CHANNELS, link={"rate": "100Mbit/s"})
    both.receiver.wait_heard()
    wheel = content.write_file(scratch / "wheel.whl", WHEEL)
    expected = content.facts(wheel)
    both.sender.drop(content.write_file(scratch / "model.bin", BULK), "models")
    both.sender.drop(wheel, "wheels")
    both.receiver.wait_delivered("wheel.whl", "wheels").check(expected, both.sender.public)
    status = both.receiver.wait_status(lambda status: status["transfers"]["incomplete"], "the incomplete transfer", 60)
    assert lose.victim is not None
    (incomplete,) = status["transfers"]["incomplete"]
    # One block is gone, and not more.
    assert 0 < incomplete["missing_bytes"] <= 200 * 9216
    assert incomplete["sequence"] == 2
    assert never_seen(status) == []
    assert status["fec"]["failed_total"] == 1
    both.sender.wait_sent(2)
    holds_for(lambda: [one.name for one in both.receiver.deliveries()] == ["wheel.whl"], 1, "the damaged one stays out")
    assert any((both.receiver.intake / ".staging").iterdir())
    # What comes later is not held up by the one that waits.
    both.sender.drop(content.write_file(scratch / "later", 1 << 20), "models")
    both.receiver.wait_delivered("later", "models")


def test_a_wheel_that_overtakes_a_bulk_transfer_is_first_and_nothing_is_called_never_seen(pair, scratch):
    both = pair(channels=CHANNELS, link={"rate": "100Mbit/s"})
    both.receiver.wait_heard()
    both.sender.drop(content.write_file(scratch / "model.bin", 2 * BULK), "models")
    both.receiver.wait_status(lambda status: status["transfers"]["open"], "the bulk transfer has begun")
    both.sender.drop(content.write_file(scratch / "wheel.whl", WHEEL), "wheels")
    seen = []

    def delivered(status):
        seen.extend(never_seen(status))
        return status["transfers"]["delivered_total"] == 2

    both.receiver.wait_delivered("wheel.whl", "wheels")
    assert both.receiver.deliveries("models") == []
    both.receiver.wait_status(delivered, "both deliveries", 60)
    assert seen == []
    (wheel,), (model,) = both.receiver.deliveries("wheels"), both.receiver.deliveries("models")
    assert (wheel.sequence, model.sequence) == (1, 2)


def test_a_transfer_of_which_nothing_arrived_is_known_as_never_seen(pair, scratch):
    state = {"dark": False, "lost": set()}

    def blackout(view):
        if state["dark"]:
            state["lost"].add(view.block)
        return [] if view.block in state["lost"] else None

    both = pair(relay=lambda port: relay.Relay(port, blackout))
    both.receiver.wait_heard()
    both.sender.drop(content.write_file(scratch / "first", 1000))
    both.receiver.wait_delivered("first")
    both.sender.wait_sent(1)
    state["dark"] = True
    both.sender.drop(content.write_file(scratch / "unseen", 1000))
    both.sender.wait_sent(2)
    state["dark"] = False
    status = both.receiver.wait_status(never_seen, "the transfer that was never seen", 60)
    (lost,) = never_seen(status)
    assert (lost["first"], lost["last"]) == (2, 2)
    assert status["health"] == "degraded"


def test_losing_as_many_symbols_as_there_is_repair_costs_nothing(pair, scratch):
    def drop_first_symbols(view):
        return [] if view.esi < view.r else None

    both = pair(relay=lambda port: relay.Relay(port, drop_first_symbols), link={"rate": "100Mbit/s"})
    file = content.write_file(scratch / "repaired", 5 << 20)
    expected = content.facts(file)
    both.sender.drop(file)
    both.receiver.wait_delivered("repaired").check(expected, both.sender.public)
    status = both.receiver.wait_status(lambda status: status["transfers"]["delivered_total"] == 1, "the delivery")
    assert status["fec"]["failed_total"] == 0
    assert status["fec"]["repaired_total"] > 0
