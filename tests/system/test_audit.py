# SPDX-License-Identifier: Apache-2.0
"""The audit logs of both sides of a small day: they verify, they join, and what is done to them shows."""

import getpass
import json
import os
import re
import shutil
from collections import Counter

import content
import harness
import pytest
from waiting import holds_for, wait_until

ANCHOR = re.compile(r"audit anchor (\d+:[0-9a-f]{64})")


def make_sides(scratch):
    port = harness.free_port()
    sender = harness.Sender(scratch / "low", f"127.0.0.1:{port}")
    receiver = harness.Receiver(scratch / "high", f"127.0.0.1:{port}", [sender.public])
    return sender, receiver


def records(daemon):
    found = []
    for file in sorted((daemon.state / "audit").glob("audit-*.jsonl")):
        for line in file.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                found.append(json.loads(line))
    return found


def wait_recorded(daemon, event, **members):
    def look():
        return next((one for one in records(daemon) if one["event"] == event
                     and all(one.get(key) == value for key, value in members.items())), None)

    return wait_until(look, 30, f"{event} {members} in {daemon.state}/audit", watch=[daemon.state / "audit"],
                      alive=[daemon.program])


def anchors(daemon):
    return ANCHOR.findall(daemon.program.log.read_text())


def audit(*arguments, code):
    return harness.diodecast("audit", *arguments, check=code).stdout


def deliver(sender, receiver, scratch, name, size=50_000):
    sender.drop(content.write_file(scratch / name, size, seed=len(name)), "tools")
    receiver.wait_delivered(name, "tools")


def test_the_logs_of_a_day_verify_and_join_and_a_flipped_byte_and_a_cut_end_are_found(scratch):
    sender, receiver = make_sides(scratch)
    receiver.start()
    sender.start()
    receiver.wait_heard()
    for number in range(3):
        deliver(sender, receiver, scratch, f"item-{number}")
    fifo = sender.channel("tools") / ".hidden"
    os.mkfifo(fifo)
    fifo.rename(sender.channel("tools") / "pipe")
    sender.wait_failed(b"pipe")
    sender.wait_sent(3)
    wait_recorded(sender, "sent", sequence=3)
    harness.diodecast("replay", "-c", sender.config, "--sequence", "2", check=0)
    wait_recorded(sender, "replayed", sequence=2)

    sender.kill()
    receiver.kill()
    before = receiver.newest_epoch()
    receiver.start()
    sender.start()
    receiver.wait_heard(after=before)
    deliver(sender, receiver, scratch, "after-the-kill")
    sender.wait_sent(4)
    assert sender.stop() == 0
    assert receiver.stop() == 0

    for side in (sender, receiver):
        assert "VERIFIED" in audit("verify", side.state, code=0)
        assert "orderly stop" in audit("verify", side.state, code=0)
        assert "1 run ended without a stop" in audit("verify", side.state, code=0)
    low, high = records(sender), records(receiver)
    assert [one["sequence"] for one in high if one["event"] == "delivered"] == [1, 2, 3, 4]
    assert [one["sequence"] for one in low if one["event"] == "sent"] == [1, 2, 3, 4]
    assert [one["name"] for one in low if one["event"] == "refused"] == ["pipe"]
    assert [(one["sequence"], one["actor"]) for one in low if one["event"] == "asked"] == [(2, getpass.getuser())]
    assert "4 transfers were sent and delivered, 0 don't match" in audit("join", sender.state, receiver.state, code=0)
    check_story(sender, receiver)
    check_damage_is_found(receiver, scratch)
    check_deliveries_without_a_sender_are_found(sender, receiver, scratch)


def check_story(sender, receiver):
    expected = ["accepted", "signed and numbered", "sent, with all copies", "sent again"]
    for key in ("item-1", "2", next(one["transfer"] for one in records(sender) if one.get("name") == "item-1")):
        story = audit("show", sender.state, "--transfer", key, code=0).splitlines()
        asked = [line for line in story if "asked for again" in line]
        story = [line for line in story if line not in asked]
        assert len(asked) == (key == "2") and len(story) == 4
        for line, phrase in zip(story, expected):
            assert phrase in line
    story = audit("show", receiver.state, "--transfer", "item-1", code=0)
    assert story.index("verified") < story.index("delivered")


def check_damage_is_found(receiver, scratch):
    copy = scratch / "copy"
    shutil.copytree(receiver.state / "audit", copy)
    newest = copy / "audit-00000001.jsonl"
    text = newest.read_bytes()
    anchor = anchors(receiver)[-1]
    assert "anchored" in audit("verify", copy, "--anchor", anchor, code=0)
    assert "anchored" in audit("verify", copy, "--anchors", receiver.program.log, code=0)

    middle = len(text) // 2
    newest.write_bytes(text[:middle] + bytes([text[middle] ^ 1]) + text[middle + 1:])
    assert re.search(r"PROBLEM .*audit-00000001.jsonl:\d+: ", audit("verify", copy, code=65))

    lines = text.splitlines(keepends=True)
    newest.write_bytes(b"".join(lines[:-2]))
    assert "VERIFIED" in audit("verify", copy, code=0), "an end that nothing outside tells of can't be missed"
    assert "its end was cut off" in audit("verify", copy, "--anchor", anchor, code=65)
    newest.write_bytes(b"".join(lines[:-2]) + lines[-2][:20])
    assert "torn" in audit("verify", copy, code=65)
    newest.write_bytes(b"".join(lines[1:]))
    assert "those before are not here" in audit("verify", copy, code=65)


def check_deliveries_without_a_sender_are_found(sender, receiver, scratch):
    copy = scratch / "low-copy"
    shutil.copytree(sender.state / "audit", copy)
    newest = copy / "audit-00000001.jsonl"
    kept = [line for line in newest.read_text().splitlines(keepends=True) if '"sequence":4' not in line]
    newest.write_text("".join(kept))
    assert "never sent, delivered" in audit("join", copy, receiver.state, code=65)


@pytest.fixture
def small_file_system():
    """A factory: small_file_system(directory) mounts one that fills quickly."""
    mounted = []

    def make(directory):
        directory.mkdir(mode=0o700)
        harness.run(["mount", "-t", "tmpfs", "-o", "size=512k,mode=700", "tmpfs", directory], check=0)
        mounted.append(directory)

    yield make
    for directory in mounted:
        harness.run(["umount", "--lazy", directory], check=0)


def fill(directory):
    filler = directory / "filler"
    with open(filler, "wb", buffering=0) as file:
        with pytest.raises(OSError):
            while True:
                file.write(bytes(4096))
    return filler


@pytest.mark.root
@pytest.mark.parametrize("full_side", ["low", "high"])
def test_what_can_not_be_recorded_waits_and_goes_on_by_itself(scratch, small_file_system, full_side):
    sender, receiver = make_sides(scratch)
    full = sender if full_side == "low" else receiver
    small_file_system(full.state / "audit")
    receiver.start()
    sender.start()
    receiver.wait_heard()
    deliver(sender, receiver, scratch, "first")
    filler = fill(full.state / "audit")
    names = [f"item-{number:02}" for number in range(40)]
    for name in names:  # more than the last page of the log still has room for
        sender.drop(content.write_file(scratch / name, 500), "tools")
    full.wait_status(lambda status: any(one["code"] == "audit_failed" for one in status["reasons"]), "audit_failed")
    if full_side == "low":  # what is claimed in this moment goes on; what is dropped from now on stays
        late = [f"late-{number}" for number in range(3)]
        for name in late:
            sender.drop(content.write_file(scratch / name, 500), "tools")
        names += late
        holds_for(lambda: all((sender.spool / "tools" / name).exists() for name in late), 1.5, "nothing is claimed")
    else:
        there = len(receiver.deliveries())
        assert there < 1 + len(names)
        holds_for(lambda: len(receiver.deliveries()) == there, 1.5, "nothing is delivered")
    filler.unlink()
    receiver.wait_count(1 + len(names))
    full.wait_status(lambda status: all(one["code"] != "audit_failed" for one in status["reasons"]), "health again")
    sender.wait_sent(1 + len(names))
    assert sender.stop() == 0
    assert receiver.stop() == 0
    for side in (sender, receiver):
        assert "VERIFIED" in audit("verify", side.state, code=0)
    assert any(one["event"] == "resumed" and "; 0 records are lost" in one["detail"] for one in records(full))
    for side, event in ((sender, "accepted"), (sender, "sealed"), (sender, "sent"), (receiver, "verified"),
                        (receiver, "delivered")):
        assert Counter(one["name"] for one in records(side) if one["event"] == event) == Counter(["first", *names])
    assert f"{1 + len(names)} transfers were sent" in audit("join", sender.state, receiver.state, code=0)
