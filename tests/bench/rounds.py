# SPDX-License-Identifier: Apache-2.0
"""The search for a contender's best lossless rate, and rounds in which the contenders take turns."""

import statistics
import subprocess

NEAR_BEST = 0.9   # a rate whose goodput is so much of the best found is a finalist
LIKE_BEST = 0.95  # of the finalists, so much of the best is no less: medians of three runs at one rate differ by as much, and asking
                  # for more than the cores carry only spreads the datagrams wider and takes the processor from the other side
BAD_MOMENTS = 1   # so many runs may lose something before a rate does: else one at the first step halves what is looked at
STEP_DOWN = 0.85  # from one rate to the next lower one, behind the bisection
STEPS_DOWN = 3    # in a row without another finalist, before the way down ends: one run in a bad moment is no answer


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
    nothing before more than BAD_MOMENTS lost something. Then goes down again, to `low` at most, until STEPS_DOWN rates in a row
    are not near the best goodput. What is near it goes into a final; where nobody passes it, the search goes on below. Returned
    are the winner, or `low` where there is none, and all that was tried.
    """
    tried = []

    def is_lossless(rate):
        rate, goodputs, lossy = round(rate, 4), [], 0
        while len(goodputs) < repeats and lossy <= BAD_MOMENTS:
            result = attempt(run, rate, tell)
            lossy += result is None
            goodputs += [result["gbit"]] if result else []
        tried.append({"rate": rate, "lossless": len(goodputs) == repeats, "gbit": statistics.median(goodputs) if goodputs else 0})
        return tried[-1]["lossless"]

    def near_best():
        good = [one for one in tried if one["lossless"]]
        best = max((one["gbit"] for one in good), default=0)
        return sorted((one for one in good if one["gbit"] >= NEAR_BEST * best), key=lambda one: one["rate"])

    lower, upper = low, high
    for _ in range(steps):
        middle = (lower * upper) ** 0.5
        if is_lossless(middle):
            lower = middle
        else:
            upper = middle
    rate, winner = min((one["rate"] for one in near_best()), default=lower), None
    while winner is None and (near_best() or rate * STEP_DOWN >= low):
        misses = 0
        while rate * STEP_DOWN >= low and misses < STEPS_DOWN:
            before = len(near_best())
            rate *= STEP_DOWN
            is_lossless(rate)
            misses = 0 if len(near_best()) > before else misses + 1
        winner = final(run, near_best(), repeats, tell)
    return winner["rate"] if winner else low, tried


def final(run, finalists, count, tell):
    """
    `count` rounds in which the finalists take turns, so that no bad moment decides between them. Who loses something in half of
    them or more is not lossless after all; the goodput of the others is that of the final from now on. The lowest rate that is
    like the best, or None.
    """
    goodputs = {one["rate"]: [] for one in finalists}
    for _ in range(count):
        for one in finalists:
            result = attempt(run, one["rate"], tell)
            goodputs[one["rate"]] += [result["gbit"]] if result else []
    for one in finalists:
        one["lossless"] = 2 * len(goodputs[one["rate"]]) > count
        one["gbit"] = statistics.median(goodputs[one["rate"]]) if one["lossless"] else one["gbit"]
    finalists = [one for one in finalists if one["lossless"]]
    best = max((one["gbit"] for one in finalists), default=0)
    return next((one for one in finalists if one["gbit"] >= LIKE_BEST * best), None)


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
