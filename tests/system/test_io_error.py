# SPDX-License-Identifier: Apache-2.0
"""
A disk under the intake queue whose blocks can't be written for a while: the kernel says so once, when staging is
flushed, and to nobody else. nbdkit is the disk, and fails while a file is there.
"""

import os
import shutil
import subprocess

import content
import harness
import pytest
from waiting import wait_until

MIB = 1 << 20
DISK = 160 * MIB


def run(*command):
    """The command's output; what this machine does not have skips the test, with the reason."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"{command[0]} does not work here: {done.stderr.strip()}")
    return done.stdout.strip()


class Disk:
    """ext4 on a disk that can fail; its journal is on another one, so that only data is hit and it stays writable."""

    def __init__(self, directory, mount_point):
        self.directory, self.mount_point = directory, mount_point
        self.trigger = directory / "fails"
        self.file = directory / "data"
        self.process, self.loops, self.mounted = None, [], False

    def make(self):
        for name in ("nbdkit", "nbdfuse", "mkfs.ext4"):
            if shutil.which(name) is None:
                pytest.skip(f"{name} is not installed (tools/deps.sh check)")
        self.file.touch()
        self.process = subprocess.Popen(
            ["nbdfuse", self.file, "--command", "nbdkit", "-s", "--filter=error", "memory", str(DISK),
             "error-pwrite=EIO", "error-pwrite-rate=1", f"error-pwrite-file={self.trigger}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        wait_until(lambda: self.file.stat().st_size == DISK or self.process.poll() is not None, 20, "the disk is there")
        if self.process.poll() is not None:
            pytest.skip(f"nbdfuse does not work here: {self.process.stderr.read().decode().strip()}")
        journal = self.directory / "journal"
        with open(journal, "wb") as out:
            out.truncate(16 * MIB)
        for file in (self.file, journal):
            self.loops.append(run("losetup", "--find", "--show", str(file)))
        run("mkfs.ext4", "-q", "-b", "4096", "-O", "journal_dev", self.loops[1])
        run("mkfs.ext4", "-q", "-b", "4096", "-m", "0", "-J", f"device={self.loops[1]}", self.loops[0])
        self.mount()

    def mount(self):
        run("mount", "-o", "errors=continue", self.loops[0], str(self.mount_point))
        self.mounted = True

    def unmount(self):
        harness.run(["umount", self.mount_point], check=0)
        self.mounted = False

    def fail(self):
        self.trigger.touch()

    def mend(self):
        self.trigger.unlink(missing_ok=True)

    def remove(self):
        self.mend()
        if self.mounted:
            subprocess.run(["umount", "-l", self.mount_point], check=False)
        for loop in self.loops:
            subprocess.run(["losetup", "-d", loop], check=False)
        if self.process is not None:
            subprocess.run(["fusermount3", "-u", "-z", self.file], check=False, capture_output=True)
            self.process.wait(20)


@pytest.fixture
def disk(scratch):
    intake = scratch / "high" / "intake"
    intake.mkdir(parents=True)
    directory = scratch / "disk"
    directory.mkdir()
    made = Disk(directory, intake)
    try:
        made.make()
        yield made
    finally:
        for program in list(harness.Program.running):
            program.kill()
        made.remove()


def codes(status):
    return {reason["code"] for reason in status["reasons"]}


def tickets(status):
    """Of what is missing: whole, where a late copy of its manifest came behind the failure."""
    missing = [*status["transfers"]["never_seen"], *status["transfers"]["incomplete"]]
    return [entry["ticket"] for entry in missing if entry["ticket"]]


@pytest.mark.root
def test_blocks_that_can_not_be_written_cost_their_transfer_only_and_it_can_be_replayed(disk, pair, scratch):
    both = pair(receiver={"receiver": {"reserve": "0"}})
    sender, receiver = both.sender, both.receiver
    receiver.wait_heard()
    expected = {}

    def drop(name, size):
        item = content.write_file(scratch / name, size, seed=len(expected))
        expected[name] = content.facts(item)
        sender.drop(item)

    drop("before", 2 * MIB)
    receiver.wait_delivered("before")
    disk.fail()
    drop("during", 20 * MIB)
    status = receiver.wait_status(lambda status: "intake_error" in codes(status), "the disk is named")
    assert status["health"] == "failed"
    sender.wait_sent(2)
    assert [one.name for one in receiver.deliveries()] == ["before"]
    disk.mend()

    # Nobody has restarted anything, and the next one goes through.
    drop("after", 3 * MIB)
    receiver.wait_delivered("after")
    status = receiver.wait_status(tickets, "the failed one is missing")
    assert "during" in [one["name"] for one in status["transfers"]["discarded"]]
    (ticket,) = tickets(status)
    harness.diodecast("replay", "-c", sender.config, ticket, check=0)
    receiver.wait_delivered("during")
    receiver.wait_status(lambda status: tickets(status) == [], "nothing is missing")

    # What the kernel had in memory proves nothing: what lies on the disk is what was sent.
    assert sender.stop() == 0 and receiver.stop() == 0
    disk.unmount()
    disk.mount()
    assert sorted(one.name for one in receiver.deliveries()) == ["after", "before", "during"]
    for one in receiver.deliveries():
        one.check(expected[one.name], sender.public)
    assert os.listdir(receiver.intake / ".staging") == []
