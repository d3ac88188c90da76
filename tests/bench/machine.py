# SPDX-License-Identifier: Apache-2.0
"""The machine that is measured on: what it is, and whether it had anything else to do."""

import os
import platform
import time
from pathlib import Path

BUSY_SHARE = 0.10  # of all CPUs, taken by others while nothing of ours runs: from here on a result is not a good one
LOOK_S = 0.5


def is_virtual():
    return "hypervisor" in Path("/proc/cpuinfo").read_text()


def facts():
    cpu = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")), platform.processor())
    memory_kib = int(next(line for line in Path("/proc/meminfo").read_text().splitlines() if "MemTotal" in line).split()[1])
    return {"cpu": cpu, "cpus": os.cpu_count(), "memory_gib": round(memory_kib / 2**20, 1), "kernel": platform.release(),
            "virtual": is_virtual(), "load_at_start": list(os.getloadavg()),
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}


def _cpu_times():
    """(busy, all, stolen) jiffies of all CPUs; what the hypervisor took away, the last one, counts as busy too."""
    fields = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    idle = fields[3] + fields[4]
    return sum(fields) - idle, sum(fields), fields[7]


class Steal:
    """The share of all CPUs that the hypervisor gave to others since it was last asked."""

    def __init__(self):
        self.before = _cpu_times()

    def share(self):
        before, self.before = self.before, _cpu_times()
        return (self.before[2] - before[2]) / max(1, self.before[1] - before[1])


class Watch:
    """Looks, between the rounds, at how much of the machine others take; and at what the hypervisor took meanwhile."""

    def __init__(self):
        self.looks = []
        self.steal = Steal()

    def look(self, where):
        stolen = self.steal.share()
        before = _cpu_times()
        time.sleep(LOOK_S)
        after = _cpu_times()
        share = (after[0] - before[0]) / max(1, after[1] - before[1])
        self.looks.append({"where": where, "share": round(share, 3), "stolen_before": round(stolen, 3),
                           "load": round(os.getloadavg()[0], 2)})
        return share

    def busy(self):
        return [one for one in self.looks if max(one["share"], one["stolen_before"]) > BUSY_SHARE]

    def verdict(self):
        """What to say under the table."""
        worst = max(self.looks, key=lambda one: one["share"], default=None)
        if worst is None:
            return "nobody looked whether the machine was quiet"
        stolen = max(one["stolen_before"] for one in self.looks)
        seen = (f"others took up to {worst['share']:.0%} of the CPUs between the rounds ({worst['where']}, load {worst['load']}), "
                f"and the hypervisor up to {stolen:.0%} in one")
        busy = self.busy()
        if busy:
            return f"NOT A GOOD RESULT: the machine was busy at {len(busy)} of {len(self.looks)} looks; {seen}. Run again when it is quiet."
        return f"The machine was quiet at all {len(self.looks)} looks; {seen}."

    def to_json(self):
        return {"good": not self.busy(), "verdict": self.verdict(), "looks": self.looks}
