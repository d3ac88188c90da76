#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
Takes one daemon after the other through every I/O boundary of a transfer of three artifacts, from the start of the
process to the end of its orderly stop. With `kill` (the default) it dies there, before and after each boundary, and is
started again. With a name of errno instead, the call fails once with it, and the daemon must go on by itself. Each
transfer must have been delivered exactly once and whole, and nothing be left over on either side. Prints the counts.
Several pairs are at work at the same time, for most of it is waiting.
"""

import argparse
import errno
import itertools
import mmap
import random
import shutil
import signal
import struct
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "system"))

import content  # noqa: E402  (found through the line above)
import harness  # noqa: E402
import reckoning  # noqa: E402
from waiting import wait_until  # noqa: E402

SHIM = harness.BUILD / "tests/crash/shim.so"
RUN_S = 60
SPARE = 1.1  # more boundaries than were counted once, for not every run has as many


class Counts:
    """What the shim counts: boundaries, calls that can be made to fail, pages that SQLite reads."""

    def __init__(self, path):
        self.path = path
        path.write_bytes(bytes(24))
        with open(path, "r+b") as file:
            self.map = mmap.mmap(file.fileno(), 24)

    def reset(self):
        self.map[:] = bytes(24)

    def read(self):
        return struct.unpack("qqq", self.map[:])


class Pair:
    """One pair and all the runs over it."""

    def __init__(self, directory, number, how):
        directory.mkdir()
        self.how = how
        self.pair = harness.Pair(directory, link={"rate": "400Mbit/s"},
                                 channels={"default": {"complete": "rename"}})
        self.pair.sender.sections["replay"] = {"idle_resend": "on", "idle_copies": 100, "idle_share": 90}
        self.counts = Counts(directory / "counts")
        self.making, self.taken = directory / "making", directory / "taken"
        self.making.mkdir()
        self.taken.mkdir()
        self.expected, self.dropped = {}, []
        self.number = number << 20
        self.consumer = reckoning.Consumer(self.pair.receiver.intake, self.taken, self.expected, number)
        self.outcomes = Counter()
        self.problems = []
        self.pair.receiver.start()
        self.pair.sender.start()
        self.pair.receiver.wait_heard()
        self.consumer.start()

    def drop(self):
        self.number += 1
        tree = self.making / f"three-{self.number}"
        tree.mkdir()
        for name, size in (("small", 100), ("middle", 300_000), ("large", (4 << 20) + 200_000)):
            content.write_file(tree / name, size, seed=self.number)
        self.expected[("default", reckoning.identity(content.facts(tree)))] = self.number
        self.dropped.append(self.number)
        self.pair.sender.drop(tree)

    def is_over(self, victim):
        """Whether the victim has done its part of all transfers."""
        if victim is self.pair.receiver:
            return len(self.consumer.count) == len(self.dropped)
        status = victim.status()
        return (status.get("pid") == victim.program.pid and status["sending"] == [] and
                status["queue"]["depth"] == 0 and not reckoning.names_in(victim.spool / "default"))

    def describe(self, victim):
        return (f"{len(self.consumer.count)} of {len(self.dropped)} delivered\nlow: {self.pair.sender.status()}\n"
                f"high: {self.pair.receiver.status()}\n{victim.program.log_tail(15)}")

    def run(self, side, at):
        """One run in which the daemon of `side` is hit at `at`. Returns what became of it, and how far it came."""
        victim = getattr(self.pair, side)
        victim.kill()
        self.counts.reset()
        order = f"DIODECAST_KILL_AT={at}" if self.how == "kill" else \
            f"DIODECAST_FAIL_AT={at}:{getattr(errno, self.how)}"
        victim.prefix = ["env", f"LD_PRELOAD={SHIM}", f"DIODECAST_COUNTS={self.counts.path}", order]
        if side == "sender":
            self.drop()
            program = victim.start(wait=False).program
        else:
            program = victim.start(wait=False).program
            wait_until(lambda: not program.is_running() or victim.status().get("pid") == program.pid, RUN_S,
                       lambda: f"start of the receiver\n{self.describe(victim)}", watch=[victim.status_file.parent])
            self.drop()
        if self.how != "kill" and not self.started(victim):
            outcome = "refused to start"
        else:
            wait_until(lambda: not program.is_running() or self.is_over(victim), RUN_S,
                       lambda: f"end of the transfer\n{self.describe(victim)}",
                       watch=[victim.status_file.parent, self.pair.receiver.intake])
            outcome = self.stop(program)
        reached = self.counts.read()
        victim.prefix = []
        victim.start()
        wait_until(lambda: len(self.consumer.count) == len(self.dropped), RUN_S,
                   lambda: f"delivery after all\n{self.describe(victim)}", watch=[self.pair.receiver.intake],
                   alive=[self.pair.sender.program, self.pair.receiver.program])
        return outcome, reached

    def started(self, victim):
        """A daemon that can't set itself up says so and is started again by its supervisor."""
        program = victim.program
        wait_until(lambda: not program.is_running() or victim.status().get("pid") == program.pid, RUN_S,
                   lambda: f"start\n{self.describe(victim)}", watch=[victim.status_file.parent])
        if program.is_running():
            return True
        if program.process.returncode < 0:
            raise AssertionError(f"{program.name} died at its start\n{program.log_tail()}")
        return False

    def stop(self, program):
        if program.is_running():
            program.process.send_signal(signal.SIGTERM)
        code = program.wait(RUN_S)
        if self.how == "kill" and code == -signal.SIGKILL:
            return "killed"
        if code != 0:
            raise AssertionError(f"{program.name} ended with {code}\n{program.log_tail()}")
        return "went on"

    def finish(self):
        self.pair.sender.wait_status(
            lambda status: status["queue"]["depth"] == 0 and status["sending"] == [], "nothing left to send", RUN_S)
        self.pair.receiver.wait_status(
            lambda status: all(status["transfers"][name] == [] for name in ("open", "incomplete", "never_seen")),
            "nothing open, nothing unseen", RUN_S)
        for daemon in (self.pair.sender, self.pair.receiver):
            if daemon.stop() != 0:
                self.problems.append(f"{daemon.program_name} did not end well\n{daemon.program.log_tail()}")
        self.consumer.stopping.set()
        self.consumer.join()
        self.problems += reckoning.check_all(self.pair, self.consumer, self.dropped)


def count_boundaries(pair, how):
    """How many there are in a run that nothing disturbs, for each side."""
    return {side: int(pair.run(side, 0)[1][0 if how == "kill" else 1] * SPARE) for side in ("receiver", "sender")}


def choose(last, how, options):
    """(side, at) of all runs: `every` of 1 means each boundary, else each `every`-th from a random one on."""
    chance = random.Random(options.seed)
    runs = []
    for side, count in last.items():
        first, end = (2, 2 * count + 2) if how == "kill" else (1, count + 1)
        runs += [(side, at) for at in range(first + chance.randrange(options.every), end, options.every)]
    chance.shuffle(runs)
    return runs


def work(pair, runs, options, deadline):
    try:
        for side, at in runs:
            if time.monotonic() > deadline:
                pair.outcomes["not tried for want of time"] += 1
                continue
            try:
                outcome, _ = pair.run(side, at)
                pair.outcomes[f"{side} {outcome}"] += 1
            except AssertionError as problem:
                raise AssertionError(f"{options.how} of the {side} at {at}: {problem}") from None
        pair.finish()
    except Exception as problem:  # shown by the main thread, whatever it is
        pair.problems.append(f"{type(problem).__name__}: {problem}")
        pair.consumer.stopping.set()


def sweep(scratch, options):
    pairs = [Pair(scratch / f"{number}", number, options.how) for number in range(options.pairs)]
    last = count_boundaries(pairs[0], options.how)
    runs = choose(last, options.how, options)
    shared = iter(runs)
    lock = threading.Lock()

    def take():
        while True:
            with lock:
                one = next(shared, None)
            if one is None:
                return
            yield one

    deadline = time.monotonic() + options.seconds
    threads = [threading.Thread(target=work, args=(pair, take(), options, deadline)) for pair in pairs]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    problems = list(itertools.chain.from_iterable(pair.problems for pair in pairs))
    for problem in problems:
        print(problem)
    outcomes = sum((pair.outcomes for pair in pairs), Counter())
    dropped = sum(len(pair.dropped) for pair in pairs)
    delivered = sum(len(pair.consumer.count) for pair in pairs)
    what = "I/O boundaries, before and after each" if options.how == "kill" else "calls that write"
    print(f"seed {options.seed}, {options.how}: {what}: {last['sender']} at the sender, "
          f"{last['receiver']} at the receiver; {len(runs)} runs in {time.monotonic() - begun:.0f} s: "
          f"{', '.join(f'{count} {name}' for name, count in sorted(outcomes.items()))}; {dropped} transfers: "
          f"{delivered} delivered, {dropped - delivered} missing, "
          f"{sum(count > 1 for pair in pairs for count in pair.consumer.count.values())} twice, "
          f"{sum(len(pair.consumer.damaged) for pair in pairs)} partial")
    return not problems


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--how", default="kill", help="kill, or the errno of a failing call (EIO, ENOSPC, EDQUOT)")
    parser.add_argument("--every", type=int, default=1, help="only each n-th boundary, from a random one on")
    parser.add_argument("--seconds", type=float, default=1e9, help="tries no further one after so long")
    parser.add_argument("--pairs", type=int, default=6, help="at work at the same time")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--directory", default="/dev/shm", help="where everything lies while it runs")
    parser.add_argument("--keep", action="store_true", help="keep it when something went wrong")
    options = parser.parse_args()
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(1 << 30)
    scratch = Path(tempfile.mkdtemp(prefix="diodecast-sweep-", dir=options.directory))
    good = False
    try:
        good = sweep(scratch, options)
    finally:
        for program in list(harness.Program.running):
            program.kill()
        if options.keep and not good:
            print(f"kept: {scratch}")
        else:
            shutil.rmtree(scratch, ignore_errors=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
