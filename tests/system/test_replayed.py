# SPDX-License-Identifier: Apache-2.0
"""Recordings of the link, played back later: nothing is delivered again, and nothing old passes for new."""

import shutil

import content
import harness
import pytest
import relay
from test_hostile_input import Attacker, drops, resealed

FRAME_HEARTBEAT = 5


def codes(status):
    return [one["code"] for one in status["reasons"]]


def recorded_pair(pair, scratch, sealed, **options):
    link = {}
    if sealed:
        harness.diodecast("keygen", "--link", scratch / "link.key", check=0)
        link = {"key": scratch / "link.key"}
    return pair(relay=lambda port: relay.Relay(port, capture=True), link=link, receiver={"link": link}, **options)


@pytest.mark.parametrize("sealed", [pytest.param(False, id="plain", marks=pytest.mark.long),
                                    pytest.param(True, id="sealed")])
def test_after_a_crash_recordings_deliver_nothing_again_and_those_of_an_old_run_are_not_read(pair, scratch, sealed):
    both = recorded_pair(pair, scratch, sealed)
    both.sender.drop(content.write_file(scratch / "first", 300_000))
    both.receiver.wait_delivered("first")
    both.sender.wait_sent(1)
    both.sender.stop()
    old = list(both.relay.captured)
    before = both.receiver.newest_epoch()
    both.relay.captured.clear()
    both.sender.start()
    both.receiver.wait_heard(after=before)
    both.sender.drop(content.write_file(scratch / "second", 300_000))
    delivered = both.receiver.wait_delivered("second")
    both.sender.wait_sent(2)
    both.sender.stop()
    new = list(both.relay.captured)
    shutil.rmtree(delivered.path)  # a consumer took it

    both.receiver.kill()
    both.receiver.start()
    Attacker(both.receiver, both.port).send(old)
    status = both.receiver.wait_status(lambda status: drops(status)["epoch"] >= len(old), "the old run dropped")
    assert status["link"]["datagrams_total"] == len(old)
    Attacker(both.receiver, both.port).send(new * 2)
    status = both.receiver.wait_status(lambda status: status["link"]["datagrams_total"] >= len(old) + 2 * len(new),
                                       "the recordings counted")
    assert [one.name for one in both.receiver.deliveries()] == ["first"]
    assert status["transfers"]["delivered_total"] == 2
    assert status["transfers"]["never_seen_total"] == 0
    assert status["alarms"] == []

    both.sender.start()
    both.sender.drop(content.write_file(scratch / "third", 300_000))
    both.receiver.wait_delivered("third")


@pytest.mark.long
def test_after_a_restart_recorded_heartbeats_do_not_pass_for_the_sender(pair, scratch):
    both = recorded_pair(pair, scratch, True)
    both.receiver.wait_heard()
    both.sender.stop()
    captured = list(both.relay.captured)
    both.receiver.stop()
    for handover in both.receiver.status_file.parent.glob("handover"):
        handover.unlink()  # so that the blocks are new to it
    both.receiver.start()
    Attacker(both.receiver, both.port).send(captured)
    status = both.receiver.wait_status(lambda status: "waiting_for_sender" in codes(status), "the silence told")
    assert status["fec"]["blocks_total"] > 0
    assert status["link"]["last_heartbeat_at"] is None


class Withhold:
    """decide() that keeps all heartbeats back from begin() on."""

    def __init__(self):
        self.blocks = None

    def begin(self):
        self.blocks = set()

    def __call__(self, view):
        if self.blocks is None:
            return None
        if view.esi == 0 and view.bytes[relay.SYMBOL] == FRAME_HEARTBEAT:
            self.blocks.add(view.block)
        return [] if view.block in self.blocks else None


@pytest.mark.long
def test_heartbeats_that_stay_out_while_data_arrives_are_missed(pair, scratch):
    withhold = Withhold()
    both = pair(relay=lambda port: relay.Relay(port, withhold), link={"rate": "20Mbit/s"})
    both.receiver.wait_heard()
    withhold.begin()
    both.sender.drop(content.write_file(scratch / "data", 20 << 20))
    status = both.receiver.wait_status(lambda status: "heartbeat_missing" in codes(status), "the heartbeats missed")
    (transfer,) = status["transfers"]["open"]
    assert transfer["bytes_received"] > 0
    before = status["link"]["last_datagram_at"]
    both.receiver.wait_status(lambda status: status["link"]["last_datagram_at"] > before, "datagrams going on")


class Poison:
    """decide() that sends a forged symbol of one block, with a good tag, before the true one."""

    def __init__(self, artifact_size):
        self.artifact_size = artifact_size
        self.victim = None

    def __call__(self, view):
        if self.victim is not None:
            return None
        data = view.data_of()
        if not data or data[1] != self.artifact_size:
            return None
        self.victim = view.block
        harmed = bytearray(view.bytes)
        harmed[-1] ^= 1
        return [resealed(bytes(harmed)), view.bytes]


def test_without_a_link_key_a_forged_symbol_costs_its_block_which_comes_again(pair, scratch):
    poison = Poison(2_000_000)
    both = pair(relay=lambda port: relay.Relay(port, poison), replay={"idle_resend": "on"})
    both.receiver.wait_heard()
    file = content.write_file(scratch / "poisoned", 2_000_000)
    expected = content.facts(file)
    both.sender.drop(file)
    both.sender.drop(content.write_file(scratch / "other", 200_000))
    both.receiver.wait_delivered("other")
    status = both.receiver.wait_status(lambda status: status["fec"]["failed_total"] == 1, "the block refused")
    assert poison.victim is not None
    both.receiver.wait_delivered("poisoned").check(expected, both.sender.public)
    assert status["fec"]["failed_total"] == 1
