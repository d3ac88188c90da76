# SPDX-License-Identifier: Apache-2.0
"""The bench itself: its search, its judgement, its drawing, and one small run of all that it does with the daemons."""

import json
import os
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from harness import ROOT, run

BENCH = ROOT / "tests" / "bench"
sys.path.insert(0, str(BENCH))

import goals  # noqa: E402
import intake  # noqa: E402
import memory  # noqa: E402
import rounds  # noqa: E402
import svg  # noqa: E402
import workloads  # noqa: E402


def silent(_):
    pass


class Imagined:
    """Loses something above `limit`, and gives no more than `most` however much is asked."""

    name, lost = "imagined", 0

    def __init__(self, limit, most):
        self.limit, self.most, self.runs = limit, most, 0

    def run(self, gbit):
        self.runs += 1
        return {"gbit": min(gbit, self.most)} if gbit <= self.limit else None


class Scripted:
    """Gives what is asked for; loses something where `loses(rate, how often it ran at it before)`."""

    def __init__(self, loses):
        self.loses, self.runs = loses, {}

    def run(self, gbit):
        before = self.runs.get(gbit, 0)
        self.runs[gbit] = before + 1
        return None if self.loses(gbit, before) else {"gbit": gbit}


def test_the_search_ends_just_below_the_first_loss():
    rate, tried = rounds.best_rate(Imagined(limit=3, most=99).run, 0.5, 16, 10, 2, silent)
    assert 2.9 < rate <= 3
    assert all(one["lossless"] == (one["rate"] <= 3) for one in tried)


def test_the_search_asks_for_no_more_than_brings_something():
    rate, _ = rounds.best_rate(Imagined(limit=99, most=2).run, 0.5, 16, 8, 1, silent)
    assert 1.9 < rate < 3.5


def test_one_bad_moment_does_not_end_the_way_down():
    bad = iter([False] * 8 + [True])

    def run(rate):
        return {"gbit": 1 if next(bad, False) else min(rate, 2)}

    rate, tried = rounds.best_rate(run, 1, 16, 8, 1, silent)
    assert tried[8]["rate"] > 2 * rounds.STEP_DOWN
    assert 2 * rounds.LIKE_BEST <= rate < tried[8]["rate"]


def test_one_good_moment_does_not_choose_a_rate():
    good = iter([False] * 2 + [True])

    def run(rate):
        return {"gbit": rate * (1.08 if next(good, False) else 1)}

    rate, tried = rounds.best_rate(run, 1, 3, 4, 1, silent)
    assert tried[2]["gbit"] == tried[2]["rate"] > rounds.NEAR_BEST * rate  # in the final, no longer in its good moment
    assert rate == tried[3]["rate"] > tried[2]["rate"]


def test_of_what_is_like_the_best_the_lowest_rate_is_chosen():
    rate, tried = rounds.best_rate(lambda rate: {"gbit": min(rate, 2) + 0.001 * rate}, 1, 16, 6, 1, silent)
    assert 2 * rounds.LIKE_BEST <= rate < 2.6 < max(one["rate"] for one in tried)


def test_one_loss_in_the_final_is_a_bad_moment():
    rate, tried = rounds.best_rate(Scripted(lambda rate, before: before == 4).run, 1, 2.2, 3, 3, silent)
    assert rate == max(one["rate"] for one in tried)
    assert all(one["lossless"] for one in tried)


def test_who_loses_something_in_the_final_again_is_out():
    rate, tried = rounds.best_rate(Scripted(lambda rate, before: rate >= 2 and before >= 2).run, 1, 2.2, 4, 2, silent)
    lossless = [one["rate"] for one in tried if one["lossless"]]
    assert max(lossless) == rate < 2 < max(one["rate"] for one in tried)


def test_when_all_finalists_lose_something_the_next_best_have_their_final():
    rate, _ = rounds.best_rate(Scripted(lambda rate, before: rate >= 1.5 and before >= 2).run, 1, 4, 5, 2, silent)
    assert 1 < rate < 1.5


def test_a_rate_counts_when_all_repeats_but_one_lost_nothing():
    answers = iter([{"gbit": 2}, None, {"gbit": 2}, {"gbit": 2}] + [None] * 6 + [{"gbit": 2}] * 3)
    rate, tried = rounds.best_rate(lambda _: next(answers), 1.9, 4, 2, 3, silent)
    assert [one["lossless"] for one in tried] == [True, False, False, False]
    assert rate == tried[0]["rate"]


def test_a_rate_that_lost_something_twice_does_not_count():
    answers = iter([{"gbit": 1}, {"gbit": 1}, None] + [None] * 20)
    rate, tried = rounds.best_rate(lambda _: next(answers), 1, 4, 2, 3, silent)
    assert rate == 1
    assert not any(one["lossless"] for one in tried)


def test_ratios_are_of_the_same_round_and_leave_out_what_lost_something():
    rows = [rounds.Row(Imagined(1, 1), 1), rounds.Row(Imagined(1, 1), 1)]
    rows[0].contender.name, rows[1].contender.name = "pair", "bulk"
    rows[0].results = [{"gbit": 1}, {"gbit": 2}, {"gbit": 4}]
    rows[1].results = [{"gbit": 2}, None, {"gbit": 4}]
    assert rounds.ratios(rows, "bulk", "pair", lambda one: one["gbit"]) == [2, 1]


@pytest.mark.parametrize("good", [True, False])
@pytest.mark.parametrize("stolen", [0, 0.2])
def test_a_busy_machine_is_not_judged(good, stolen):
    result = {"quiet": {"good": good}, "whole": True, "throughput": [], "latency": [],
              "pacing": [{"link": "veth", "mtu": 1500, "rate_gbit": 1, "mean_of_rate": 0.97, "stolen": stolen,
                          "over_in_100_ms_of_train": 0.4}],
              "hold": [{"lost": [0, 3], "size_gib": 4, "link": "veth", "mtu": 1500}]}
    lines, _ = goals.judge(result)
    not_judged = "not judged, busy"
    pacing = ["NO", "yes"] if good and stolen == 0 else [not_judged] * 2
    assert [line[-1] for line in lines] == [*pacing, "NO" if good else not_judged]


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(("lost", "verdicts"), [([0, 0], ["yes"]), ([0, 3], ["NO"]), ([0, None], ["yes", "NO"])])
def test_the_held_rate_is_judged_in_whole_runs_and_one_that_failed_has_not_held_it(whole, lost, verdicts):
    result = {"quiet": {"good": True}, "whole": whole, "throughput": [], "latency": [], "pacing": [],
              "hold": [{"lost": lost, "size_gib": 4, "link": "veth", "mtu": 1500}]}
    lines, _ = goals.judge(result)
    assert [line[-1] for line in lines] == (verdicts if whole else ["not judged, too small a run"] * len(verdicts))


def test_the_search_goes_down_again_as_long_as_the_goodput_stays():
    def run(rate):
        return {"gbit": min(rate, 3)} if rate < 9 else None

    rate, tried = rounds.best_rate(run, 1, 16, 4, 2, print)
    assert 3 * rounds.LIKE_BEST <= rate < 4
    assert all(one["lossless"] == (one["rate"] < 9) for one in tried)


def test_a_delivery_is_seen_at_its_rename(tmp_path):
    channel = tmp_path / "channel"
    channel.mkdir()
    with intake.Intake(channel) as watch:
        (channel / ".hidden").touch()
        assert watch.wait(1, 0) is None
        os.rename(channel / ".hidden", channel / "visible")
        assert watch.wait(1, time.monotonic() + 10) is not None


def resident_kib():
    return int(next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon")).split()[1])


def test_of_the_memory_that_is_kept_one_page_in_each_mib_stays():
    before = resident_kib()
    with memory.kept(3 * memory.AT_ONCE + 1) as kept:
        during = resident_kib()
        assert kept == 3 * memory.AT_ONCE
    assert 768 * 4 <= during - before < 768 * 8
    assert resident_kib() - before < 768


def test_no_more_memory_is_kept_than_leaves_some_for_others(monkeypatch):
    monkeypatch.setattr(memory, "_available", lambda: 3 * memory.AT_ONCE)
    with memory.kept(1 << 40) as kept:
        assert kept == 2 * memory.AT_ONCE
    monkeypatch.setattr(memory, "_available", lambda: memory.AT_ONCE)
    with memory.kept(1 << 40) as kept:
        assert kept == 0


def test_loose_files_are_dropped_as_links_of_what_was_made_once(tmp_path):
    load = workloads.loose(tmp_path, 20)
    (tmp_path / "stage").mkdir()
    staged = load.stage(tmp_path / "stage")
    assert len(staged) == load.count == 20
    assert sum(path.stat().st_size for path in staged) == load.size
    assert all(path.stat().st_nlink == 2 for path in staged)


def test_a_chart_holds_all_points_inside_its_frame(tmp_path):
    chart = svg.Chart("T & T", "x", "y", [svg.Line("one", [(0, 0), (3, 7, 6, 9)]), svg.Line("none", [])], ["note"])
    root = ElementTree.fromstring(chart.render())
    places = [(float(one.get("cx")), float(one.get("cy"))) for one in root.iter("{http://www.w3.org/2000/svg}circle")]
    assert len(places) == 2
    assert all(svg.LEFT <= x <= svg.WIDTH - svg.RIGHT and svg.TOP <= y <= svg.HEIGHT - svg.BOTTOM for x, y in places)


def test_a_small_run_over_loopback_measures_every_way_of_diodecast(tmp_path):
    out = tmp_path / "result.json"
    run(["/usr/bin/python3", "-B", BENCH / "bench.py", "--loopback", "--mtu", "1500", "--parts", "throughput", "--rows", "bulk",
         "key", "lanes", "tree", "loose", "--runs", "1", "--rate", "0.3", "--size-mib", "8", "--tree-files", "20", "--loose-files",
         "20", "--json", out], check=0, timeout=120)
    result = json.loads(Path(out).read_text())
    assert [row["what"] for row in result["throughput"]] == ["bulk", "bulk, link key", "bulk, 2 lanes", "tree", "loose"]
    for row in result["throughput"]:
        assert row["lossless_runs"] == 1 and row["gbit"]["median"] > 0 and row["wire_bytes_per_byte"]["median"] > 1
    assert {"read", "send", "send #2"} <= set(result["throughput"][2]["threads"]["low"])
    assert result["machine"]["cpus"] == os.cpu_count() and result["quiet"]["looks"]
