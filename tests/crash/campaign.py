#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
Kills both daemons again and again (SIGKILL: at an I/O boundary by shim.c, and at random times) while transfers cross a
link that loses datagrams, and a consumer takes what is delivered. At the end each transfer must have been delivered
exactly once, whole and bit-identical, with nothing refused and nothing left over. Prints the counts.
"""

import argparse
import os
import random
import shutil
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
from waiting import wait_until  # noqa: E402

SHIM = harness.BUILD / "tests/crash/shim.so"
CALM_EACH = 24  # kills of a side, after which it may run for CALM_S undisturbed
CALM_S = 1.5
LONGEST_LIFE_S = 0.5
LAST_BOUNDARY = 1500  # boundaries are chosen up to here, small ones more often
FINISH_S = 240


class Victim(threading.Thread):
    """Starts one daemon and kills it, until it has been killed `kills` times."""

    def __init__(self, daemon, kills, seed, on_kill):
        super().__init__(name=daemon.program_name)
        self.daemon_under_test = daemon
        self.kills = kills
        self.chance = random.Random(seed)
        self.on_kill = on_kill
        self.at_boundary = self.at_random = 0
        self.problem = None

    def run(self):
        try:
            while self.at_boundary + self.at_random < self.kills:
                self.live_once()
                self.on_kill()
        except Exception as problem:  # shown by the main thread, whatever it is
            self.problem = problem

    def live_once(self):
        life_s = self.chance.uniform(0, LONGEST_LIFE_S)
        boundary = 0
        if (self.at_boundary + self.at_random + 1) % CALM_EACH == 0:
            life_s = CALM_S
        elif self.chance.random() < 0.6:
            boundary = int(2 * LAST_BOUNDARY ** self.chance.random()) + self.chance.randint(0, 1)
            life_s = 2 * LONGEST_LIFE_S
        daemon = self.daemon_under_test
        daemon.prefix = ["env", f"LD_PRELOAD={SHIM}", f"DIODECAST_KILL_AT={boundary}"] if boundary else []
        program = daemon.start(wait=False).program
        try:
            code = program.wait(life_s)
        except subprocess.TimeoutExpired:
            program.kill()
            self.at_random += 1
            return
        if code != -9:
            raise AssertionError(f"{program.name} ended by itself with {code}\n{program.log_tail()}")
        self.at_boundary += 1


class Consumer(threading.Thread):
    """Takes deliveries out of the intake queue as they appear, and compares each with what was sent."""

    def __init__(self, intake, taken, expected):
        super().__init__(name="consumer")
        self.intake, self.taken, self.expected = intake, taken, expected
        self.count = Counter()
        self.damaged = []
        self.stopping = threading.Event()

    def run(self):
        while not self.stopping.is_set():
            self.take_all()
            self.stopping.wait(0.02)
        self.take_all()

    def take_all(self):
        for channel in self.intake.iterdir():
            if channel.name.startswith("."):
                continue
            for directory in channel.iterdir():
                if not directory.name.startswith("."):
                    self.take(directory)

    def take(self, directory):
        away = self.taken / f"{sum(self.count.values())}"
        directory.rename(away)
        names = os.listdir(away / "payload")
        name = names[0] if len(names) == 1 else str(names)
        if content.facts(away / "payload" / name) != self.expected.get(name):
            self.damaged.append(f"{directory}: {names}")
        self.count[name] += 1
        shutil.rmtree(away)


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
        self.killed = 0
        self.lock = threading.Lock()
        self.may_drop = threading.Semaphore(0)
        self.allowed = 0

    def note_kill(self):
        with self.lock:
            self.killed += 1
            allowed = min(self.options.transfers, self.options.transfers * self.killed // (self.options.kills * 9 // 10))
            for _ in range(allowed - self.allowed):
                self.may_drop.release()
            self.allowed = max(self.allowed, allowed)

    def drop_next(self, number):
        chance, name = self.chance, f"transfer-{number}"
        kind = chance.random()
        if kind < 0.5:
            path = content.write_file(self.making / name, chance.randint(0, 64 << 10), seed=number)
        elif kind < 0.85:
            path = content.write_file(self.making / name, chance.randint(64 << 10, 4 << 20), seed=number)
        elif kind < 0.95:
            path = content.make_tree(self.making / name, chance.randint(1, 60), seed=number)
        else:
            path = content.write_file(self.making / name, chance.randint(8 << 20, 24 << 20), seed=number)
        self.expected[name] = content.facts(path)
        self.pair.sender.drop(path, chance.choice(["default", "urgent", "bulk"]))

    def wait_delivered(self, consumer):
        """Healing brings what the kills have cost; what it could not bring, an operator has replayed by its tickets."""

        def all_there():
            return len(consumer.count) >= self.options.transfers

        wait_until(all_there, FINISH_S, lambda: self.describe(consumer), watch=[self.pair.receiver.intake],
                   alive=[self.pair.sender.program, self.pair.receiver.program])

    def describe(self, consumer):
        missing = sorted(set(self.expected) - set(consumer.count))
        return (f"{len(consumer.count)} of {self.options.transfers} delivered; missing {missing[:20]}\n"
                f"low: {self.pair.sender.status()}\nhigh: {self.pair.receiver.status()}")

    def run(self):
        options, pair = self.options, self.pair
        consumer = Consumer(pair.receiver.intake, self.taken, self.expected)
        pair.impairer.start()
        pair.receiver.start()
        pair.sender.start()
        pair.receiver.wait_heard()
        pair.receiver.kill()
        pair.sender.kill()
        consumer.start()
        victims = [Victim(pair.sender, options.kills // 2, options.seed + 1, self.note_kill),
                   Victim(pair.receiver, options.kills - options.kills // 2, options.seed + 2, self.note_kill)]
        begun = time.monotonic()
        for victim in victims:
            victim.start()
        for number in range(options.transfers):
            while not self.may_drop.acquire(timeout=1):
                if any(victim.problem for victim in victims):
                    break
            self.drop_next(number)
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
        for daemon in (self.pair.receiver, self.pair.sender):
            daemon.prefix = []
            daemon.start()
        try:
            self.wait_delivered(consumer)
            self.pair.receiver.wait_status(
                lambda status: status["transfers"]["open"] == [] and status["transfers"]["never_seen"] == [],
                "nothing open, nothing unseen", 60)
        except AssertionError as problem:
            problems.append(str(problem))
        for daemon in (self.pair.sender, self.pair.receiver):
            if daemon.program.is_running() and daemon.stop() != 0:
                problems.append(f"{daemon.program_name} did not end well\n{daemon.program.log_tail()}")

    def report(self, victims, consumer, problems, seconds):
        missing = set(self.expected) - set(consumer.count)
        twice = [name for name, count in consumer.count.items() if count > 1]
        refused = self.pair.sender.failed()
        for text, found in (("delivered damaged or in part", consumer.damaged), ("delivered twice", twice),
                            ("never delivered", sorted(missing)), ("refused", sorted(refused))):
            if found:
                problems.append(f"{text}: {found[:20]}")
        for problem in problems:
            print(problem)
        kills = ", ".join(f"{victim.name} {victim.at_boundary} at I/O boundaries and {victim.at_random} at random times"
                          for victim in victims)
        print(f"seed {self.options.seed}: {self.killed} kills in {seconds:.0f} s ({kills}); {len(self.expected)} transfers at "
              f"{self.options.loss} % loss: {len(consumer.count)} delivered, {len(missing)} missing, {len(twice)} twice, "
              f"{len(consumer.damaged)} partial")
        return not problems


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--transfers", type=int, default=200)
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
