# SPDX-License-Identifier: Apache-2.0
"""Transfers that are under way when the receiver ends, and a staging file system that is full."""

import os
import subprocess

import content
import harness
import pytest

MIB = 1 << 20
BULK = 300 * MIB
RATE = 300_000_000 / 8  # bytes a second


def open_transfer(status, name):
    return next((one for one in status.get("transfers", {}).get("open", []) if one["name"] == name), None)


def held(status, name):
    found = open_transfer(status, name)
    return found["bytes_received"] if found else 0


def codes(status):
    return [one["code"] for one in status.get("reasons", [])]


def incomplete(status, name):
    return next((one for one in status["transfers"]["incomplete"] if one["name"] == name), None)


def start_bulk(both, scratch, size, until):
    """Sends "bulk" and waits until that many bytes of it are held; returns how many are."""
    both.receiver.wait_heard()
    both.sender.drop(content.write_file(scratch / "bulk", size))
    status = both.receiver.wait_status(lambda one: held(one, "bulk") >= until, f"{until} bytes of bulk")
    return held(status, "bulk")


def test_a_killed_receiver_has_what_it_had_recorded(pair, scratch):
    both = pair(link={"rate": "300Mbit/s"})
    before = start_bulk(both, scratch, BULK, 150 * MIB)
    both.receiver.kill()
    both.receiver.start(wait=False)
    status = both.receiver.wait_status(lambda one: open_transfer(one, "bulk"), "bulk is open again")
    kept = held(status, "bulk")
    assert kept >= before - 3 * RATE  # all but what was written since the last checkpoint
    both.sender.wait_sent(1)
    status = both.receiver.wait_status(lambda one: incomplete(one, "bulk"), "the known loss")
    missing = incomplete(status, "bulk")["missing_bytes"]
    assert 0 < missing < BULK - kept
    assert missing == BULK - held(status, "bulk")
    assert status["transfers"]["delivered_total"] == 0
    both.receiver.kill()
    both.receiver.start()
    status = both.receiver.wait_status(lambda one: incomplete(one, "bulk"), "the same loss")
    assert incomplete(status, "bulk")["missing_bytes"] <= missing + 2 * RATE


def test_a_stopped_receiver_loses_no_byte_that_it_had_stored(pair, scratch):
    both = pair(link={"rate": "300Mbit/s"})
    before = start_bulk(both, scratch, BULK // 2, 40 * MIB)
    for number in range(3):
        both.receiver.stop()
        last = held(both.receiver.status(), "bulk")  # written when it began to stop
        assert last >= before
        both.receiver.start(wait=False)
        status = both.receiver.wait_status(lambda one: open_transfer(one, "bulk"), "bulk is open again")
        assert held(status, "bulk") >= last
        before = held(status, "bulk")
        if number < 2:
            both.receiver.wait_status(lambda one, more=before + 15 * MIB: held(one, "bulk") >= more, "it goes on")


@pytest.fixture
def small_disk(scratch):
    """A receiver's intake of 100 MiB with a real file system."""
    intake = scratch / "high" / "intake"
    intake.mkdir(parents=True)
    image = scratch / "disk"
    with open(image, "wb") as out:
        out.truncate(100 * MIB)
    harness.run(["mkfs.ext4", "-q", "-m", "0", image], check=0)
    mounted = subprocess.run(["mount", "-o", "loop", image, intake], check=False, stderr=subprocess.PIPE, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"no loop devices here: {mounted.stderr.strip()}")
    yield intake
    for program in list(harness.Program.running):
        program.kill()
    subprocess.run(["umount", "-l", intake], check=True)


@pytest.mark.root
def test_a_full_staging_harms_the_running_transfer_only_and_heals(small_disk, pair, scratch):
    both = pair(link={"rate": "60Mbit/s"}, channels={"urgent": {"priority": "high"}},
                receiver={"receiver": {"reserve": "1MiB"}})
    both.receiver.wait_heard()
    both.sender.drop(content.write_file(scratch / "running", 60 * MIB))
    both.receiver.wait_status(lambda one: held(one, "running") >= 10 * MIB, "some of it")
    # Somebody else takes the rest of the disk, but for what a small transfer needs.
    free = os.statvfs(small_disk)
    filler = small_disk / ".filler"
    with open(filler, "wb") as out:
        os.posix_fallocate(out.fileno(), 0, free.f_bavail * free.f_frsize - 12 * MIB)
    small = content.write_file(scratch / "small", MIB)
    expected = content.facts(small)
    both.sender.drop(small, "urgent")
    both.receiver.wait_delivered("small", "urgent").check(expected, both.sender.public)
    status = both.receiver.wait_status(lambda one: "intake_full" in codes(one), "the full disk", 60)
    assert status["health"] == "degraded"
    both.sender.wait_sent(2)
    assert [one.name for one in both.receiver.deliveries()] == ["small"]
    filler.unlink()
    both.receiver.wait_status(lambda one: "intake_full" not in codes(one), "space again", 90)
    again = content.write_file(scratch / "again", 5 * MIB)
    expected = content.facts(again)
    both.sender.drop(again)
    both.receiver.wait_delivered("again").check(expected, both.sender.public)


def test_what_is_larger_than_the_staging_waits_and_others_go_on(pair, scratch):
    both = pair(link={"rate": "100Mbit/s"}, receiver={"receiver": {"staging": "8MiB"}})
    both.receiver.wait_heard()
    both.sender.drop(content.write_file(scratch / "large", 10 * MIB))
    status = both.receiver.wait_status(lambda one: open_transfer(one, "large") and "intake_full" in codes(one),
                                       "it is announced")
    assert open_transfer(status, "large")["state"] == "waiting_for_space"
    fits = content.write_file(scratch / "fits", 2 * MIB)
    expected = content.facts(fits)
    both.sender.drop(fits)
    both.receiver.wait_delivered("fits").check(expected, both.sender.public)
    assert [one.name for one in both.receiver.deliveries()] == ["fits"]
