# SPDX-License-Identifier: Apache-2.0
"""Two network namespaces joined by a veth: the test's one-way link, with real interfaces, MTU, loss and carrier."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
_count = 0


def _do(*command, quiet=False):
    done = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0 and not quiet:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stdout}")
    return done.stdout


class Link:
    """
    LOW (192.0.2.1, or fe80::1) and HIGH (192.0.2.2, fe80::2). Whatever arrives on the low end is counted and dropped,
    as a diode would. Neighbours are static. Segments of a train are made before the veth, so that loss hits datagrams.
    """

    LOW_ADDRESS, HIGH_ADDRESS = "192.0.2.1", "192.0.2.2"

    def __init__(self, directory, mtu=1500, ipv6=False):
        for program in ("ip", "nft", "tc", "ethtool", "nsenter"):
            if not shutil.which(program):
                pytest.skip(f"{program} is not installed")
        global _count
        _count += 1
        self.directory = Path(directory)
        self.low, self.high = f"dc{os.getpid()}l{_count}", f"dc{os.getpid()}h{_count}"
        self.made = []
        try:
            self._build(mtu, ipv6)
        except RuntimeError as error:
            self.remove()
            if self.made:
                raise
            pytest.skip(f"no network namespaces here: {error}")

    def _build(self, mtu, ipv6):
        for name in (self.low, self.high):
            _do("ip", "netns", "add", name)
            self.made.append(name)
        _do("ip", "link", "add", "low", "mtu", mtu, "netns", self.low, "address", "02:00:00:00:00:01", "type", "veth",
            "peer", "name", "high", "mtu", mtu, "netns", self.high, "address", "02:00:00:00:00:02")
        for name, end, address in ((self.low, "low", "1"), (self.high, "high", "2")):
            off = 0 if ipv6 else 1
            self.run(name, "sysctl", "-qw", f"net.ipv6.conf.{end}.disable_ipv6={off}",
                     f"net.ipv6.conf.{end}.accept_dad=0", f"net.ipv6.conf.{end}.addr_gen_mode=1")
            self.run(name, "ip", "link", "set", "lo", "up")
            self.run(name, "ip", "address", "add", f"192.0.2.{address}/24", "dev", end)
            if ipv6:
                self.run(name, "ip", "address", "add", f"fe80::{address}/64", "dev", end, "nodad")
        self.run(self.low, "ethtool", "-K", "low", "tx-udp-segmentation", "off")
        self._count_ingress()
        self.up()
        if ipv6:
            self.run(self.low, "ip", "-6", "neigh", "replace", "fe80::2", "lladdr", "02:00:00:00:00:02", "dev", "low",
                     "nud", "permanent")

    def _count_ingress(self):
        self.run(self.low, "nft", "add table netdev diode; add chain netdev diode ingress "
                 "{ type filter hook ingress device low priority 0; }; add rule netdev diode ingress counter drop")

    def run(self, namespace, *command, quiet=False):
        return _do(*self.inside(namespace), *command, quiet=quiet)

    @staticmethod
    def inside(namespace):
        """The prefix of a command that runs in the namespace, without a process in between."""
        return ["nsenter", f"--net=/run/netns/{namespace}", "--"]

    @property
    def in_low(self):
        return self.inside(self.low)

    @property
    def in_high(self):
        return self.inside(self.high)

    def up(self):
        self.run(self.high, "ip", "link", "set", "high", "up")
        self.run(self.low, "ip", "link", "set", "low", "up")
        # A neighbour entry goes when its interface goes down.
        self.run(self.low, "ip", "neigh", "replace", self.HIGH_ADDRESS, "lladdr", "02:00:00:00:00:02", "dev", "low",
                 "nud", "permanent")

    def far_end_down(self):
        """The cable is pulled: the low end loses its carrier but stays configured."""
        self.run(self.high, "ip", "link", "set", "high", "down")

    def far_end_up(self):
        self.run(self.high, "ip", "link", "set", "high", "up")

    def lose(self, per_million=0, burst_ns=0, period_ns=1_000_000_000):
        """Independent loss and bursts on what arrives at the high end."""
        if not shutil.which("clang"):
            pytest.skip("clang is not installed: no program for the lossy link")
        program = self.directory / f"{self.high}.o"
        _do("clang", "-O2", "-g", "-target", "bpf", "-I/usr/include/" + _do("gcc", "-print-multiarch").strip(),
            f"-DLOSS_PER_MILLION={per_million}u", f"-DBURST_NS={burst_ns}ull", f"-DPERIOD_NS={period_ns}ull", "-c",
            HERE / "link.bpf.c", "-o", program)
        try:
            self.run(self.high, "tc", "qdisc", "replace", "dev", "high", "clsact")
            self.run(self.high, "tc", "filter", "replace", "dev", "high", "ingress", "bpf", "da", "obj", program, "sec",
                     "tc")
        except RuntimeError as error:
            pytest.skip(f"this kernel takes no tc BPF program: {error}")

    def dropped(self):
        """Packets that lose() has dropped."""
        text = self.run(self.high, "tc", "-s", "-j", "qdisc", "show", "dev", "high")
        return next((one["drops"] for one in json.loads(text) if one["kind"] == "clsact"), 0)

    def counters(self, namespace):
        """Packets of all nft counters of a namespace, in the order of their rules."""
        rules = json.loads(self.run(namespace, "nft", "-j", "list", "ruleset"))["nftables"]
        return [expression["counter"]["packets"] for one in rules for expression in one.get("rule", {}).get("expr", [])
                if "counter" in expression]

    def frames_towards_low(self):
        """Frames of any kind that arrived at the low end since the link was made."""
        return self.counters(self.low)[0]

    def frames_received(self):
        """Frames that the high end has taken off the link, those that lose() drops included."""
        (interface,) = json.loads(self.run(self.high, "ip", "-s", "-j", "link", "show", "high"))
        return interface["stats64"]["rx"]["packets"]

    def remove(self):
        for name in self.made:
            _do("ip", "netns", "delete", name, quiet=True)
        self.made = []
