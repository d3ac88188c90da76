# SPDX-License-Identifier: Apache-2.0
"""
What a crash test compares at its end: what was sent, what a consumer took out of the intake queue, and what both sides'
ledgers, spools, stagings and audit logs say of it.
"""

import json
import os
import random
import shutil
import sqlite3
import threading
from collections import Counter

import content
import harness

SENT, RETURNED, EXPIRED = 4, 6, 7  # states of the sender's ledger
DELIVERED = 2  # state of the receiver's
PARTS = {"payload", "manifest.json", "manifest.pb", "manifest.pb.minisig", "SHA256SUMS"}


def identity(facts):
    """What tells two items apart wherever they were dropped: name, content, modes and times of all in them."""
    return json.dumps(facts, sort_keys=True)


class Consumer(threading.Thread):
    """
    Takes deliveries out of the intake queue as they appear, some at once and some later, and compares each with what
    was sent. `expected` maps (channel, identity) to the name of what was dropped.
    """

    def __init__(self, intake, taken, expected, seed=0):
        super().__init__(name="consumer")
        self.intake, self.taken, self.expected = intake, taken, expected
        self.chance = random.Random(seed)
        self.count = Counter()  # by what was dropped
        self.ids = Counter()  # by transfer id
        self.damaged = []
        self.problem = None
        self.number = 0
        self.stopping = threading.Event()

    def run(self):
        try:
            while not self.stopping.is_set():
                self.take_all(patience=self.chance.choice((1, 1, 0.3)))
                self.stopping.wait(self.chance.uniform(0, 0.03))
            self.take_all()
        except Exception as problem:  # shown by the main thread, whatever it is
            self.problem = f"consumer: {problem!r}"

    def take_all(self, patience=1.0):
        for channel in self.intake.iterdir():
            if channel.name.startswith("."):
                continue
            for directory in channel.iterdir():
                if not directory.name.startswith(".") and self.chance.random() <= patience:
                    self.take(channel.name, directory)

    def take(self, channel, directory):
        away = self.taken / f"{self.number}"
        self.number += 1
        directory.rename(away)
        try:
            names = os.listdir(away / "payload")
            dropped = self.expected.get((channel, identity(content.facts(away / "payload" / names[0]))))
            manifest = json.loads((away / "manifest.json").read_text())
            if len(names) != 1 or dropped is None or set(os.listdir(away)) != PARTS:
                raise ValueError(f"{names} beside {os.listdir(away)}")
            self.count[dropped] += 1
            self.ids[manifest["transfer_id"]] += 1
        except (OSError, ValueError, LookupError) as problem:
            self.damaged.append(f"{directory}: {problem}")
        shutil.rmtree(away)


def rows(file, sql):
    """All rows, read as the daemon would: with what still stands in the log of the database."""
    database = sqlite3.connect(file)
    try:
        return database.execute(sql).fetchall()
    finally:
        database.close()


def names_in(directory):
    return sorted(os.listdir(directory)) if directory.is_dir() else []


def check_low(sender, count):
    """Problems of a sender that was stopped after `count` transfers were sent."""
    problems = []
    states = dict(rows(sender.state / "sender.db", "SELECT state, count(*) FROM transfer GROUP BY state"))
    states.pop(RETURNED, None)  # a claim that was intended and not carried out; the next one has an id of its own
    if set(states) - {SENT, EXPIRED} or sum(states.values()) != count:
        problems.append(f"sender's ledger: {states} (state: transfers), {count} were dropped")
    sequences = [row[0] for row in rows(sender.state / "sender.db", "SELECT sequence FROM manifest ORDER BY sequence")]
    if sequences != list(range(1, count + 1)):
        problems.append(f"sender's ledger: {len(sequences)} sequences up to {max(sequences, default=0)}")
    for name in (".sending", ".failed"):
        if names_in(sender.spool / name):
            problems.append(f"low side: left in {name}: {names_in(sender.spool / name)[:5]}")
    left = [path.name for channel in sender.spool.iterdir() if not channel.name.startswith(".")
            for path in channel.iterdir()]
    if left:
        problems.append(f"low side: left in the spool: {left[:5]}")
    return problems


def check_high(receiver, ids):
    """Problems of a receiver that was stopped after the transfers `ids` were taken from its intake queue."""
    problems = []
    ledger = receiver.state / "receiver.db"
    states = dict(rows(ledger, "SELECT state, count(*) FROM delivery GROUP BY state"))
    if set(states) - {DELIVERED}:
        problems.append(f"receiver's ledger: {states} (state: transfers)")
    known = {row[0].hex() for row in rows(ledger, "SELECT transfer_id FROM delivery")}
    if known != set(ids):
        problems.append(f"receiver's ledger: {len(known - set(ids))} that nobody took, "
                        f"{len(set(ids) - known)} not known")
    sequences = sorted(row[0] for row in rows(ledger, "SELECT sequence FROM delivery"))
    if sequences != list(range(1, len(ids) + 1)):
        problems.append(f"receiver's ledger: {len(sequences)} sequences up to {max(sequences, default=0)}")
    for table in ("partial", "partial_manifest", "partial_map"):
        ((count,),) = rows(ledger, f"SELECT count(*) FROM {table}")
        if count:
            problems.append(f"receiver's ledger: {count} rows left in {table}")
    for name in (".staging", ".quarantine"):
        if names_in(receiver.intake / name):
            problems.append(f"high side: left in {name}: {names_in(receiver.intake / name)[:5]}")
    return problems


def check_audit(sender, receiver, count):
    problems = []
    for side in (sender, receiver):
        done = harness.diodecast("audit", "verify", side.state, timeout=300)
        if done.returncode != 0 or "VERIFIED" not in done.stdout:
            problems.append(f"audit verify {side.state}: exit {done.returncode}\n{done.stdout[-2000:]}"
                            f"{done.stderr[-500:]}")
    done = harness.diodecast("audit", "join", sender.state, receiver.state, timeout=300)
    if done.returncode != 0 or f"{count} transfers were sent and delivered, 0 don't match" not in done.stdout:
        problems.append(f"audit join: exit {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-500:]}")
    return problems


def check_consumer(consumer, dropped):
    problems = [consumer.problem] if consumer.problem else []
    missing = sorted(set(dropped) - set(consumer.count))
    twice = [name for name, count in consumer.count.items() if count > 1]
    twice += [transfer for transfer, count in consumer.ids.items() if count > 1]
    for text, found in (("delivered damaged or in part", consumer.damaged), ("delivered twice", twice),
                        ("never delivered", missing)):
        if found:
            problems.append(f"{text}: {len(found)}: {found[:20]}")
    return problems


def check_all(pair, consumer, dropped):
    """Problems of a pair that was stopped, as text; none when all of `dropped` was delivered exactly once."""
    return (check_consumer(consumer, dropped) + check_low(pair.sender, len(dropped)) +
            check_high(pair.receiver, consumer.ids) + check_audit(pair.sender, pair.receiver, len(dropped)))
