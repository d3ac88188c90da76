# SPDX-License-Identifier: Apache-2.0
"""
Each stage alone, by sender_stages.c and receiver_stages.c, which use the daemons' own modules: GB/s of payload for one core, that
is by CPU time, whatever the rate was. Sending and receiving are measured together, over loopback, at a rate that loses nothing.
"""

import json
import subprocess
from pathlib import Path

import links
import rounds
from contenders import words
from links import harness
from workloads import MIB, write_random

PROGRAMS = harness.BUILD / "tests" / "bench"
BYTES = 256 * MIB
LINK_GBIT = 1  # on the wire; slow, so that the receiver is never behind
RUN_S = 60
DECODES = (1, 4, 16)  # source symbols missing of each block; without any there is nothing to decode


def _one(side, *arguments):
    done = harness.run(words([PROGRAMS / f"{side}_stages", *arguments]), check=0, timeout=RUN_S)
    return json.loads(done.stdout.splitlines()[-1])


def _link(mtu):
    """(send, receive), or None when something was lost."""
    address = f"127.0.0.1:{links.free_port()}"
    common = ["-m", str(mtu), "-b", str(BYTES), "-a", address]
    with subprocess.Popen(words([PROGRAMS / "receiver_stages", "receive", *common]), stdout=subprocess.PIPE, text=True) as receiver:
        receiver.stdout.readline()
        sent = _one("sender", "send", *common, "-r", f"{LINK_GBIT}Gbit/s")
        received = json.loads(receiver.stdout.readline())
    return (sent, received) if received["bytes"] == sent["bytes"] else None


def _rate(result):
    return result["bytes"] / 1e9 / max(result["cpu_seconds"], 1e-9)


def _round(mtu, source, target):
    """{(stage, side): GB/s} of one turn through all stages."""
    size = ["-m", str(mtu), "-b", str(BYTES)]
    found = {("read, hash", "low"): _rate(_one("sender", "read", "-m", str(mtu), "-f", source)),
             ("encode", "low"): _rate(_one("sender", "encode", *size))}
    pair = _link(mtu)
    if pair:
        found["send", "low"], found["receive, gather", "high"] = map(_rate, pair)
    for missing in DECODES:
        found[f"decode, {missing} missing", "high"] = _rate(_one("receiver", "decode", *size, "-e", str(missing)))
    found["hash, store", "high"] = _rate(_one("receiver", "store", *size, "-f", target))
    return found


def measure(directory, mtus, runs, watch, tell):
    """One row for each stage and MTU."""
    source, target = Path(directory) / "stage.in", Path(directory) / "stage.out"
    write_random(source, BYTES)
    rows = []
    for mtu in mtus:
        turns = []
        for number in range(runs):
            watch.look(f"stages, MTU {mtu}, round {number + 1}")
            turns.append(_round(mtu, source, target))
            target.unlink(missing_ok=True)
            tell(f"  stages, MTU {mtu}, round {number + 1}/{runs}")
        for stage, side in dict.fromkeys(key for turn in turns for key in turn):
            rows.append({"stage": stage, "side": side, "mtu": mtu,
                         "gb_per_s": rounds.spread([turn[stage, side] for turn in turns if (stage, side) in turn])})
    source.unlink()
    return rows
