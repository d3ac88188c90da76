#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
Goodput of diodecast beside two yardsticks, all in one run on one machine: `raw` moves datagrams and looks at nothing, `pair` does
what the bytes cost (see bare.c) and no more. For each a rate is searched that loses nothing and brings most; then all are measured
in turns, so that a busy moment of the machine hits all of them. Absolute figures belong to the machine and the moment; what counts
is the ratio to the pair, which is the median of the rounds' ratios.
"""

import argparse
import json
import os
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
from waiting import Timeout, wait_until  # noqa: E402

MIB = 1 << 20
BARE = harness.BUILD / "tests" / "bench" / "bare"
GIB = 1 << 30
# Lossless at any rate of the search: two groups of the deepest interleaving, and as much again for a store that lags.
RECEIVER_MEMORY = "256MiB"


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
    link.name = f"veth, UDP segmentation {'on' if offload else 'off'}"
    return link


def artifact(path, size):
    """Bytes that nothing can compress or deduplicate, the same in each run."""
    with open("/dev/urandom", "rb") as source, open(path, "wb") as target:
        block = source.read(4 * MIB)
        for number in range(size // len(block)):
            target.write(number.to_bytes(8, "little") + block[8:])


def cpu_seconds(program):
    """Of all its threads so far."""
    fields = Path(f"/proc/{program.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wire_bytes(mtu, header):
    """One datagram with `header` before its symbol as Ethernet carries it, preamble and gap included; IPv4."""
    symbol = (mtu - 28 - 80) // 16 * 16
    return header + symbol + 28 + 38


class Bare:
    """`raw` or `pair`: one run gives its goodput in Gbit/s and its costs, or None when something was lost."""

    HEADER = 16

    def __init__(self, kind, link, mtu, directory, source, size):
        self.name, self.kind, self.link, self.mtu, self.size = kind, kind, link, mtu, size
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
        gib = received["bytes"] / GIB
        return {"gbit": received["bytes"] * 8 / received["seconds"] / 1e9,
                "low_cpu_s_per_gib": sent["cpu_seconds"] / gib, "high_cpu_s_per_gib": received["cpu_seconds"] / gib,
                "wire_bytes_per_byte": sent["datagrams"] * wire_bytes(self.mtu, self.HEADER) / received["bytes"]}


class Diodecast:
    """The real pair: a run is one drop by rename until it is visible in the intake queue. Start and stop are not counted."""

    name = "diodecast"

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
                                    receiver={"memory": RECEIVER_MEMORY})
        receiver.start()
        sender.start()
        receiver.wait_heard()
        try:
            result = self._send_one(sender, receiver, gbit)
        finally:
            sender.stop()
            receiver.stop()
        if result is None or receiver.status().get("link", {}).get("lost_total"):
            return None
        result["wire_bytes_per_byte"] = sender.status()["link"]["wire_bytes_sent"] / self.size
        return result

    def _send_one(self, sender, receiver, gbit):
        ready = sender.channel("default") / ".ready"
        os.link(self.source, ready)
        delivered = receiver.intake / "default"

        def ended():
            if delivered.is_dir() and any(not name.startswith(".") for name in os.listdir(delivered)):
                return "delivered"
            status = receiver.status()
            lost = status.get("link", {}).get("lost_total") or status.get("transfers", {}).get("incomplete")
            return "lost" if lost else None

        programs = (sender.program, receiver.program)
        before = [cpu_seconds(program) for program in programs]
        start = time.monotonic()
        os.rename(ready, sender.channel("default") / "artifact")
        # A rate whose goodput is a fifth of it is none to be measured at.
        limit = 5 + 5 * self.size * 8 / (gbit * 1e9)
        try:
            end = wait_until(ended, limit, "the delivery or a loss", watch=[receiver.intake, delivered], alive=programs)
        except Timeout:
            if not all(program.is_running() for program in programs):
                raise
            return None
        seconds = time.monotonic() - start
        if end == "lost":
            return None
        low, high = ((cpu_seconds(program) - begun) * GIB / self.size for program, begun in zip(programs, before))
        return {"gbit": self.size * 8 / seconds / 1e9, "low_cpu_s_per_gib": low, "high_cpu_s_per_gib": high,
                "low_peak_mib": sender.program.peak_memory_kib() / 1024,
                "high_peak_mib": receiver.program.peak_memory_kib() / 1024}


def best_rate(subject, low, high, steps):
    """
    Bisects (on a logarithmic scale) for the highest rate in Gbit/s that loses nothing, and returns the lowest of the lossless ones
    whose goodput comes within a tenth of the best: a sender that is asked for more than it can give only spreads its groups wider.
    """
    found = []
    for _ in range(steps):
        middle = (low * high) ** 0.5
        result = subject.run(middle)
        if result:
            found.append((middle, result["gbit"]))
            low = middle
        else:
            high = middle
    best = max((gbit for _, gbit in found), default=0)
    return min((rate for rate, gbit in found if gbit >= 0.9 * best), default=low)


def measure(subjects, arguments):
    """One row for each subject."""
    rates = []
    for subject in subjects:
        if subject.name == "diodecast" and rates:
            rates.append(best_rate(subject, rates[-1] / 4, rates[-1] * 1.5, arguments.steps))
        else:
            rates.append(best_rate(subject, 0.5, 48 if subject.name == "raw" else 16, arguments.steps + 1))
    rounds = [[subject.run(rate) for subject, rate in zip(subjects, rates)] for _ in range(arguments.runs)]
    pair = [subject.name for subject in subjects].index("pair")
    rows = []
    for number, (subject, rate) in enumerate(zip(subjects, rates)):
        results = [one[number] for one in rounds if one[number]]
        row = {"what": subject.name, "rate_gbit": rate, "runs": arguments.runs, "lossless_runs": len(results)}
        for key in results[0] if results else ():
            row[key] = statistics.median(result[key] for result in results)
        both = [(one[number], one[pair]) for one in rounds if one[number] and one[pair]]
        if both and subject.name != "raw":
            row["of_the_pair"] = statistics.median(own["gbit"] / other["gbit"] for own, other in both)
            row["cpu_of_the_pair"] = statistics.median(both_sides(own) / both_sides(other) for own, other in both)
        rows.append(row)
    return rows


def both_sides(result):
    return result["low_cpu_s_per_gib"] + result["high_cpu_s_per_gib"]


def links(arguments, scratch):
    for mtu in arguments.mtu:
        if arguments.loopback or os.geteuid() != 0:
            yield mtu, Loopback()
            continue
        for offload in (True,) if arguments.quick else (False, True):
            yield mtu, veth(scratch, mtu, offload)


def ratio(row, key):
    return f"{row[key]:.2f}" if key in row else "-"


def print_table(rows):
    print(f"{'link':29} {'mtu':>5} {'what':10} {'rate':>6} {'lossless':>8} {'goodput':>13} {'of pair':>7} {'CPU s/GiB low + high':>21} "
          f"{'of pair':>7} {'peak MiB':>9} {'wire':>5}")
    for row in rows:
        cpu = f"{row['low_cpu_s_per_gib']:.2f} + {row['high_cpu_s_per_gib']:.2f}" if "gbit" in row else "-"
        peak = f"{row['low_peak_mib']:.0f} + {row['high_peak_mib']:.0f}" if "high_peak_mib" in row else "-"
        print(f"{row['link']:29} {row['mtu']:5} {row['what']:10} {row['rate_gbit']:6.2f} {row['lossless_runs']:>5}/{row['runs']:<2} "
              f"{row.get('gbit', 0):6.2f} Gbit/s {ratio(row, 'of_the_pair'):>7} {cpu:>21} {ratio(row, 'cpu_of_the_pair'):>7} "
              f"{peak:>9} {row.get('wire_bytes_per_byte', 0):5.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mtu", type=int, nargs="+", default=[1500, 9000])
    parser.add_argument("--size-mib", type=int)
    parser.add_argument("--runs", type=int)
    parser.add_argument("--quick", action="store_true", help="256 MiB, 3 runs, a coarser search, and no veth without offload")
    parser.add_argument("--loopback", action="store_true", help="as without root: no namespaces")
    parser.add_argument("--json", type=Path, help="write the rows here too")
    arguments = parser.parse_args()
    arguments.runs = arguments.runs or (3 if arguments.quick else 5)
    arguments.steps = 4 if arguments.quick else 5
    size = (arguments.size_mib or (256 if arguments.quick else 512)) * MIB
    rows = []
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="diodecast-bench-") as scratch:
        source = Path(scratch) / "artifact"
        artifact(source, size)
        for mtu, link in links(arguments, scratch):
            try:
                subjects = [Bare(kind, link, mtu, scratch, source, size) for kind in ("raw", "pair")]
                subjects.append(Diodecast(link, mtu, scratch, source, size))
                for row in measure(subjects, arguments):
                    rows.append({"link": link.name, "mtu": mtu, **row})
                    print(json.dumps(rows[-1]), file=sys.stderr)
            finally:
                link.remove()
    print_table(rows)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
