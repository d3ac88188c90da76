# SPDX-License-Identifier: Apache-2.0
"""The search for a contender's best lossless rate, and rounds in which the contenders take turns."""

import statistics
import subprocess

LIKE_BEST = 0.97  # a goodput of so much of the best counts as the best: asking for more only spreads the datagrams wider
STEP_DOWN = 0.85  # from one rate to the next lower one, behind the bisection
STEPS_DOWN = 3    # in a row without a better choice, before the search ends: one run in a bad moment is no answer


def attempt(run, gbit, tell):
    """run(gbit); a contender that fails at a rate (does not start, ends, hangs) is told, and counts as one that lost something."""
    try:
        return run(gbit)
    except (AssertionError, RuntimeError, OSError, subprocess.TimeoutExpired) as error:
        tell(f"  a run at {gbit:.2f} Gbit/s failed: {type(error).__name__}: {str(error)[:500]}")
        return None


def best_rate(run, low, high, steps, repeats, tell):
    """
    Bisects, on a logarithmic scale, between `low` and `high` Gbit/s on the wire. A rate is lossless when `repeats` runs lost
    nothing. Then goes down again until STEPS_DOWN rates in a row bring less than (nearly) the best goodput: the lowest rate
    that brings it is returned, and all that was tried.
    """
    tried = []

    def is_lossless(rate):
        goodputs = []
        for _ in range(repeats):
            result = attempt(run, rate, tell)
            if result is None:
                break
            goodputs.append(result["gbit"])
        lossless = len(goodputs) == repeats
        tried.append({"rate": round(rate, 4), "lossless": lossless, "gbit": statistics.median(goodputs) if goodputs else 0})
        return lossless

    def lowest_good():
        good = [one for one in tried if one["lossless"]]
        best = max((one["gbit"] for one in good), default=0)
        return min((one["rate"] for one in good if one["gbit"] >= LIKE_BEST * best), default=low)

    for _ in range(steps):
        middle = (low * high) ** 0.5
        if is_lossless(middle):
            low = middle
        else:
            high = middle
    rate, misses = lowest_good(), 0
    while tried and misses < STEPS_DOWN:
        before = lowest_good()
        rate *= STEP_DOWN
        is_lossless(rate)
        misses = 0 if lowest_good() < before else misses + 1
    return lowest_good(), tried


class Row:
    """A contender with the rate it runs at, and what its runs gave; None where something was lost."""

    def __init__(self, contender, rate, tried=()):
        self.contender, self.rate, self.tried, self.results = contender, rate, list(tried), []
        self.losses = []  # datagrams lost in each run

    @property
    def name(self):
        return self.contender.name


def take_turns(rows, count, watch, where, tell):
    """`count` rounds, in each every row once, in order: a busy moment hits all of them."""
    for number in range(count):
        watch.look(f"{where}, round {number + 1}")
        for row in rows:
            result = attempt(row.contender.run, row.rate, tell)
            row.results.append(result)
            row.losses.append(row.contender.lost)
            tell(f"  round {number + 1}/{count} {row.name:14} " +
                 (f"{result['gbit']:6.2f} Gbit/s" if result else "lost something"))


def ratios(rows, name, of, value):
    """value(own) / value(other's) of each round in which both lost nothing."""
    found = {row.name: row for row in rows}
    if of not in found or name not in found:
        return []
    pairs = zip(found[name].results, found[of].results)
    return [value(own) / value(other) for own, other in pairs if own and other]


def spread(values):
    """{median, min, max}, or None."""
    if not values:
        return None
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def cpu_of(result):
    return result["low_cpu_s_per_gib"] + result["high_cpu_s_per_gib"]


def summarize(rows, link):
    """One JSON object for each row."""
    summary = []
    for row in rows:
        results = [one for one in row.results if one]
        line = {"link": link.name, "mtu": link.mtu, "what": row.name, "rate_gbit": row.rate, "runs": len(row.results),
                "lossless_runs": len(results), "datagrams_lost": row.losses, "searched": row.tried}
        for key in (key for key in (results[0] if results else ()) if key != "threads"):
            line[key] = spread([one[key] for one in results if key in one])
        if results and "threads" in results[0]:
            line["threads"] = {side: median_threads([one["threads"][side] for one in results]) for side in ("low", "high")}
        line["of_pair"] = spread(ratios(rows, row.name, "pair", lambda one: one["gbit"]))
        line["of_udpcast"] = spread(ratios(rows, row.name, "udpcast", lambda one: one["gbit"]))
        line["of_bulk"] = spread(ratios(rows, row.name, "bulk", lambda one: one["gbit"]))
        line["cpu_of_pair"] = spread(ratios(rows, row.name, "pair", cpu_of))
        summary.append(line)
    return summary


def median_threads(runs):
    names = dict.fromkeys(name for run in runs for name in run)
    return {name: round(statistics.median(run.get(name, 0) for run in runs), 3) for name in names}
