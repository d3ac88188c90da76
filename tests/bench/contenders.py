# SPDX-License-Identifier: Apache-2.0
"""
What diodecast is measured against. Each contender has a name, a link, and run(gbit): one transfer at that rate on the wire, which
gives its figures, or None when it lost something or did not end. `lost` then says how many datagrams (of udpcast, whose own
counters are not told: buffers that the receiving socket had no room for).

- raw: GSO ))) GRO from memory, nobody looks at the payload. With MSG_ZEROCOPY it shows what that is worth on this link: `copied`
  counts the trains that the kernel copied all the same, as it does on veth and loopback.
- pair: the bare pair of bare.c: one thread a side that does what the bytes cost.
- udpcast: Debian's, one-way, with the same share of repair symbols as diodecast's default (16 of 128, in eight interleaved
  stripes), no wait at the end, a socket buffer of 32 MiB, and its largest block (1456 bytes, also at MTU 9000). Start is its own
  word that the transfer starts, end the last write to the file, so that neither its rendezvous nor its farewell counts.
"""

import json
import os
import re
import subprocess
import threading
import time
from pathlib import Path

import links
from links import harness
from workloads import GIB

BARE = harness.BUILD / "tests" / "bench" / "bare"
RUN_S = 180


def words(command):
    return [os.fspath(word) for word in command]


class Guard:
    """
    Looks at programs that do not say it themselves how large they got (what wait4() tells counts the time before exec, when the
    child was as large as Python), and kills them when they are taken for stuck.
    """

    LOOK_S = 0.1

    def __init__(self, limit_s):
        self.deadline_s = time.monotonic() + limit_s
        self.peaks = {}
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()

    def over(self, program):
        self.peaks[program] = 0

    def peak_kib(self, program):
        return self.peaks[program]

    def end(self):
        self.done.set()
        self.thread.join()

    def _watch(self):
        while not self.done.wait(self.LOOK_S):
            for program in list(self.peaks):
                try:
                    status = Path(f"/proc/{program.pid}/status").read_text()
                    self.peaks[program] = int(re.search(r"VmHWM:\s+(\d+)", status).group(1))
                except (OSError, AttributeError):
                    continue  # it has ended
                if time.monotonic() > self.deadline_s:
                    program.kill()


class Bare:
    """`raw` or `pair`; with `options` for its sender."""

    def __init__(self, kind, link, directory, load, name=None, options=()):
        self.name, self.kind, self.link, self.load, self.options = name or kind, kind, link, load, options
        self.target = Path(directory) / "bare.out"

    def run(self, gbit):
        common = ["-a", f"{self.link.address}:{links.free_port()}", "-m", str(self.link.mtu)]
        receive = words([*self.link.in_high, BARE, self.kind, "receive", *common, "-f", self.target])
        send = words([*self.link.in_low, BARE, self.kind, "send", *common, "-f", self.load.items[0], "-b", str(self.load.size),
                      "-r", f"{gbit:.3f}Gbit/s", *self.options])
        with subprocess.Popen(receive, stdout=subprocess.PIPE, text=True) as receiver:
            receiver.stdout.readline()
            sent = json.loads(harness.run(send, check=0, timeout=RUN_S).stdout)
            received = json.loads(receiver.stdout.readline())
        self.target.unlink(missing_ok=True)
        self.lost = sent["datagrams"] - received["datagrams"]
        if self.lost or received["damaged"]:
            return None
        gib = received["bytes"] / GIB
        return {"seconds": received["seconds"], "gbit": received["bytes"] * 8 / received["seconds"] / 1e9, "copied": sent["copied"],
                "low_cpu_s_per_gib": sent["cpu_seconds"] / gib, "high_cpu_s_per_gib": received["cpu_seconds"] / gib,
                "low_peak_mib": sent["peak_kib"] / 1024, "high_peak_mib": received["peak_kib"] / 1024,
                "wire_bytes_per_byte": sent["wire_bytes"] / received["bytes"]}


class Udpcast:
    """udp-sender and udp-receiver. It may repair what it loses; lossless means that the file came whole."""

    name = "udpcast"
    MOST_GBIT = 2.1  # its rate is a signed 32-bit number of bits
    SENDER = ["--async", "--fec", "8x16/128", "--autostart", "1", "--rexmit-hello-interval", "50", "--nokbd"]
    RECEIVER = ["--nokbd", "--no-progress", "--exit-wait", "1", "--start-timeout", "20", "--receive-timeout", "3", "--rcvbuf",
                str(32 << 20)]

    def __init__(self, link, directory, load):
        self.link, self.load, self.target = link, load, Path(directory) / "udpcast.out"

    def commands(self, gbit, port):
        """Both ends. Without a group address all goes to the receiver's own: the far end of a diode answers nothing anyway."""
        common = ["--portbase", str(port)]
        send = ["udp-sender", "--interface", self.link.interfaces[0], *common, *self.SENDER, "--mcast-rdv-address",
                self.link.address, "--mcast-data-address", self.link.address, "--max-bitrate", f"{int(gbit * 1e6)}k", "--file",
                self.load.items[0]]
        receive = ["udp-receiver", "--interface", self.link.interfaces[1], *common, *self.RECEIVER, "--file", self.target]
        return words([*self.link.in_low, *send]), words([*self.link.in_high, *receive])

    def limit_s(self, gbit):
        """After which it is taken for stuck."""
        return 10 + 4 * self.load.size * 8 / (min(gbit, 0.5) * 1e9)

    def run(self, gbit):
        port = links.free_port(3)
        send, receive = self.commands(gbit, port + port % 2)
        self.target.unlink(missing_ok=True)
        overflows, sent = self.link.overflows(), self.link.sent()
        guard = Guard(self.limit_s(gbit))
        ends = [subprocess.Popen(receive, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)]
        guard.over(ends[0])
        try:
            wait_for_port(self.link, port + port % 2)
            ends.append(subprocess.Popen(send, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                         text=True, errors="replace"))
            guard.over(ends[1])
            started = self._wait_start(ends[1])
            usage = [self._end(program) for program in reversed(ends)]
        finally:
            guard.end()
            for program in ends:
                if program.returncode is None:
                    program.kill()
                    program.wait()
        self.lost = self.link.overflows() - overflows
        if started is None or any(code != 0 for code, _ in usage) or not self._is_whole():
            return None
        seconds = self.target.stat().st_mtime_ns / 1e9 - started
        self.target.unlink()
        gib = self.load.size / GIB
        (_, low), (_, high) = usage
        result = {"seconds": seconds, "gbit": self.load.size * 8 / seconds / 1e9,
                  "low_cpu_s_per_gib": (low.ru_utime + low.ru_stime) / gib,
                  "high_cpu_s_per_gib": (high.ru_utime + high.ru_stime) / gib, "low_peak_mib": guard.peak_kib(ends[1]) / 1024,
                  "high_peak_mib": guard.peak_kib(ends[0]) / 1024}
        if sent:
            result["wire_bytes_per_byte"] = (self.link.sent()[1] - sent[1]) / self.load.size
        return result

    @staticmethod
    def _wait_start(sender):
        """When it says that it starts; its output is read to the end, so that it never waits for us."""
        for line in sender.stdout:
            if line.startswith("Starting transfer"):
                started = time.time()
                for _ in sender.stdout:
                    pass
                return started
        return None

    @staticmethod
    def _end(program):
        """(exit code, resource usage)."""
        _, status, usage = os.wait4(program.pid, 0)
        program.returncode = os.waitstatus_to_exitcode(status)
        return program.returncode, usage

    def _is_whole(self):
        return subprocess.run(words(["cmp", "-s", self.load.items[0], self.target]), check=False).returncode == 0


def wait_for_port(link, port, seconds=10):
    """Until a UDP socket in the high end's namespace is bound to `port`."""
    pattern = re.compile(rf"^\s*\d+: [0-9A-F]+:{port:04X} ", re.MULTILINE)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if pattern.search(harness.run([*link.in_high, "cat", "/proc/net/udp"], check=0).stdout):
            return
    raise TimeoutError(f"nobody listens on port {port}")
