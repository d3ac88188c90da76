# SPDX-License-Identifier: Apache-2.0
"""
File systems that fill up while transfers cross, and too few descriptors: the status names the cause, and once there is
room again everything is delivered, exactly once, and nobody has restarted anything.
"""

import os
import resource
import shutil
import sys
from pathlib import Path

import content
import harness
import pytest
from waiting import wait_until

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "crash"))

import reckoning  # noqa: E402  (found through the line above)

BEFORE, DURING = 3, 8
INODES = 3000
FADING = {"intake_full"}  # told for a while after the last time
PLACES = {  # which directory of which side is full, how large it is, and what the status may say of it
    "the receiver's intake": ("receiver", "intake", "24m", {"intake_full", "publish_failed"}),
    "the receiver's state": ("receiver", "state", "3m", {"ledger_failed", "publish_failed", "audit_failed"}),
    "the receiver's audit log": ("receiver", "state/audit", "256k", {"audit_failed"}),
    "the sender's state": ("sender", "state", "3m", {"ledger_stalled", "audit_failed", "cannot_claim"}),
    "the sender's spool": ("sender", "spool", "24m", {"cannot_claim", "disk_low"}),
    "the sender's audit log": ("sender", "state/audit", "256k", {"audit_failed"}),
}


@pytest.fixture
def small_file_system():
    """A factory: small_file_system(directory, size) mounts one that fills quickly."""
    mounted = []

    def make(directory, size):
        directory.mkdir(mode=0o700, exist_ok=True)
        limits = f"size={size},nr_inodes={INODES},mode=700"
        done = harness.run(["mount", "-t", "tmpfs", "-o", limits, "tmpfs", directory])
        if done.returncode != 0:
            pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
        mounted.append(directory)

    yield make
    for program in list(harness.Program.running):
        program.kill()
    for directory in reversed(mounted):
        harness.run(["umount", "--lazy", directory], check=0)


def fill(directory):
    """To the last byte and the last inode; returns what is to be removed to make room again."""
    filler = directory / ".filler"
    filler.mkdir()
    with open(filler / "bytes", "wb", buffering=0) as file:
        for size in (1 << 16, 4096, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue
    with pytest.raises(OSError):
        for number in range(INODES):
            (filler / f"{number}").touch()
    return filler


def codes(status):
    return {one["code"] for one in status.get("reasons", [])}


class Day:
    """A pair with transfers crossing, and a consumer that takes them."""

    def __init__(self, scratch):
        port = harness.free_port()
        self.sender = harness.Sender(scratch / "low", f"127.0.0.1:{port}", replay={"idle_resend": "on"},
                                     channels={"default": {"complete": "rename"}})
        self.receiver = harness.Receiver(scratch / "high", f"127.0.0.1:{port}", [self.sender.public],
                                         receiver={"reserve": "0"})
        self.expected, self.dropped, self.prepared = {}, [], 0
        self.consumer = None

    def start(self):
        # On the intake's file system, as a consumer's directory would be.
        taken = self.receiver.intake / ".taken"
        taken.mkdir()
        self.consumer = reckoning.Consumer(self.receiver.intake, taken, self.expected)
        self.receiver.start()
        self.sender.start()
        self.receiver.wait_heard()
        self.consumer.start()
        return self

    def make(self, count, size=150_000):
        """Makes items that give_out() drops: a full spool has room for their names only."""
        made = []
        for number in range(len(self.dropped) + self.prepared, len(self.dropped) + self.prepared + count):
            hidden = content.write_file(self.sender.channel("default") / f".item-{number}", size, seed=number)
            (facts,) = content.facts(hidden).values()
            self.expected[("default", reckoning.identity({f"item-{number}": facts}))] = number
            made.append((number, hidden))
        self.prepared += count
        return made

    def give_out(self, made):
        for number, hidden in made:
            self.dropped.append(number)
            self.prepared -= 1
            os.rename(hidden, hidden.with_name(f"item-{number}"))

    def wait_taken(self, timeout=60):
        wait_until(lambda: len(self.consumer.count) == len(self.dropped) or self.consumer.problem, timeout,
                   lambda: f"{len(self.consumer.count)} of {len(self.dropped)} taken; low: {self.sender.status()}; "
                   f"high: {self.receiver.status()}", watch=[self.receiver.intake / "default"],
                   alive=[self.sender.program, self.receiver.program])

    def end(self):
        """Everything was delivered once, by the processes that were there from the beginning."""
        self.sender.wait_sent(len(self.dropped))
        self.receiver.wait_status(lambda status: status["transfers"]["open"] == [], "nothing is open")
        assert self.sender.stop() == 0
        assert self.receiver.stop() == 0
        self.receiver.start()  # which removes what could not be removed from staging at its time
        assert self.receiver.stop() == 0
        self.consumer.stopping.set()
        self.consumer.join()
        assert reckoning.check_all(self, self.consumer, self.dropped) == []


@pytest.fixture
def day(scratch):
    made = Day(scratch)
    yield made
    if made.consumer is not None:
        made.consumer.stopping.set()


@pytest.mark.root
@pytest.mark.parametrize("place", PLACES)
def test_a_full_file_system_is_named_and_what_it_held_up_is_delivered_when_there_is_room(day, small_file_system, place):
    side, directory, size, causes = PLACES[place]
    daemon = getattr(day, side)
    small_file_system(daemon.directory / directory, size)
    day.start()
    day.give_out(day.make(BEFORE))
    day.wait_taken()
    during, after = day.make(DURING), day.make(1)
    filler = fill(daemon.directory / directory)
    day.give_out(during)
    found = daemon.wait_status(lambda status: codes(status) & causes, f"one of {causes}", 60)
    assert found["health"] != "ok"
    shutil.rmtree(filler)
    day.give_out(after)
    day.wait_taken()
    daemon.wait_status(lambda status: not codes(status) & causes - FADING, f"none of {causes} any more", 60)
    day.end()


@pytest.mark.parametrize("side", ["sender", "receiver"])
def test_with_too_few_descriptors_it_waits_and_goes_on(day, side):
    day.start()
    daemon = getattr(day, side)
    day.give_out(day.make(BEFORE))
    day.wait_taken()
    during = day.make(DURING)
    pid, limits = daemon.program.pid, resource.prlimit(daemon.program.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (8, limits[1]))  # less than it has open now
    day.give_out(during)
    wait_until(lambda: "Too many open files" in daemon.program.log.read_text(), 60, "it is told", [daemon.directory])
    if side == "receiver":
        day.sender.wait_sent(len(day.dropped))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
    day.wait_taken()
    day.end()
