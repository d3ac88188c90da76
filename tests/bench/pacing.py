# SPDX-License-Identifier: Apache-2.0
"""
Whether the configured rate is held: its mean over ten seconds, and the most in any 100 ms. What leaves is read from the counters of
the low end each two milliseconds, by this file run as a program in that namespace.
"""

import json
import subprocess
import sys
import tempfile
import time

import links
import machine
from pair import Running
from workloads import GIB, sparse

RATES_GBIT = (0.01, 0.1, 1)
SHARE = 0.8
LEAD_S, MEAN_S = 1.0, 10.0
MOST_WRITTEN = 14 * GIB  # by the receiver in one run: ten seconds and what is around them, at 8 Gbit/s
WINDOW_S, STEP_S = 0.1, 0.002
TRAIN_DATAGRAMS, TRAIN_BYTES = 64, 65_000  # sender/train.h


def sample(interface, seconds):
    """[(time before, time after, wire bits between them)] from now on: who samples may be kept waiting too."""
    with open("/proc/self/net/dev", "rb", buffering=0) as counters:  # of this namespace, which /sys may not be of
        samples, end_s = [], time.monotonic() + seconds
        while not samples or samples[-1][1] < end_s:
            before_s = time.monotonic()
            counters.seek(0)
            (line,) = [line for line in counters.read().decode().splitlines() if line.strip().startswith(f"{interface}:")]
            size, frames = map(int, line.split(":")[1].split()[8:10])
            samples.append((before_s, time.monotonic(), 8 * (size + links.ETHERNET_REST * frames)))
            time.sleep(STEP_S)
    return samples


def most_in_window(samples):
    """Wire bits between any two samples that are surely at most 100 ms apart."""
    most = first = 0
    for _, after_s, bits in samples:
        while after_s - samples[first][0] > WINDOW_S:
            first += 1
        most = max(most, bits - samples[first][2])
    return most


def train_bits(mtu):
    """Wire bits of the longest train."""
    _, payload, wire = links.full_datagram(mtu)
    return 8 * min(TRAIN_DATAGRAMS, TRAIN_BYTES // payload) * wire


def _one(link, directory, gbit):
    seconds = LEAD_S + MEAN_S + 1
    with tempfile.TemporaryDirectory(dir=directory, prefix="run-") as scratch:
        load = sparse(scratch, int(gbit * 1e9 / 8 * (seconds + 2)))
        with Running(scratch, link, gbit) as running:
            hidden = running.sender.channel("default") / ".staged"
            hidden.mkdir()
            running.drop(load.stage(hidden), "default")
            running.receiver.wait_status(lambda status: status["transfers"]["open"], "the beginning of the transfer")
            steal = machine.Steal()
            done = subprocess.run([*link.in_low, sys.executable, __file__, link.interfaces[0], str(seconds)], check=True,
                                  stdout=subprocess.PIPE, timeout=seconds + 30)
            stolen = steal.share()
            for daemon in (running.sender, running.receiver):
                daemon.kill()
    samples = [one for one in json.loads(done.stdout)]
    begin_s = samples[0][0] + LEAD_S
    samples = [one for one in samples if begin_s <= one[0] <= begin_s + MEAN_S]
    (first_s, _, first), (last_s, _, last) = samples[0], samples[-1]
    return {"mean_of_rate": (last - first) / (last_s - first_s) / (gbit * 1e9), "stolen": stolen,
            "over_in_100_ms_of_train": max(0, most_in_window(samples) - gbit * 1e9 * WINDOW_S) / train_bits(link.mtu)}


def measure(link, directory, best_gbit, watch, tell):
    """A row for each rate; the last is 80 % of what the link carries just before, which is less than what is asked for at best."""
    rows = []

    def add(gbit):
        watch.look(f"pacing, {link.name}, MTU {link.mtu}, {gbit:.2f} Gbit/s")
        rows.append({"link": link.name, "mtu": link.mtu, "rate_gbit": gbit, **_one(link, directory, gbit)})
        tell(f"  pacing at {gbit:.2f} Gbit/s: mean {rows[-1]['mean_of_rate']:.4f} of it, at most "
             f"{rows[-1]['over_in_100_ms_of_train']:.2f} trains over it in 100 ms; stolen {rows[-1]['stolen']:.0%}")

    for gbit in RATES_GBIT:
        add(gbit)
    add(SHARE * best_gbit * _one(link, directory, best_gbit)["mean_of_rate"])
    return rows


if __name__ == "__main__":
    json.dump(sample(sys.argv[1], float(sys.argv[2])), sys.stdout)
