# SPDX-License-Identifier: Apache-2.0
"""What was to be reached, and what was: ratios within one run, so that another machine can judge them too."""

import os

CORES_FOR_LANES = 4  # two lanes need two threads a side to themselves
STOLEN = 0.02  # of the CPUs: who was not let run can't hold a mean


class Goals:
    def __init__(self, is_quiet, is_whole):
        self.is_quiet, self.is_whole, self.lines = is_quiet, is_whole, []

    def add(self, what, seen, is_met, wanted, digits=2):
        verdict = ("not judged, busy" if not self.is_quiet else "not judged, too small a run" if not self.is_whole else
                   "yes" if is_met else "NO")
        self.lines.append([what, f"{seen:.{digits}f}", wanted, verdict])

    def at_least(self, what, seen, wanted, digits=2):
        if seen is not None:
            seen = seen["median"] if isinstance(seen, dict) else seen
            self.add(what, seen, seen >= wanted, f">= {wanted:g}", digits)

    def at_most(self, what, seen, wanted, digits=2):
        if seen is not None:
            seen = seen["median"] if isinstance(seen, dict) else seen
            self.add(what, seen, seen <= wanted, f"<= {wanted:g}", digits)


def _throughput(goals, rows):
    for row in rows:
        if row["lossless_runs"] == 0:
            continue
        where = f"{row['link']}, MTU {row['mtu']}"
        if row["what"] == "bulk":
            goals.at_least(f"bulk goodput of the pair's, {where}", row["of_pair"], 0.85)
            goals.at_least(f"bulk goodput of udpcast's, {where}", row["of_udpcast"], 4 if row["link"].endswith("off") else 5)
            goals.at_most(f"CPU seconds per GiB of the pair's, {where}", row["cpu_of_pair"], 1.3)
        elif row["what"] == "tree":
            goals.at_least(f"tree of small files, of bulk, {where}", row["of_bulk"], 0.6)
        elif row["what"] == "loose":
            goals.at_least(f"loose files a second, {where}", row["per_second"], 1500, 0)
        elif row["what"].endswith("lanes") and os.cpu_count() >= CORES_FOR_LANES:
            goals.at_least(f"{row['what']}, of one lane, {where}", row["of_bulk"], 1.7)


def judge(result):
    """[[goal, seen, wanted, verdict]] for a table, and a remark on what this machine can't show."""
    goals = Goals(result["quiet"]["good"], result["whole"])
    _throughput(goals, result["throughput"])
    for row in result["latency"]:
        where = f"{row['link']}, MTU {row['mtu']}"
        goals.at_most(f"wheel beside a large transfer, ms over its own time, {where}", row["beside_ms"]["median"] - row["own_ms"],
                      300, 0)
        goals.at_most(f"receiver's peak MiB at {row['rate_gbit']:g} Gbit/s, {where}", row["high_peak_mib"], 96, 0)
    for row in result["pacing"]:
        where = f"{row['rate_gbit']:.2f} Gbit/s, MTU {row['mtu']}"
        goals.is_quiet = result["quiet"]["good"] and row["stolen"] <= STOLEN
        goals.at_most(f"mean of 10 s off the rate, per cent, {where}", 100 * abs(row["mean_of_rate"] - 1), 2)
        goals.at_most(f"most in 100 ms over the rate, trains, {where}", row["over_in_100_ms_of_train"], 1)
    goals.is_quiet = result["quiet"]["good"]
    for row in result["hold"]:
        where = f"{len(row['lost'])} x {row['size_gib']:.2f} GiB, {row['link']}, MTU {row['mtu']}"
        goals.at_most(f"datagrams lost at 80 % of what is carried, {where}", sum(lost or 0 for lost in row["lost"]), 0, 0)
        if None in row["lost"]:
            goals.at_most(f"runs that failed at 80 % of what is carried, {where}", row["lost"].count(None), 0, 0)
    remark = ""
    if os.cpu_count() < CORES_FOR_LANES and any(row["what"].endswith("lanes") for row in result["throughput"]):
        remark = (f"{os.cpu_count()} cores for both sides can't show what a second lane gains: it needs cores of its own. "
                  "See the CPU seconds of its threads, which share the work evenly.")
    return goals.lines, remark
