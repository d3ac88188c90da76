# SPDX-License-Identifier: Apache-2.0
"""
diodecast itself. One run starts both daemons on empty directories, delivers a small file so that everything was used once, and then
measures from the rename into the spool to the inotify event of the rename into the intake queue.
"""

import os
import tempfile
import time
from pathlib import Path

import links
from intake import Intake
from links import harness
from workloads import GIB

MEMORY = "384MiB"  # lossless at any rate of the search: two groups of the deepest interleaving, and a store that lags
DEFAULT_MEMORY = "64MiB"
WARM_UP_S = 20


def thread_times(program):
    """{thread name: CPU seconds so far}; equal names are numbered, and what the kernel's io_uring workers took is "io-wq"."""
    tick = os.sysconf("SC_CLK_TCK")
    times = {}
    for task in sorted(Path(f"/proc/{program.pid}/task").iterdir(), key=lambda path: int(path.name)):
        try:
            name, fields = task.joinpath("stat").read_text().split("(", 1)[1].rsplit(")", 1)
        except (FileNotFoundError, ProcessLookupError):
            continue
        if name.startswith("iou-wrk"):
            continue
        if name == program.name[:15]:
            name = "control" if task.name == str(program.pid) else "claim"
        number = 1
        while name != "claim" and (name if number == 1 else f"{name} #{number}") in times:
            number += 1
        name = name if number == 1 else f"{name} #{number}"
        user, system = fields.split()[11:13]
        times[name] = times.get(name, 0) + (int(user) + int(system)) / tick
    fields = Path(f"/proc/{program.pid}/stat").read_text().rsplit(")", 1)[1].split()
    total = (int(fields[11]) + int(fields[12])) / tick
    times["io-wq"] = max(0.0, total - sum(times.values()))
    return times


def difference(after, before):
    return {name: round(value - before.get(name, 0), 3) for name, value in after.items()}


class Running:
    """Both daemons, started and warm; `with` ends them."""

    def __init__(self, directory, link, gbit, lanes=1, key=None, channels=None, fec=None, memory=MEMORY, warm=("default",)):
        self.warm_channels = warm
        port = links.free_port(lanes)
        more = {"lanes": str(lanes), "key": key}
        self.sender = harness.Sender(Path(directory) / "low", f"{link.address}:{port}", prefix=link.in_low, channels=channels,
                                     link={"rate": f"{gbit:.4f}Gbit/s", "mtu": str(link.mtu), **more}, fec=fec)
        self.receiver = harness.Receiver(Path(directory) / "high", f"{link.address}:{port}", [self.sender.public],
                                         prefix=link.in_high, link=more, receiver={"memory": memory})

    def __enter__(self):
        self.receiver.start()
        try:
            self.sender.start()
            self.receiver.wait_heard()
            for channel in self.warm_channels:
                hidden = self.sender.channel(channel) / ".warm-up"
                hidden.write_bytes(b"warm")
                os.rename(hidden, hidden.with_name("warm-up"))
                self.receiver.wait_delivered("warm-up", channel, timeout=WARM_UP_S)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for daemon in (self.sender, self.receiver):
            if daemon.program is not None and daemon.program.is_running():
                daemon.stop()

    @property
    def programs(self):
        return self.sender.program, self.receiver.program

    def lost(self):
        """Datagrams, as far as the receiver's status has told yet."""
        return self.receiver.status().get("link", {}).get("lost_total", 0)

    def drops(self):
        """Why, as far as the receiver knows: {reason: datagrams}."""
        return {name: count for name, count in self.receiver.status().get("link", {}).get("drops", {}).items() if count}

    def is_hopeless(self):
        status = self.receiver.status()
        return bool(status.get("link", {}).get("lost_total") or status.get("transfers", {}).get("incomplete"))

    def drop(self, items, channel):
        """Renames what is staged below the spool into the channel; returns when the first one began."""
        start_s = time.monotonic()
        target = os.fspath(self.sender.channel(channel))
        for item in items:
            os.rename(item, os.path.join(target, item.name))
        return start_s


class Diodecast:
    """`load` in one run; the options are those of Running."""

    def __init__(self, name, link, directory, load, **options):
        self.name, self.link, self.directory, self.load, self.options = name, link, Path(directory), load, options
        self.lost, self.drops = 0, {}  # datagrams, in the newest run

    def run(self, gbit):
        self.lost, self.drops = 0, {}
        with tempfile.TemporaryDirectory(dir=self.directory, prefix="run-") as scratch:
            running = Running(scratch, self.link, gbit, **self.options)
            with running:
                result = self._send(running, gbit)
            self.lost, self.drops = running.lost(), running.drops()  # the last status is the most complete one
            if result is None or self.lost:
                return None
            result["wire_bytes_per_byte"] = running.sender.status()["link"]["wire_bytes_sent"] / self.load.size
            return result

    def _send(self, running, gbit):
        hidden = running.sender.channel("default") / ".staged"
        hidden.mkdir()
        items = self.load.stage(hidden)
        before = [thread_times(program) for program in running.programs]
        # A rate whose goodput is a tenth of it is none to be measured at.
        limit_s = 10 + 10 * self.load.size * 8 / (gbit * 1e9) + self.load.count / 200
        with Intake(running.receiver.intake / "default") as intake:
            start_s = running.drop(items, "default")
            end_s = intake.wait(self.load.count, start_s + limit_s, hopeless=running.is_hopeless)
        if end_s is None:
            ended = [program for program in running.programs if not program.is_running()]
            if ended:
                raise RuntimeError(f"{ended[0].name} ended\n{ended[0].log_tail()}")
            return None
        low, high = (difference(thread_times(program), begun) for program, begun in zip(running.programs, before))
        seconds, gib = end_s - start_s, self.load.size / GIB
        return {"seconds": seconds, "gbit": self.load.size * 8 / seconds / 1e9, "per_second": self.load.count / seconds,
                "low_cpu_s_per_gib": sum(low.values()) / gib, "high_cpu_s_per_gib": sum(high.values()) / gib,
                "low_peak_mib": running.sender.program.peak_memory_kib() / 1024,
                "high_peak_mib": running.receiver.program.peak_memory_kib() / 1024,
                "threads": {"low": low, "high": high}}


class Wheel:
    """
    A 5 MB wheel in a channel of high priority, on an idle link or beside a large transfer of low priority that goes on, with the
    memory that a receiver has by default.
    """

    CHANNELS = {"wheels": {"priority": "high"}, "models": {"priority": "low"}}

    def __init__(self, link, directory, wheel, model, gbit, repeats):
        self.link, self.directory, self.wheel, self.model = link, Path(directory), wheel, model
        self.gbit, self.repeats = gbit, repeats

    def own_s(self):
        """What the wheel with its repair symbols takes on the wire at the rate."""
        return self.wheel.size * links.wire_per_byte(self.link.mtu) * 8 / (self.gbit * 1e9)

    def run(self, beside):
        """(seconds of each repeat, peak MiB of the sender, of the receiver)."""
        with tempfile.TemporaryDirectory(dir=self.directory, prefix="run-") as scratch:
            running = Running(scratch, self.link, self.gbit, channels=self.CHANNELS, warm=("wheels",), memory=DEFAULT_MEMORY)
            with running:
                if beside:
                    self._start_model(running)
                found = [self._one(running, number) for number in range(self.repeats)]
                open_ones = [one["channel"] for one in running.receiver.status()["transfers"]["open"]]
                if beside and "models" not in open_ones:
                    raise RuntimeError(f"the large transfer was not under way any more: {open_ones}")
                peaks = [program.peak_memory_kib() / 1024 for program in running.programs]
                for daemon in (running.sender, running.receiver):
                    daemon.kill()
        return found, *peaks

    def _start_model(self, running):
        hidden = running.sender.channel("models") / ".staged"
        hidden.mkdir()
        running.drop(self.model.stage(hidden), "models")
        running.receiver.wait_status(lambda status: any(one["channel"] == "models" and one["bytes_received"] > 64 << 20
                                                        for one in status["transfers"]["open"]), "the large transfer")

    def _one(self, running, number):
        hidden = running.sender.channel("wheels") / f".staged-{number}"
        hidden.mkdir()
        (item,) = self.wheel.stage(hidden)
        renamed = item.with_name(f"wheel-{number}.whl")
        os.rename(item, renamed)
        with Intake(running.receiver.intake / "wheels") as intake:
            start_s = running.drop([renamed], "wheels")
            end_s = intake.wait(1, start_s + 30)
        if end_s is None:
            raise RuntimeError(f"the wheel did not come; receiver {running.receiver.status()}")
        return end_s - start_s
