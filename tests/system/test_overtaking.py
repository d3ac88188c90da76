# SPDX-License-Identifier: Apache-2.0
"""A large transfer that small urgent ones overtake all the time: nothing on its way is ever told as lost."""

import time

import content
import pytest

WHEEL = 256 << 10
RATE_MBIT = 10  # slow, so that a long transfer is no large one


def false_entries(status):
    transfers = status["transfers"]
    return [*transfers["never_seen"], *transfers["incomplete"], *status["alarms"],
            *(reason["code"] for reason in status["reasons"])]


def wheels_beside_a_model(both, scratch, seconds):
    """A model that takes so long, and wheels one after another; how many wheels overtook it, and how many statuses were
    looked at."""
    sender, receiver = both.sender, both.receiver
    receiver.wait_heard()
    model = content.write_file(scratch / "model", int(seconds * RATE_MBIT * 1e6 / 8 * 0.85))
    expected = content.facts(model)
    begun = time.monotonic()
    sender.drop(model, "models")
    receiver.wait_status(lambda status: status["transfers"]["open"], "the model is open")
    seen = set()
    wheels = 0

    def look(status):
        assert false_entries(status) == [], f"after {time.monotonic() - begun:.0f} s and {wheels} wheels: {status}"
        seen.add(status["written_at"])
        return status

    def is_over():
        return any(one.name == "model" for one in receiver.deliveries("models"))

    while not is_over():
        wheels += 1
        name = f"wheel-{wheels}"
        sender.drop(content.write_file(scratch / name, WHEEL, seed=wheels), "wheels")
        receiver.wait_status(
            lambda status, wheel=wheels: look(status)["transfers"]["delivered_total"] >= wheel, "the wheel")
    took = time.monotonic() - begun
    receiver.wait_status(lambda status: look(status)["transfers"]["delivered_total"] == wheels + 1, "all is there")
    # Numbers are told as settled after their last copies; a few heartbeats later nothing has turned up either.
    receiver.wait_status(lambda status: look(status)["senders"][0]["settled_sequence"] == wheels + 1, "all is settled")
    last = len(seen)
    receiver.wait_status(lambda status: look(status) and len(seen) >= last + 3, "a few more statuses")
    receiver.wait_delivered("model", "models").check(expected, sender.public)
    print(f"a model of {took:.0f} s, {wheels} wheels overtook it, {len(seen)} statuses without an entry")
    return took, wheels


@pytest.mark.long
def test_nothing_is_told_as_lost_in_ten_minutes_of_wheels_that_overtake_a_model(pair, scratch, seconds=600):
    both = pair(damage={"drop": "0.2%"}, link={"rate": f"{RATE_MBIT}Mbit/s"}, replay={"idle_resend": "on"},
                channels={"models": {"priority": "low"}, "wheels": {"priority": "high"}})
    took, wheels = wheels_beside_a_model(both, scratch, seconds)
    assert took >= seconds and wheels >= seconds / 8
