#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
Kills both daemons again and again (SIGKILL: at an I/O boundary by shim.c, at random times, and in the middle of a stop
that SIGTERM began), with orderly restarts in between, while transfers cross a link that loses datagrams and a consumer
takes what is delivered. At the end each transfer must have been delivered exactly once, whole and bit-identical, with
nothing refused and nothing left over on either side, and the audit logs of both sides must verify and agree. What the
kills have cost is brought by healing; after an odd seed by an operator, who carries the tickets. Prints the counts.
"""

import argparse
import ctypes
import errno
import os
import random
import shutil
import signal
import subprocess
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

_libc = ctypes.CDLL(None, use_errno=True)
_AT_FDCWD, _RENAME_NOREPLACE = -100, 1
SHIM = harness.BUILD / "tests/crash/shim.so"
CALM_EACH = 24  # kills of a side, after which it may run for CALM_S undisturbed
CALM_S = 1.5
LONGEST_LIFE_S = 0.5
STOP_S = 5  # that an orderly stop may take on a busy machine, and more
ASK_AGAIN_S = 5  # after which an operator thinks that a ticket was not enough
LAST_BOUNDARY = 1500  # boundaries are chosen up to here, small ones more often
FINISH_S = 240


def rename_new(source, target):
    """Renames unless `target` exists, as `mv -n` does. False when it exists."""
    if _libc.renameat2(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE) == 0:
        return True
    if ctypes.get_errno() == errno.EEXIST:
        return False
    raise OSError(ctypes.get_errno(), f"rename to {target}")


class Victim(threading.Thread):
    """Starts one daemon and kills it, until it has been killed `kills` times or the `deadline` is over."""

    def __init__(self, daemon, kills, seed, on_kill, deadline):
        super().__init__(name=daemon.program_name)
        self.daemon_under_test = daemon
        self.kills = kills
        self.chance = random.Random(seed)
        self.on_kill = on_kill
        self.deadline = deadline
        self.count = Counter()
        self.problem = None

    def killed(self):
        return self.count.total() - self.count["stopped"]

    def run(self):
        try:
            while self.killed() < self.kills and time.monotonic() < self.deadline:
                how = self.live_once()
                self.count[how] += 1
                if how != "stopped":
                    self.on_kill()
        except Exception as problem:  # shown by the main thread, whatever it is
            self.problem = problem

    def live_once(self):
        """Returns how it ended: at a "boundary", at a "random" time, while "stopping", or "stopped" well."""
        kind = self.chance.random()
        life_s = self.chance.uniform(0, LONGEST_LIFE_S)
        boundary = 0
        if (self.killed() + 1) % CALM_EACH == 0:
            life_s = CALM_S
        elif kind < 0.55:
            boundary = int(2 * LAST_BOUNDARY ** self.chance.random()) + self.chance.randint(0, 1)
            life_s = 2 * LONGEST_LIFE_S
        daemon = self.daemon_under_test
        daemon.prefix = ["env", f"LD_PRELOAD={SHIM}", f"DIODECAST_KILL_AT={boundary}"] if boundary else []
        program = daemon.start(wait=False).program
        if self.ended(program, life_s, (-signal.SIGKILL,) if boundary else ()):
            return "boundary"
        if kind < 0.8:
            program.kill()
            return "random"
        program.process.send_signal(signal.SIGTERM)
        # Before it has a handler of its own the signal ends it at once.
        if self.ended(program, self.chance.choice((0.001, 0.005, 0.02, STOP_S)) * self.chance.uniform(0.2, 1),
                      (0, -signal.SIGTERM)):
            return "stopped"
        program.kill()
        return "stopping"

    def ended(self, program, seconds, codes):
        try:
            code = program.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        if code not in codes:
            raise AssertionError(f"{program.name} ended by itself with {code}\n{program.log_tail()}")
        return True


class Operator:
    """Carries the tickets that the high side shows to the low side."""

    def __init__(self, pair):
        self.pair = pair
        self.asked = {}
        self.carried = 0

    def carry(self):
        transfers = self.pair.receiver.status().get("transfers", {})
        shown = {one["ticket"] for name in ("incomplete", "never_seen") for one in transfers.get(name, [])
                 if one["ticket"] and not one["healing"]}
        now = time.monotonic()
        new = sorted(ticket for ticket in shown if now - self.asked.get(ticket, -ASK_AGAIN_S) >= ASK_AGAIN_S)
        for ticket in new:
            self.asked[ticket] = now
            self.carried += 1
            harness.diodecast("replay", "-c", self.pair.sender.config, "--now", ticket, check=0)


class Campaign:
    def __init__(self, scratch, options):
        self.options = options
        self.chance = random.Random(options.seed)
        self.pair = harness.Pair(scratch, damage={"drop": options.loss, "seed": options.seed},
                                 link={"rate": "400Mbit/s"}, sender={"settle": "100ms"},
                                 channels={"urgent": {"priority": "high"}, "bulk": {"priority": "low"}})
        self.pair.sender.sections["replay"] = {"idle_resend": "on", "idle_copies": 100, "idle_share": 90}
        self.making, self.taken = scratch / "making", scratch / "taken"
        self.making.mkdir()
        self.taken.mkdir()
        self.expected = {}
        self.dropped = []
        self.brought = "nobody"
        self.killed = 0
        self.lock = threading.Lock()
        self.may_drop = threading.Semaphore(0)
        self.allowed = 0

    def note_kill(self):
        with self.lock:
            self.killed += 1
            share = self.options.transfers * self.killed // (self.options.kills * 9 // 10)
            allowed = min(self.options.transfers, share)
            for _ in range(allowed - self.allowed):
                self.may_drop.release()
            self.allowed = max(self.allowed, allowed)

    def make_next(self, number, name):
        chance = self.chance
        kind = chance.random()
        if kind < 0.5:
            return content.write_file(self.making / name, chance.randint(32, 64 << 10), seed=number)
        if kind < 0.85:
            return content.write_file(self.making / name, chance.randint(64 << 10, 4 << 20), seed=number)
        if kind < 0.95:
            return content.make_tree(self.making / name, chance.randint(1, 60), seed=number)
        return content.write_file(self.making / name, chance.randint(8 << 20, 24 << 20), seed=number)

    def drop_next(self, number):
        """Names come again, in the same channel and in others; a name that still lies in the spool is not free."""
        while True:
            channel = self.pair.sender.channel(self.chance.choice(["default", "urgent", "bulk"]))
            target = channel / f"item-{self.chance.randrange(1 + self.options.transfers // 4)}"
            if not target.exists():
                break
        path = self.make_next(number, target.name)
        self.dropped.append(number)
        self.expected[(channel.name, reckoning.identity(content.facts(path)))] = number
        hidden = channel / ".drop"
        shutil.move(path, hidden)
        wait_until(lambda: rename_new(hidden, target), 1, f"{target} is free")

    def wait_delivered(self, consumer, operator):
        def all_there():
            if operator is not None:
                operator.carry()
            return len(consumer.count) >= len(self.dropped) or consumer.problem

        wait_until(all_there, FINISH_S, lambda: self.describe(consumer), watch=[self.pair.receiver.intake],
                   alive=[self.pair.sender.program, self.pair.receiver.program])

    def describe(self, consumer):
        missing = sorted(set(self.dropped) - set(consumer.count))
        return (f"{len(consumer.count)} of {len(self.dropped)} delivered; missing {missing[:20]}\n"
                f"low: {self.pair.sender.status()}\nhigh: {self.pair.receiver.status()}")

    def run(self):
        options, pair = self.options, self.pair
        consumer = reckoning.Consumer(pair.receiver.intake, self.taken, self.expected, options.seed)
        pair.impairer.start()
        pair.receiver.start()
        pair.sender.start()
        pair.receiver.wait_heard()
        pair.receiver.kill()
        pair.sender.kill()
        consumer.start()
        begun = time.monotonic()
        deadline = begun + options.seconds
        half = options.kills // 2
        victims = [Victim(pair.sender, half, options.seed + 1, self.note_kill, deadline),
                   Victim(pair.receiver, options.kills - half, options.seed + 2, self.note_kill, deadline)]
        for victim in victims:
            victim.start()
        for number in range(options.transfers):
            while not self.may_drop.acquire(timeout=1):
                if any(victim.problem for victim in victims) or not any(victim.is_alive() for victim in victims):
                    break
            self.drop_next(number)
            if any(victim.problem for victim in victims) or time.monotonic() > deadline:
                break
        for victim in victims:
            victim.join()
        problems = [str(victim.problem) for victim in victims if victim.problem]
        seconds = time.monotonic() - begun
        if not problems:
            self.finish(consumer, problems)
        consumer.stopping.set()
        consumer.join()
        return self.report(victims, consumer, problems, seconds)

    def finish(self, consumer, problems):
        operator = Operator(self.pair) if self.options.seed % 2 else None
        if operator is not None:
            self.pair.sender.sections["replay"]["idle_resend"] = "off"
        for daemon in (self.pair.receiver, self.pair.sender):
            daemon.prefix = []
            daemon.start()
        try:
            self.wait_delivered(consumer, operator)
            self.pair.receiver.wait_status(
                lambda status: all(status["transfers"][name] == [] for name in ("open", "incomplete", "never_seen")),
                "nothing open, nothing unseen", 60)
            self.pair.sender.wait_status(
                lambda status: status["queue"]["depth"] == 0 and status["sending"] == [], "nothing left to send", 60)
        except AssertionError as problem:
            problems.append(str(problem))
        for daemon in (self.pair.sender, self.pair.receiver):
            if daemon.program.is_running() and daemon.stop() != 0:
                problems.append(f"{daemon.program_name} did not end well\n{daemon.program.log_tail()}")
        self.brought = "healing" if operator is None else f"{operator.carried} tickets"

    def report(self, victims, consumer, problems, seconds):
        problems = problems + reckoning.check_all(self.pair, consumer, self.dropped)
        for problem in problems:
            print(problem)
        for victim in victims:
            count = victim.count
            print(f"{victim.name}: {victim.killed()} kills: {count['boundary']} at I/O boundaries, {count['random']} "
                  f"at random times, {count['stopping']} while stopping; {count['stopped']} orderly restarts")
        delivered = len(consumer.count)
        print(f"seed {self.options.seed}: {self.killed} kills in {seconds:.0f} s; {len(self.dropped)} transfers at "
              f"{self.options.loss} % loss, the rest brought by {self.brought}: {delivered} delivered, "
              f"{len(self.dropped) - delivered} missing, {sum(count > 1 for count in consumer.count.values())} twice, "
              f"{len(consumer.damaged)} partial")
        return not problems


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--transfers", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=1e9, help="no further kills and transfers after so long")
    parser.add_argument("--loss", type=float, default=0.5, help="per cent of the datagrams")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--directory", default="/dev/shm", help="where everything lies while it runs")
    parser.add_argument("--keep", action="store_true", help="keep it when something went wrong")
    options = parser.parse_args()
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(1 << 30)
    scratch = Path(tempfile.mkdtemp(prefix="diodecast-crash-", dir=options.directory))
    good = False
    try:
        good = Campaign(scratch, options).run()
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
