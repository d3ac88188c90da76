# SPDX-License-Identifier: Apache-2.0
"""100,000 transfers in both ledgers cost nothing that a start or a delivery would notice."""

import mmap
import os
import sqlite3
import statistics
import struct
import time
from pathlib import Path

import content
import harness
import pytest

COUNT = 100_000
SHIM = harness.BUILD / "tests/crash/shim.so"
NEW = 30
# Pages of 4 KiB. A look-up goes through one or two trees of four levels at most; 100,000 rows fill thousands of pages.
START_PAGES = 400
PAGES_EACH = 40


def columns(database, table):
    return [row[1] for row in database.execute(f"PRAGMA table_info({table})")]


def multiply(file, tables, count, change):
    """Copies the newest row of each table up to `count` rows; change(table, row, number) makes each one its own."""
    database = sqlite3.connect(file)
    for table, key in tables.items():
        database.row_factory = sqlite3.Row
        last = dict(database.execute(f"SELECT * FROM {table} ORDER BY {key} DESC LIMIT 1").fetchone())
        names = columns(database, table)
        insert = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join(':' + name for name in names)})"
        first = last["sequence"] + 1
        database.executemany(insert, ({**last, **change(table, number)} for number in range(first, count + 1)))
    return database


def identity(number):
    return number.to_bytes(16, "big")


def fill_receiver(receiver):
    def change(table, number):
        return {"number": number, "transfer_id": identity(number), "sequence": number, "directory": f"{number:016}-x"}

    database = multiply(receiver.state / "receiver.db", {"delivery": "number"}, COUNT, change)
    database.execute("UPDATE delivered SET total = ?", (COUNT,))
    database.execute("UPDATE chain SET newest_sequence = ?1, settled_sequence = ?1, delivered_through = ?1, "
                     "told_sequence = ?1", (COUNT,))
    database.commit()
    database.close()


def fill_sender(sender):
    def change(table, number):
        if table == "transfer":
            return {"id": identity(number), "name": f"item-{number}", "sequence": number}
        return {"sequence": number, "transfer_id": identity(number)}

    database = multiply(sender.state / "sender.db", {"transfer": "sequence", "manifest": "sequence"}, COUNT, change)
    database.commit()
    database.close()


class Reads:
    def __init__(self, path, daemon):
        path.write_bytes(bytes(24))
        self.map = mmap.mmap(os.open(path, os.O_RDWR), 24)
        daemon.prefix = ["env", f"LD_PRELOAD={SHIM}", f"DIODECAST_COUNTS={path}"]

    def pages(self):
        return struct.unpack("qqq", self.map[:])[2]


def start(daemon):
    begun = time.monotonic()
    daemon.start()
    return time.monotonic() - begun


def cpu_s(daemon):
    """Of the process so far: other than the clock it does not depend on what else the machine does."""
    fields = Path(f"/proc/{daemon.program.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cross(sender, receiver, scratch, prefix):
    """What NEW small transfers take: seconds, and CPU seconds of both sides."""
    begun, cpu = time.monotonic(), cpu_s(sender) + cpu_s(receiver)
    before = receiver.status()["transfers"]["delivered_total"]
    for number in range(NEW):
        sender.drop(content.write_file(scratch / f"{prefix}-{number}", 20_000, seed=number))
    receiver.wait_status(lambda status: status["transfers"]["delivered_total"] >= before + NEW, "deliveries")
    return time.monotonic() - begun, cpu_s(sender) + cpu_s(receiver) - cpu


def test_a_hundred_thousand_transfers_in_the_ledgers_slow_nothing_down(fast_pair, fast_scratch):
    if not SHIM.exists():
        pytest.skip(f"{SHIM} is not built")
    both = fast_pair(channels={"default": {"complete": "rename"}})
    both.receiver.wait_heard()
    both.sender.drop(content.write_file(fast_scratch / "first", 1000))
    both.receiver.wait_count(1)
    both.sender.wait_sent(1)
    small_s, small_cpu_s = cross(both.sender, both.receiver, fast_scratch, "small")
    both.sender.wait_sent(1 + NEW)
    assert both.sender.stop() == 0 and both.receiver.stop() == 0
    fill_receiver(both.receiver)
    fill_sender(both.sender)
    high, low = Reads(fast_scratch / "high-reads", both.receiver), Reads(fast_scratch / "low-reads", both.sender)
    high_s, low_s = start(both.receiver), start(both.sender)
    high_start, low_start = high.pages(), low.pages()
    both.receiver.wait_heard()
    assert both.receiver.status()["transfers"]["delivered_total"] == COUNT
    assert both.sender.status()["last_sequence"] == COUNT
    assert both.receiver.status()["transfers"]["never_seen"] == []
    before, low_before = high.pages(), low.pages()
    large_s, large_cpu_s = cross(both.sender, both.receiver, fast_scratch, "large")
    each, low_each = (high.pages() - before) / NEW, (low.pages() - low_before) / NEW
    print(f"{COUNT} transfers: the receiver starts in {high_s:.2f} s ({high_start} pages), the sender in {low_s:.2f} s "
          f"({low_start} pages); {NEW} transfers in {large_s:.2f} s ({each:.0f} and {low_each:.0f} pages each, "
          f"{large_cpu_s:.2f} CPU s), in empty ledgers in {small_s:.2f} s ({small_cpu_s:.2f} CPU s)")
    assert high_start < START_PAGES
    assert each < PAGES_EACH and low_each < PAGES_EACH
    assert low_start < 10 * START_PAGES


ROUNDS = 7
MANY = 400


def grown(directory, count):
    """A pair whose ledgers hold `count` transfers; 1: just one."""
    both = harness.Pair(directory, link={"rate": "2Gbit/s"}, channels={"default": {"complete": "rename"}}).start()
    both.receiver.wait_heard()
    both.sender.drop(content.write_file(directory / "first", 1000))
    both.receiver.wait_count(1)
    both.sender.wait_sent(1)
    if count > 1:
        assert both.sender.stop() == 0 and both.receiver.stop() == 0
        fill_receiver(both.receiver)
        fill_sender(both.sender)
        times = start(both.receiver), start(both.sender)
        print(f"{count} transfers in the ledgers: the receiver starts in {times[0]:.2f} s, the sender in "
              f"{times[1]:.2f} s")
        assert max(times) < 2
        both.receiver.wait_heard()
    return both


def burst(both, directory, name):
    """Transfers delivered in a second, and CPU seconds of both sides, for MANY small ones that lie ready at once."""
    hidden = directory / f".{name}"
    hidden.mkdir()
    for number in range(MANY):
        content.write_file(hidden / f"{name}-{number}", 20_000, seed=number)
    before = both.receiver.status()["transfers"]["delivered_total"]
    sent = both.sender.status()["sent_total"]
    begun, cpu = time.monotonic(), cpu_s(both.sender) + cpu_s(both.receiver)
    for file in hidden.iterdir():
        os.rename(file, both.sender.channel("default") / file.name)
    both.receiver.wait_status(lambda status: status["transfers"]["delivered_total"] >= before + MANY, "deliveries", 120)
    took = time.monotonic() - begun
    both.sender.wait_sent(sent + MANY)
    return MANY / took, cpu_s(both.sender) + cpu_s(both.receiver) - cpu


@pytest.mark.long
def test_the_delivery_rate_is_the_same_within_a_tenth_in_ledgers_of_a_hundred_thousand(fast_scratch):
    """Two pairs on one machine take turns, so that whatever else it does hits both: the median of the ratios counts."""
    pairs = {}
    for name, count in (("small", 1), ("large", COUNT)):
        directory = fast_scratch / name
        directory.mkdir()
        pairs[name] = grown(directory, count)
    ratios, cpu_ratios = [], []
    for number in range(-1, ROUNDS):
        found = {}
        for name in ("small", "large") if number % 2 == 0 else ("large", "small"):
            found[name] = burst(pairs[name], fast_scratch / name, f"burst{number}")
        if number < 0:
            continue  # the first one warms up
        ratios.append(found["large"][0] / found["small"][0])
        cpu_ratios.append(found["large"][1] / found["small"][1])
        print(f"round {number}: {found['small'][0]:.0f}/s in a small ledger, {found['large'][0]:.0f}/s in a large one; "
              f"CPU {found['small'][1]:.2f} and {found['large'][1]:.2f} s")
    print(f"rate in ledgers of {COUNT} against small ones, {MANY} transfers each, median of {ROUNDS}: "
          f"{statistics.median(ratios):.3f}; CPU: {statistics.median(cpu_ratios):.3f}")
    assert statistics.median(ratios) > 0.9
