# SPDX-License-Identifier: Apache-2.0
"""
Two curves of diodecast. Goodput over the configured rate: what is asked for is given, until the machine has no more to give.
Delivery over the loss rate: how many blocks need repair, how many are beyond it, and which transfers came whole. Nothing is sent
twice there (no replay, no healing while idle), but for the short groups that diodecast always repeats.
"""

import statistics
import tempfile
from pathlib import Path

from pair import Diodecast, Running
from rounds import attempt
from svg import Chart, Line
from waiting import Timeout
from workloads import MIB, Workload, write_random

LOSS_PERCENT = (0, 0.5, 1, 2, 3, 4, 5, 6, 7, 8, 10)
LOSS_GBIT = 0.5
FINISH_S = 30


def goodput(link, directory, load, rates, runs, watch, tell):
    """[{rate, gbit, lossless}] for each rate in Gbit/s."""
    points = []
    contender = Diodecast("bulk", link, directory, load)
    for rate in rates:
        watch.look(f"plot, MTU {link.mtu}, {rate:.2f} Gbit/s")
        found = [one["gbit"] for one in (attempt(contender.run, rate, tell) for _ in range(runs)) if one]
        points.append({"rate": round(rate, 3), "lossless": len(found), "runs": runs,
                       "gbit": [round(one, 4) for one in found]})
        tell(f"  rate {rate:6.3f} Gbit/s: {statistics.median(found) if found else 0:6.3f} Gbit/s, {len(found)}/{runs} lossless")
    return points


def _small_transfers(directory, count, size):
    root = Path(directory) / "transfers"
    root.mkdir(exist_ok=True)
    for number in range(count):
        write_random(root / f"transfer-{number}", size)
    return Workload("transfers", root, sorted(root.iterdir()), count, count * size)


def _deliver(link, directory, load):
    """What one receiver says when all transfers are delivered, or known to be incomplete or never seen."""
    with tempfile.TemporaryDirectory(dir=directory, prefix="run-") as scratch:
        running = Running(scratch, link, LOSS_GBIT, warm=())
        with running:
            before = running.receiver.status()["fec"]
            hidden = running.sender.channel("default") / ".staged"
            hidden.mkdir()
            running.drop(load.stage(hidden), "default")

            def is_over(status):
                transfers = status["transfers"]
                never = sum(one["last"] - one["first"] + 1 for one in transfers["never_seen"])
                return transfers["delivered_total"] + len(transfers["incomplete"]) + never >= load.count

            try:
                status = running.receiver.wait_status(is_over, "the end of all transfers", FINISH_S)
            except Timeout:
                status = running.receiver.status()
            fec = {key: status["fec"][key] - before[key] for key in ("blocks_total", "repaired_total", "failed_total")}
            return {"blocks": fec["blocks_total"], "repaired": fec["repaired_total"], "failed": fec["failed_total"],
            "delivered": status["transfers"]["delivered_total"], "transfers": load.count}


def delivery(link, directory, transfers, megabytes, tell):
    """[{loss_percent, blocks, repaired, failed, delivered, transfers}]."""
    load = _small_transfers(directory, transfers, megabytes * MIB)
    points = []
    for percent in LOSS_PERCENT:
        link.lose(per_million=int(percent * 10_000))
        point = {"loss_percent": percent, **_deliver(link, directory, load)}
        points.append(point)
        tell(f"  loss {percent:4} %: {point['repaired']} of {point['blocks']} blocks repaired, {point['failed']} failed, "
             f"{point['delivered']} of {point['transfers']} transfers delivered")
    return points


def draw_goodput(curves, command, path):
    """`curves`: {name: points of goodput()}."""
    most = max(point["rate"] for points in curves.values() for point in points)
    lines = [Line(name, [(point["rate"], statistics.median(point["gbit"]), min(point["gbit"]), max(point["gbit"]))
                         for point in points if point["gbit"]]) for name, points in curves.items()]
    lines.append(Line("all that the rate allows (MTU 1500)", [(0, 0), (most, most * 1392 / 1538 * 128 / 144)], dashed=True))
    chart = Chart("Goodput over configured rate", "configured rate, Gbit/s on the wire", "goodput, Gbit/s", lines,
                  ("Drop to visible; median, least and most of the runs that lost nothing.", command))
    Path(path).write_text(chart.render())


def draw_delivery(points, command, path):
    def share(key, of):
        return [(point["loss_percent"], 100 * point[key] / max(1, point[of])) for point in points]

    chart = Chart("Delivery over loss rate, FEC 128 + 16", "independent loss of datagrams, %", "%",
                  [Line("transfers delivered whole", share("delivered", "transfers")),
                   Line("blocks that needed repair", share("repaired", "blocks")), Line("blocks lost", share("failed", "blocks"))],
                  ("Each transfer of 4 MiB sent once, nothing replayed; a block is lost when more than 16 of its 144 symbols are.", command))
    Path(path).write_text(chart.render())
