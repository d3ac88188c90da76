#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
Goodput of diodecast beside two yardsticks, all in one run on one machine: `raw` moves datagrams and looks at nothing, `pair` does
what the bytes cost (see bare.c) and no more. For each the highest rate that loses nothing is searched, then measured several times.
Absolute figures belong to the machine and the moment; what counts is the ratio to the pair in the same table.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "system"))

import harness  # noqa: E402
import namespaces  # noqa: E402
from waiting import wait_until  # noqa: E402

MIB = 1 << 20
BARE = harness.BUILD / "tests" / "bench" / "bare"
SEARCH_STEPS = 6
SLOWEST, FASTEST = 0.25, 32.0  # Gbit/s


class Loopback:
    """No namespaces, no root: the same kernel work without a device between."""

    name, in_low, in_high, address = "loopback", [], [], "127.0.0.1"

    def remove(self):
        pass


def veth(directory, mtu, offload):
    link = namespaces.Link(directory, mtu=mtu)
    link.address = link.HIGH_ADDRESS
    if offload:
        link.run(link.low, "ethtool", "-K", "low", "tx-udp-segmentation", "on")
    link.name = f"veth, tx-udp-segmentation {'on' if offload else 'off'}"
    return link


def artifact(path, size):
    """Bytes that nothing can compress or deduplicate, the same in each run."""
    with open("/dev/urandom", "rb") as source, open(path, "wb") as target:
        block = source.read(4 * MIB)
        for number in range(size // len(block)):
            target.write(number.to_bytes(8, "little") + block[8:])


def children_cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


class Bare:
    """`raw` or `pair`: one run gives its goodput in Gbit/s, or None when something was lost."""

    def __init__(self, kind, link, mtu, directory, source, size):
        self.kind, self.link, self.mtu, self.size = kind, link, mtu, size
        self.source, self.target = source, Path(directory) / "bare.out"

    def run(self, gbit):
        port = harness.free_port()
        common = ["-a", f"{self.link.address}:{port}", "-m", str(self.mtu)]
        receive = [*self.link.in_high, BARE, self.kind, "receive", *common, "-f", self.target]
        send = [*self.link.in_low, BARE, self.kind, "send", *common, "-f", self.source, "-b", str(self.size), "-r", f"{gbit:.3f}Gbit/s"]
        with subprocess.Popen([os.fspath(word) for word in receive], stdout=subprocess.PIPE, text=True) as receiver:
            receiver.stdout.readline()
            sent = json.loads(harness.run(send, check=0, timeout=120).stdout)
            received = json.loads(receiver.stdout.readline())
        self.target.unlink(missing_ok=True)
        if received["datagrams"] != sent["datagrams"] or received["damaged"]:
            return None
        return {"gbit": received["bytes"] * 8 / received["seconds"] / 1e9,
                "cpu_s_per_gib": (sent["cpu_seconds"] + received["cpu_seconds"]) * (1 << 30) / received["bytes"]}


class Diodecast:
    """The real pair: a run is one drop by rename until it is visible in the intake queue."""

    def __init__(self, link, mtu, directory, source, size):
        self.link, self.mtu, self.directory, self.source, self.size = link, mtu, Path(directory), source, size
        self.count = 0

    def run(self, gbit):
        self.count += 1
        with tempfile.TemporaryDirectory(dir=self.directory) as scratch:
            return self._measure(Path(scratch), gbit)

    def _measure(self, scratch, gbit):
        port = harness.free_port()
        sender = harness.Sender(scratch / "low", f"{self.link.address}:{port}", prefix=self.link.in_low,
                                link={"rate": f"{gbit:.3f}Gbit/s", "mtu": str(self.mtu)})
        receiver = harness.Receiver(scratch / "high", f"{self.link.address}:{port}", [sender.public], prefix=self.link.in_high,
                                    receiver={"memory": "512MiB"})
        before = children_cpu_seconds()
        receiver.start()
        sender.start()
        receiver.wait_heard()
        ready = sender.channel("default") / ".ready"
        os.link(self.source, ready)
        delivered = receiver.intake / "default"
        start = time.monotonic()
        os.rename(ready, sender.channel("default") / "artifact")
        wait_until(lambda: delivered.is_dir() and any(not name.startswith(".") for name in os.listdir(delivered))
                   or receiver.status().get("link", {}).get("lost_total"), 120, "the delivery or a loss",
                   watch=[receiver.intake, delivered], alive=[sender.program, receiver.program])
        seconds = time.monotonic() - start
        peak = receiver.program.peak_memory_kib()
        sender.stop()
        receiver.stop()
        if receiver.status().get("link", {}).get("lost_total"):
            return None
        cpu = children_cpu_seconds() - before
        return {"gbit": self.size * 8 / seconds / 1e9, "cpu_s_per_gib": cpu * (1 << 30) / self.size, "receiver_peak_mib": peak / 1024}


def highest_lossless(subject):
    """Rate in Gbit/s, by bisection on a logarithmic scale; a rate counts when two runs in a row lose nothing."""
    low, high = SLOWEST, FASTEST
    for _ in range(SEARCH_STEPS):
        middle = (low * high) ** 0.5
        if all(subject.run(middle) for _ in range(2)):
            low = middle
        else:
            high = middle
    return low


def measure(subject, runs):
    rate = highest_lossless(subject)
    results = [result for result in (subject.run(rate) for _ in range(runs)) if result]
    if not results:
        return {"rate_gbit": rate, "lossless_runs": 0}
    keys = results[0].keys()
    return {"rate_gbit": rate, "lossless_runs": len(results), "runs": runs,
            **{key: statistics.median(result[key] for result in results) for key in keys}}


def links(arguments, scratch):
    for mtu in arguments.mtu:
        if arguments.loopback or os.geteuid() != 0:
            yield mtu, Loopback()
            continue
        for offload in (False, True):
            yield mtu, veth(scratch, mtu, offload)


def print_table(rows):
    print(f"{'link':34} {'mtu':>5} {'what':10} {'lossless up to':>14} {'goodput':>14} {'of the pair':>11} {'CPU s/GiB':>9}")
    for row in rows:
        pair = next((one for one in rows if one["what"] == "pair" and (one["link"], one["mtu"]) == (row["link"], row["mtu"])), None)
        ratio = f"{row['gbit'] / pair['gbit']:.2f}" if pair and "gbit" in row and "gbit" in pair else "-"
        print(f"{row['link']:34} {row['mtu']:5} {row['what']:10} {row['rate_gbit']:8.2f} Gbit/s {row.get('gbit', 0):7.2f} Gbit/s "
              f"{ratio:>11} {row.get('cpu_s_per_gib', 0):9.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mtu", type=int, nargs="+", default=[1500, 9000])
    parser.add_argument("--size-mib", type=int, default=512)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--loopback", action="store_true", help="as without root: no namespaces")
    parser.add_argument("--json", type=Path, help="write the rows here too")
    arguments = parser.parse_args()
    size = arguments.size_mib * MIB
    rows = []
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="diodecast-bench-") as scratch:
        source = Path(scratch) / "artifact"
        artifact(source, size)
        for mtu, link in links(arguments, scratch):
            try:
                for what, subject in (("raw", Bare("raw", link, mtu, scratch, source, size)),
                                      ("pair", Bare("pair", link, mtu, scratch, source, size)),
                                      ("diodecast", Diodecast(link, mtu, scratch, source, size))):
                    rows.append({"link": link.name, "mtu": mtu, "what": what, **measure(subject, arguments.runs)})
                    print(f"{link.name}, MTU {mtu}, {what}: {json.dumps(rows[-1])}", file=sys.stderr)
            finally:
                link.remove()
    print_table(rows)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
