# SPDX-License-Identifier: Apache-2.0
"""A disk on the high side that does not keep up: it is told by name, costs only what it could not store, and passes."""

import subprocess

import content
import harness
import pytest

MIB = 1 << 20


def codes(status):
    return {reason["code"] for reason in status.get("reasons", [])}


def received(status, name):
    return next((one["bytes_received"] for one in status["transfers"]["open"] if one["name"] == name), 0)


@pytest.fixture
def disk(scratch):
    """A receiver's intake with a real file system, whose writes fsfreeze(8) can hold up for as long as a test wants."""
    intake = scratch / "high" / "intake"
    intake.mkdir(parents=True)
    image = scratch / "disk"
    with open(image, "wb") as out:
        out.truncate(400 * MIB)
    harness.run(["mkfs.ext4", "-q", "-m", "0", image], check=0)
    mounted = subprocess.run(["mount", "-o", "loop", image, intake], check=False, stderr=subprocess.PIPE, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"no loop devices here: {mounted.stderr.strip()}")
    yield intake
    subprocess.run(["fsfreeze", "-u", intake], check=False, stderr=subprocess.DEVNULL)
    for program in list(harness.Program.running):
        program.kill()
    subprocess.run(["umount", "-l", intake], check=True)


@pytest.mark.root
def test_a_disk_that_stands_still_is_named_and_harms_only_what_it_could_not_store(disk, pair, scratch):
    both = pair(link={"rate": "200Mbit/s"}, receiver={"receiver": {"memory": "16MiB", "reserve": "1MiB"}})
    both.receiver.wait_heard()
    before = content.write_file(scratch / "before", MIB)
    expected = content.facts(before)
    both.sender.drop(before)
    both.receiver.wait_delivered("before").check(expected, both.sender.public)
    size = 120 * MIB
    large = content.write_file(scratch / "large", size)
    both.sender.drop(large)
    both.receiver.wait_status(lambda one: received(one, "large") >= 5 * MIB, "some of it")
    subprocess.run(["fsfreeze", "-f", disk], check=True)
    try:
        status = both.receiver.wait_status(lambda one: "disk_too_slow" in codes(one), "the slow disk is named")
    finally:
        subprocess.run(["fsfreeze", "-u", disk], check=True)
    drops = status["link"]["drops"]
    assert status["health"] == "degraded" and "store_too_slow" not in codes(status)
    assert drops["disk_too_slow"] > 0 and drops["memory"] == 0 and drops["kernel_socket_buffer"] == 0
    both.sender.wait_sent(2)
    status = both.receiver.wait_status(lambda one: any(lost["name"] == "large" and lost["ticket"]
                                                       for lost in one["transfers"]["incomplete"]), "what it has cost")
    (lost,) = status["transfers"]["incomplete"]
    assert 0 < lost["missing_bytes"] < size - 5 * MIB
    # The disk is well again: what comes now is stored at once, and nothing is dropped for it.
    dropped = status["link"]["drops"]["disk_too_slow"]
    after = content.write_file(scratch / "after", 30 * MIB)
    expected = content.facts(after)
    both.sender.drop(after)
    both.receiver.wait_delivered("after").check(expected, both.sender.public)
    status = both.receiver.status()
    assert status["link"]["drops"]["disk_too_slow"] == dropped
    assert [one.name for one in both.receiver.deliveries()] == ["before", "after"]
