# SPDX-License-Identifier: Apache-2.0
"""The high side's own troubles: no space, silence, restarts, lost copies. Others go on, and the status tells."""

import os
import shutil
import struct
import subprocess

import content
import harness
import pytest
import relay
from waiting import wait_until

FRAME_MANIFEST = 3
MIB = 1 << 20


def codes(status):
    return {reason["code"] for reason in status.get("reasons", [])}


def transfers_in(status, state):
    return [one["name"] for one in status["transfers"]["open"] if one["state"] == state]


def received(size):
    """A condition: some open transfer has more than `size` bytes."""
    return lambda status: any(one["bytes_received"] > size for one in status["transfers"]["open"])


def staged(receiver):
    return os.listdir(receiver.intake / ".staging")


class OnlyTheLastCopy:
    """decide() that drops the blocks of the first copies of each manifest."""

    def __init__(self, dropped_copies):
        self.dropped_copies = dropped_copies
        self.blocks = set()
        self.seen = set()

    def __call__(self, view):
        at = relay.SYMBOL
        if view.esi == 0 and view.bytes[at] == FRAME_MANIFEST:
            (copy,) = struct.unpack_from("<H", view.bytes, at + 8 + 26)
            self.seen.add(copy)
            if copy in self.dropped_copies:
                self.blocks.add(view.block)
        return [] if view.block in self.blocks else None


def test_one_copy_of_the_manifest_is_enough(pair, scratch):
    decide = OnlyTheLastCopy({0, 1})
    both = pair(relay=lambda port: relay.Relay(port, decide))
    both.receiver.wait_heard()
    file = content.write_file(scratch / "file", 3 * MIB)
    expected = content.facts(file)
    both.sender.drop(file)
    both.receiver.wait_delivered("file").check(expected, both.sender.public)
    assert decide.seen == {0, 1, 2} and decide.blocks
    assert both.receiver.status()["transfers"]["never_seen"] == []


def test_a_silent_sender_is_missed_and_its_return_seen(pair, scratch):
    both = pair()
    both.receiver.wait_heard()
    assert "heartbeat_missing" not in codes(both.receiver.status())
    both.sender.kill()
    status = both.receiver.wait_status(lambda status: "heartbeat_missing" in codes(status), "the silence", 8)
    assert status["health"] == "degraded"
    both.sender.start()
    both.receiver.wait_status(lambda status: "heartbeat_missing" not in codes(status), "the sender again")


def test_one_of_two_senders_that_is_away_over_a_restart_is_missed(pair, scratch):
    both = pair()
    other = harness.Sender(scratch / "other", f"127.0.0.1:{both.port}")
    shutil.copy(other.public, both.receiver.trusted / "other.pub")
    both.receiver.stop()
    other.start()
    both.receiver.start()
    both.receiver.wait_status(
        lambda status: sum(one["last_heartbeat_at"] is not None for one in status["senders"]) == 2, "both senders")
    assert "heartbeat_missing" not in codes(both.receiver.status())
    both.receiver.stop()
    other.kill()
    both.receiver.start()
    both.receiver.wait_heard()
    status = both.receiver.wait_status(lambda status: "heartbeat_missing" in codes(status), "the silence", 10)
    (missed,) = [one["sender_id"] for one in status["senders"] if one["last_heartbeat_at"] is None]
    assert any(missed in reason["action"] for reason in status["reasons"])


def test_a_sender_that_was_killed_goes_on_with_the_same_transfer(pair, scratch):
    both = pair(link={"rate": "100Mbit/s"})
    both.receiver.wait_heard()
    file = content.write_file(scratch / "bulk", 30 * MIB)
    expected = content.facts(file)
    both.sender.drop(file)
    both.receiver.wait_status(received(5 * MIB), "some of it")
    both.sender.kill()
    both.sender.start()
    both.receiver.wait_delivered("bulk").check(expected, both.sender.public)
    both.sender.wait_sent(1)
    status = both.receiver.wait_status(lambda status: status["transfers"]["delivered_total"] == 1, "the delivery")
    assert status["transfers"]["never_seen"] == [] and status["transfers"]["damaged_total"] == 0
    assert status["frames"]["duplicate_total"] > 0  # what had arrived before counted
    assert len(both.receiver.deliveries()) == 1


def test_an_item_that_changes_is_aborted_and_comes_whole_later(pair, scratch):
    both = pair(link={"rate": "60Mbit/s"})
    both.receiver.wait_heard()
    file = content.write_file(scratch / "growing", 20 * MIB)
    both.sender.drop(file)
    both.receiver.wait_status(received(MIB), "some of it")
    (claimed,) = [path for path in (both.sender.spool / ".sending").rglob("growing")]
    with open(claimed, "ab") as out:
        out.write(b"and more")
    expected = content.facts(claimed)
    both.receiver.wait_status(lambda status: status["transfers"]["aborted_total"] == 1, "the abort", 60)
    both.receiver.wait_delivered("growing").check(expected, both.sender.public)
    status = both.receiver.wait_status(lambda status: status["transfers"]["delivered_total"] == 1, "the delivery")
    assert status["transfers"]["open"] == [] and status["transfers"]["never_seen"] == []
    wait_until(lambda: not staged(both.receiver), 10, "nothing of either stays in staging")


def test_a_restarted_receiver_knows_the_loss_and_clears_what_nobody_needs(pair, scratch):
    both = pair(link={"rate": "100Mbit/s"})
    both.receiver.wait_heard()
    both.sender.drop(content.write_file(scratch / "first", MIB))
    both.receiver.wait_delivered("first")
    both.sender.drop(content.write_file(scratch / "bulk", 30 * MIB))
    both.receiver.wait_status(received(5 * MIB), "some of it")
    both.receiver.kill()
    (both.receiver.intake / ".staging" / "trash-7").mkdir()
    both.receiver.start()
    both.sender.wait_sent(2)
    status = both.receiver.wait_status(
        lambda status: "transfers_incomplete" in codes(status) and status["transfers"]["incomplete"], "the known loss")
    assert status["transfers"]["never_seen"] == []
    assert [one["sequence"] for one in status["transfers"]["incomplete"]] == [2]
    (action,) = [one["action"] for one in status["reasons"] if one["code"] == "transfers_incomplete"]
    assert "default/bulk" in action
    assert [one.name for one in both.receiver.deliveries()] == ["first"]
    before = staged(both.receiver)
    assert len(before) == 1
    both.receiver.stop()
    both.receiver.start()
    assert staged(both.receiver) == before
    again = both.receiver.wait_status(lambda status: status["transfers"]["incomplete"], "the loss is known again")
    assert again["transfers"]["incomplete"][0]["missing_bytes"] == status["transfers"]["incomplete"][0]["missing_bytes"]
    assert again["transfers"]["never_seen"] == []


@pytest.fixture
def small_disk(scratch):
    """A receiver's intake of 100 MiB."""
    intake = scratch / "high" / "intake"
    intake.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100m,mode=0755", "tmpfs", intake], check=True)
    yield intake
    for program in list(harness.Program.running):
        program.kill()
    subprocess.run(["umount", "-l", intake], check=True)


def fill(path, size):
    with open(path, "wb") as out:
        os.posix_fallocate(out.fileno(), 0, size)


@pytest.mark.root
def test_what_does_not_fit_the_disk_waits_and_others_go_on(small_disk, pair, scratch):
    both = pair(link={"rate": "40Mbit/s"}, channels={"urgent": {"priority": "high"}},
                receiver={"receiver": {"reserve": "16MiB"}})
    both.receiver.wait_heard()
    fill(small_disk / ".filler", 72 * MIB)
    both.receiver.wait_status(lambda status: status["intake"]["free_bytes"] < 29 * MIB, "the filler")
    both.sender.drop(content.write_file(scratch / "big", 20 * MIB))
    status = both.receiver.wait_status(lambda status: transfers_in(status, "waiting_for_space"), "the wait")
    assert "intake_full" in codes(status) and status["health"] == "degraded"
    small = content.write_file(scratch / "small", MIB)
    expected = content.facts(small)
    both.sender.drop(small, "urgent")
    both.receiver.wait_delivered("small", "urgent").check(expected, both.sender.public)
    os.unlink(small_disk / ".filler")
    both.receiver.wait_status(lambda status: "intake_full" not in codes(status), "space again")
    again = content.write_file(scratch / "again", 20 * MIB)
    expected = content.facts(again)
    both.sender.drop(again, "urgent")
    both.receiver.wait_delivered("again", "urgent").check(expected, both.sender.public)
    status = both.receiver.wait_status(lambda status: status["transfers"]["incomplete"], "what was not stored", 60)
    assert "transfers_incomplete" in codes(status)


@pytest.mark.root
def test_a_disk_that_fills_up_on_the_way_harms_only_what_was_on_its_way(small_disk, pair, scratch):
    both = pair(link={"rate": "60Mbit/s"}, receiver={"receiver": {"reserve": "16MiB"}})
    both.receiver.wait_heard()
    before = content.write_file(scratch / "before", MIB)
    expected_before = content.facts(before)
    both.sender.drop(before)
    delivered = both.receiver.wait_delivered("before")
    both.sender.drop(content.write_file(scratch / "hit", 20 * MIB))
    both.receiver.wait_status(received(MIB), "some of it")
    free = os.statvfs(small_disk)
    fill(small_disk / ".filler", free.f_bavail * free.f_frsize - 2 * MIB)
    status = both.receiver.wait_status(lambda status: "intake_full" in codes(status), "the full disk")
    assert status["health"] == "degraded"
    both.sender.wait_sent(2)
    both.receiver.wait_status(lambda status: status["transfers"]["incomplete"], "what is missing", 60)
    delivered.check(expected_before, both.sender.public)
    os.unlink(small_disk / ".filler")
    both.receiver.wait_status(lambda status: status["intake"]["free_bytes"] > 70 * MIB, "space again")
    after = content.write_file(scratch / "after", 10 * MIB)
    expected = content.facts(after)
    both.sender.drop(after)
    both.receiver.wait_delivered("after").check(expected, both.sender.public)
    assert [one.name for one in both.receiver.deliveries()] == ["before", "after"]
