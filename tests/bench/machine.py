# SPDX-License-Identifier: Apache-2.0
"""The machine that is measured on: what it is, and whether it had anything else to do."""

import os
import platform
import time
from pathlib import Path

BUSY_SHARE = 0.10  # of all CPUs, taken by others while nothing of ours runs: from here on a result is not a good one
LOOK_S = 0.5


def facts():
    cpu = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")), platform.processor())
    memory_kib = int(next(line for line in Path("/proc/meminfo").read_text().splitlines() if "MemTotal" in line).split()[1])
    return {"cpu": cpu, "cpus": os.cpu_count(), "memory_gib": round(memory_kib / 2**20, 1), "kernel": platform.release(),
            "virtual": "hypervisor" in Path("/proc/cpuinfo").read_text(), "load_at_start": list(os.getloadavg()),
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}


def _cpu_times():
    """(busy, all) jiffies of all CPUs; what the hypervisor took away counts as busy."""
    fields = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    idle = fields[3] + fields[4]
    return sum(fields) - idle, sum(fields)


class Watch:
    """Looks, between the rounds, at how much of the machine others take."""

    def __init__(self):
        self.looks = []

    def look(self, where):
        before = _cpu_times()
        time.sleep(LOOK_S)
        after = _cpu_times()
        share = (after[0] - before[0]) / max(1, after[1] - before[1])
        self.looks.append({"where": where, "share": round(share, 3), "load": round(os.getloadavg()[0], 2)})
        return share

    def busy(self):
        return [one for one in self.looks if one["share"] > BUSY_SHARE]

    def verdict(self):
        """What to say under the table."""
        worst = max(self.looks, key=lambda one: one["share"], default=None)
        if worst is None:
            return "nobody looked whether the machine was quiet"
        seen = f"others took up to {worst['share']:.0%} of the CPUs between the rounds ({worst['where']}, load {worst['load']})"
        busy = self.busy()
        if busy:
            return f"NOT A GOOD RESULT: the machine was busy at {len(busy)} of {len(self.looks)} looks; {seen}. Run again when it is quiet."
        return f"The machine was quiet at all {len(self.looks)} looks; {seen}."

    def to_json(self):
        return {"good": not self.busy(), "verdict": self.verdict(), "looks": self.looks}
