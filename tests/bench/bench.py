#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
Measures diodecast beside yardsticks and a peer, all in one run on one machine. For each contender a rate is searched that loses
nothing and brings most; then all take turns in rounds, so that a busy moment of the machine hits all of them. Absolute figures
belong to the machine and the moment; what counts is the ratio to the pair, which is the median of the rounds' ratios.
`raw`, `pair` and `udpcast` are told in contenders.py, what a run of diodecast is in pair.py.
"""

import argparse
import contextlib
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

import goals
import links
import machine
import memory
import pacing
import plots
import rounds
import stages
import table
import workloads
from contenders import Bare, Udpcast
from links import harness
from pair import Diodecast, Wheel
from workloads import GIB, MIB

PARTS = ("throughput", "latency", "pacing", "hold", "stages", "plots")
RATES = {"raw": (1, 60), "pair": (0.5, 16), "udpcast": (0.2, Udpcast.MOST_GBIT), "bulk": (0.5, 10)}
HOLD_SHARE = 0.8
WHOLE = {"runs": 5, "size_mib": 1024, "tree_files": 2000, "loose_files": 5000, "hold_mib": 4096}  # the goals are of these, or more
ROWS = ("raw", "zerocopy", "pair", "udpcast", "bulk", "key", "lanes", "tree", "loose")


class Plan:
    """Sizes and counts of a whole or a quick run."""

    def __init__(self, arguments):
        quick = arguments.quick
        self.runs = arguments.runs or (3 if quick else WHOLE["runs"])
        self.size = (arguments.size_mib or (128 if quick else WHOLE["size_mib"])) * MIB
        self.search_size = self.size  # more than the receiver's memory holds, so that a rate that is too high shows
        self.steps = 3 if quick else 6
        self.repeats = 1 if quick else 3
        self.tree_files = arguments.tree_files or (500 if quick else WHOLE["tree_files"])
        self.loose_files = arguments.loose_files or (1000 if quick else WHOLE["loose_files"])
        self.model_size = (1 if quick else 10) * GIB
        self.wheels = 3 if quick else 5
        self.hold_size = (arguments.hold_mib or (256 if quick else WHOLE["hold_mib"])) * MIB
        written = max(self.size, self.hold_size if "hold" in arguments.parts else 0,
                      pacing.MOST_WRITTEN if "pacing" in arguments.parts else 0)  # by one run, beside the loads
        self.kept_memory = written + 2 * self.size + GIB if machine.is_virtual() else 0
        self.plot_rates = 4 if quick else 9
        self.mtus = arguments.mtu or [1500, 9000]
        self.settings = [] if arguments.loopback else ([True] if quick else [False, True])
        if arguments.offload:
            self.settings = [word == "on" for word in arguments.offload]
        self.rows = [row for row in ROWS if row in arguments.rows]
        self.parts = arguments.parts
        given = {"runs": self.runs, "size_mib": self.size / MIB, "tree_files": self.tree_files, "loose_files": self.loose_files,
                 "hold_mib": self.hold_size / MIB}
        self.is_whole = all(given[name] >= least for name, least in WHOLE.items())

    def estimate_s(self):
        """Seconds, for two shared cores: about 3 Gbit/s in bulk, 0.5 for udpcast, 2 s to start and stop the daemons."""
        count = len(self.mtus) * max(1, len(self.settings))
        one = {"raw": 0.5, "zerocopy": 0.5, "pair": self.size / 450e6, "udpcast": self.size / 60e6 + 0.5, "bulk": 2 + self.size / 350e6,
               "key": 2 + self.size / 250e6, "lanes": 2 + self.size / 350e6, "tree": 2 + self.tree_files / 3000,
               "loose": 2.5 + self.loose_files / 1500}
        tries = (2 * self.steps + 2) * self.repeats * 0.7  # bisection, the way down, the final; some end early
        search = sum(one[row] * self.search_size / self.size for row in self.rows if row in RATES) * tries
        total = 0
        if "throughput" in self.parts:
            total += count * (search + self.runs * (machine.LOOK_S + sum(one[row] for row in self.rows)))
        if "latency" in self.parts:
            total += count * (8 + self.wheels * 0.3)
        if "throughput" not in self.parts and {"pacing", "hold", "plots"} & set(self.parts):
            total += count * one["bulk"] * self.search_size / self.size * tries
        if "pacing" in self.parts:
            total += len(self.mtus) * 4 * 18
        if "hold" in self.parts:
            total += count * (self.runs + self.repeats) * (2 + self.hold_size / 400e6)
        if "plots" in self.parts:
            total += len(self.mtus) * self.plot_rates * 4 + 11 * 8
        if "stages" in self.parts:
            total += len(self.mtus) * 15
        return total + 10


def tell(text):
    print(text, file=sys.stderr, flush=True)


class Bench:
    def __init__(self, arguments, scratch):
        self.plan, self.arguments, self.scratch = Plan(arguments), arguments, Path(scratch)
        self.watch = machine.Watch()
        self.command = "make bench" + (f" BENCH_OPTIONS='{' '.join(sys.argv[1:])}'" if sys.argv[1:] else "")
        self.result = {"command": self.command, "whole": self.plan.is_whole,
                       "machine": {**machine.facts(), "rmem_max": links.raise_socket_buffer()},
                       "throughput": [], "latency": [], "pacing": [], "hold": [], "stages": [], "plots": {}}
        self.loads = {}
        self.best = {}  # (contender, link name, MTU): rate

    def load(self, name):
        """Made on first use."""
        if name not in self.loads:
            root = self.scratch / f"load-{name}"
            root.mkdir()
            self.loads[name] = {"bulk": lambda: workloads.bulk(root, self.plan.size),
                                "search": lambda: workloads.bulk(root, self.plan.search_size),
                                "tree": lambda: workloads.tree(root, self.plan.tree_files),
                                "loose": lambda: workloads.loose(root, self.plan.loose_files),
                                "wheel": lambda: workloads.wheel(root),
                                "model": lambda: workloads.sparse(root, self.plan.model_size),
                                "hold": lambda: workloads.sparse(root, self.plan.hold_size)}[name]()
        return self.loads[name]

    def key(self):
        path = self.scratch / "link.key"
        if not path.exists():
            harness.diodecast("keygen", "--link", path, check=0)
        return path

    def contender(self, name, link, load=None):
        bulk = load or (self.load(name) if name in ("tree", "loose") else self.load("bulk"))
        if name in ("raw", "pair"):
            return Bare(name, link, self.scratch, bulk)
        if name == "zerocopy":
            return Bare("raw", link, self.scratch, bulk, "raw, zero-copy", ["-z"])
        if name == "udpcast":
            return Udpcast(link, self.scratch, bulk)
        options = {"key": {"key": self.key()}, "lanes": {"lanes": self.arguments.lanes}}.get(name, {})
        shown = {"key": "bulk, link key", "lanes": f"bulk, {self.arguments.lanes} lanes"}.get(name, name)
        return Diodecast(shown, link, self.scratch, bulk, **options)

    def search(self, name, link):
        """(rate, what was tried). Ways of diodecast share the rate of its bulk, zero-copy that of raw."""
        if self.arguments.rate and name not in ("raw", "zerocopy", "pair", "udpcast"):
            return self.arguments.rate, ()
        if name not in RATES:
            name = "raw" if name == "zerocopy" else "bulk"
        if (name, link.name, link.mtu) in self.best:
            return self.best[name, link.name, link.mtu], ()
        low, high = RATES[name]
        contender = self.contender(name, link, self.load("search"))
        rate, tried = rounds.best_rate(contender.run, low, high, self.plan.steps, self.plan.repeats, tell)
        tell(f"  best rate of {name}: {rate:.2f} Gbit/s on the wire")
        self.best[name, link.name, link.mtu] = rate
        return rate, tried

    def most_carried(self, contender, link):
        """
        Gbit/s of the wire that `contender` fills now at bulk's best rate, or at the next lower one that loses nothing: where a
        rate asks for more than the cores give, less than the rate. Measured anew, because the machine may have been faster at
        the search.
        """
        rate, goodputs = self.search("bulk", link)[0], []
        while not goodputs and rate >= RATES["bulk"][0]:
            results = [rounds.attempt(contender.run, rate, tell) for _ in range(self.plan.repeats)]
            goodputs = [one["gbit"] for one in results if one]
            rate *= 1 if goodputs else rounds.STEP_DOWN
        return min(rate, statistics.median(goodputs) * links.wire_per_byte(link.mtu)) if goodputs else rate

    def throughput(self, link):
        rows = [rounds.Row(self.contender(name, link), *self.search(name, link)) for name in self.plan.rows]
        rounds.take_turns(rows, self.plan.runs, self.watch, f"{link.name}, MTU {link.mtu}", tell)
        summary = rounds.summarize(rows, link)
        self.result["throughput"] += summary
        print(f"\n{link.name}, MTU {link.mtu}, {self.plan.size / MIB:.0f} MiB in bulk, medians of {self.plan.runs} runs in turns")
        print(table.throughput(summary))
        print(table.threads(summary, ("bulk", f"bulk, {self.arguments.lanes} lanes")), flush=True)

    def latency(self, link):
        gbit = self.arguments.latency_rate
        wheel = Wheel(link, self.scratch, self.load("wheel"), self.load("model"), gbit, self.plan.wheels)
        self.watch.look(f"latency, {link.name}, MTU {link.mtu}")
        row = {"link": link.name, "mtu": link.mtu, "rate_gbit": gbit, "own_ms": wheel.own_s() * 1000}
        for name, beside in (("idle_ms", False), ("beside_ms", True)):
            result = rounds.attempt(lambda _, beside=beside: wheel.run(beside), gbit, tell)
            if result is None:
                return
            found, row["low_peak_mib"], row["high_peak_mib"] = result
            row[name] = rounds.spread([1000 * seconds for seconds in found])
        self.result["latency"].append(row)
        tell(f"  wheel: own {row['own_ms']:.0f} ms, idle {row['idle_ms']['median']:.0f} ms, beside {row['beside_ms']['median']:.0f} ms")

    def pacing(self, link):
        """Only where the counters of the low end tell each datagram."""
        if link.offload is False:
            best = self.search("bulk", link)[0]
            self.result["pacing"] += pacing.measure(link, self.scratch, best, self.watch, tell)

    def hold(self, link):
        """80 % of what is carried at most, held for long: not one datagram may be lost."""
        contender = Diodecast("hold", link, self.scratch, self.load("hold"))
        rate = HOLD_SHARE * self.most_carried(contender, link)
        row = {"link": link.name, "mtu": link.mtu, "rate_gbit": rate, "size_gib": self.plan.hold_size / GIB, "lost": []}
        goodputs = []
        for number in range(self.plan.runs):
            self.watch.look(f"hold {number + 1}, {link.name}, MTU {link.mtu}")
            result = rounds.attempt(contender.run, rate, tell)
            row["lost"].append(contender.lost if result or contender.lost else None)
            goodputs += [result["gbit"]] if result else []
            tell(f"  hold {number + 1}/{self.plan.runs}: " +
                 ("failed" if row["lost"][-1] is None else f"{contender.lost} datagrams lost {contender.drops or ''}"))
        row["gbit"] = rounds.spread(goodputs)
        self.result["hold"].append(row)

    def plots(self, link, curves):
        best = self.search("bulk", link)[0]
        rates = [1.5 * best * (number + 1) / self.plan.plot_rates for number in range(self.plan.plot_rates)]
        curves[f"MTU {link.mtu}"] = plots.goodput(link, self.scratch, self.load("search"), rates, 1 if self.arguments.quick else 3,
                                                     self.watch, tell)

    def draw(self, curves, points):
        directory = self.arguments.plots_to
        directory.mkdir(parents=True, exist_ok=True)
        if curves:
            plots.draw_goodput(curves, self.command, directory / "goodput.svg")
        if points:
            plots.draw_delivery(points, self.command, directory / "delivery.svg")
        self.result["plots"] = {"goodput": curves, "delivery": points}
        print(f"\nplots drawn into {directory}, by: {self.command}")

    def each_link(self, work, mtus, settings):
        """Links are taken away again, whatever happens."""
        with contextlib.closing(links.make(self.scratch, mtus, settings)) as all_links:
            for link in all_links:
                tell(f"{link.name}, MTU {link.mtu}")
                work(link)

    def on_links(self):
        curves, points = {}, []

        def on_link(link):
            for part in ("throughput", "latency", "pacing", "hold"):
                if part in self.plan.parts:
                    getattr(self, part)(link)
            if "plots" in self.plan.parts and link.offload in (None, False if False in self.plan.settings else True):
                self.plots(link, curves)
            self.save()

        def on_lossy_link(link):
            if link.offload is not None:  # on loopback nothing can be made to lose
                points.extend(plots.delivery(link, self.scratch, 10 if self.arguments.quick else 50, 4, tell))

        self.each_link(on_link, self.plan.mtus, self.plan.settings)
        if "plots" in self.plan.parts:
            self.each_link(on_lossy_link, [1500], [False] if self.plan.settings else [])
            self.draw(curves, points)

    def run(self):
        with memory.kept(self.plan.kept_memory) as kept:
            self.result["machine"]["memory_kept_gib"] = kept / GIB
            self.measure()

    def measure(self):
        facts = self.result["machine"]
        print(f"{facts['cpus']} x {facts['cpu']}, {facts['memory_gib']} GiB, Linux {facts['kernel']}, load {facts['load_at_start'][0]:.2f}; "
              f"this takes about {self.plan.estimate_s() / 60:.0f} minutes", flush=True)
        self.watch.look("before the start")
        start = time.monotonic()
        if set(PARTS) - {"stages"} & set(self.plan.parts):
            self.on_links()
        if "stages" in self.plan.parts:
            self.result["stages"] = stages.measure(self.scratch, self.plan.mtus, self.plan.runs, self.watch, tell)
        for part in ("latency", "pacing", "hold", "stages"):
            if self.result[part]:
                print("\n" + getattr(table, part)(self.result[part]))
        self.result["seconds"] = round(time.monotonic() - start)
        self.save()
        lines, remark = goals.judge(self.result)
        if lines:
            print("\n" + table.render(["goal", "seen", "wanted", "met"], lines) + (f"\n{remark}" if remark else ""))
        print(f"\n{self.watch.verdict()}\n{self.loss_verdict()}Took {self.result['seconds'] / 60:.1f} minutes; by: {self.command}")

    def loss_verdict(self):
        lossy = [f"{row['what']} ({row['link']}, MTU {row['mtu']})" for row in self.result["throughput"] if row["lossless_runs"] < row["runs"]]
        return f"Lost something in some runs, so their figures are not good ones: {', '.join(lossy)}.\n" if lossy else ""

    def save(self):
        self.result["quiet"] = self.watch.to_json()
        if self.arguments.json:
            self.arguments.json.write_text(json.dumps(self.result, indent=2, default=str) + "\n")


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, 3 runs, a coarser search, no veth without segmentation")
    parser.add_argument("--parts", nargs="+", choices=PARTS, help="of the whole run; the default is all, with --quick the first two")
    parser.add_argument("--hold", action="store_true", help="only the test of the held rate: 4 GiB, five times, at 80 %% of what is carried")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS, help="contenders of the throughput table")
    parser.add_argument("--mtu", type=int, nargs="+")
    parser.add_argument("--offload", choices=["off", "on"], nargs="+", help="tx-udp-segmentation of the veth")
    parser.add_argument("--loopback", action="store_true", help="as without root: no namespaces")
    parser.add_argument("--runs", type=int)
    parser.add_argument("--lanes", type=int, default=2, help="of the row that has several")
    parser.add_argument("--rate", type=float, help="Gbit/s on the wire for diodecast instead of the search")
    parser.add_argument("--latency-rate", type=float, default=1, help="Gbit/s on the wire beside which the wheel is measured")
    parser.add_argument("--size-mib", type=int)
    parser.add_argument("--hold-mib", type=int)
    parser.add_argument("--tree-files", type=int)
    parser.add_argument("--loose-files", type=int)
    parser.add_argument("--json", type=Path, help="write all results here")
    parser.add_argument("--plots-to", type=Path, default=harness.BUILD / "bench", help="folder of the plots (README: tests/bench/plots)")
    arguments = parser.parse_args()
    arguments.loopback = arguments.loopback or os.geteuid() != 0
    if arguments.hold:
        arguments.parts = ["hold"]
    if arguments.parts is None:
        arguments.parts = ["throughput", "latency"] if arguments.quick else list(PARTS)
    return arguments


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # as an exception, so that all is taken away
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="diodecast-bench-") as scratch:
        Bench(parse(), scratch).run()


if __name__ == "__main__":
    main()
