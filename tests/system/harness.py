# SPDX-License-Identifier: Apache-2.0
"""The real programs under test: their configuration, their processes, their status, and what they delivered."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import content
from waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("DIODECAST_BUILD", ROOT / "build")).resolve()
EX_CONFIG = 78
START_S = 15


def free_port(count=1, family=socket.AF_INET):
    """The first of `count` consecutive UDP ports that nobody holds."""
    host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
    for _ in range(100):
        held = []
        try:
            for offset in range(count):
                held.append(socket.socket(family, socket.SOCK_DGRAM))
                held[-1].bind((host, held[0].getsockname()[1] + offset if offset else 0))
            return held[0].getsockname()[1]
        except OSError:
            continue
        finally:
            for one in held:
                one.close()
    raise RuntimeError("no free UDP ports")


def diodecast(*arguments, **options):
    """Runs build/diodecast and returns the finished process, output captured as text."""
    return run([BUILD / "diodecast", *arguments], **options)


def run(command, check=None, timeout=60, **options):
    done = subprocess.run([os.fspath(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, errors="replace", timeout=timeout, **options)
    if check is not None:
        assert done.returncode == check, f"{command}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


class Program:
    """One child process with its output in a file. `prefix` is what runs it (nsenter, setpriv…); it must exec."""

    running = []

    def __init__(self, name, command, directory, prefix=()):
        self.name = name
        self.command = [os.fspath(word) for word in [*prefix, *command]]
        self.log = Path(directory) / f"{name}.log"
        self.process = None

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        Program.running.append(self)
        return self

    @property
    def pid(self):
        return self.process.pid

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def wait(self, timeout):
        code = self.process.wait(timeout)
        self._forget()
        return code

    def stop(self, timeout=20):
        """SIGTERM, and the exit code. A program that does not end is a failure of the test."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not end within {timeout} s of SIGTERM\n{self.log_tail()}") from None

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._forget()

    def _forget(self):
        if self in Program.running:
            Program.running.remove(self)

    def log_tail(self, lines=40):
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def peak_memory_kib(self):
        """VmHWM: the largest resident set so far."""
        text = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", text).group(1))


def write_config(path, sections):
    """`sections` is {section: {key: value}}; None leaves a key out."""
    lines = []
    for section, keys in sections.items():
        lines.append(f"[{section}]")
        lines += [f"{key} = {value}" for key, value in keys.items() if value is not None]
    Path(path).write_text("\n".join(lines) + "\n")


def make_key(directory, name="sender"):
    """A signing key pair: (secret, public)."""
    secret, public = Path(directory) / f"{name}.key", Path(directory) / f"{name}.pub"
    diodecast("keygen", "-s", secret, "-p", public, check=0)
    return secret, public


class Daemon:
    """What both sides have in common. Subclasses fill `sections` and know their program."""

    program_name = None

    def __init__(self, directory, prefix=()):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.config = self.directory / f"{self.program_name}.conf"
        self.status_file = self.directory / "run" / "status.json"
        self.state = self.directory / "state"
        self.state.mkdir(exist_ok=True)
        self.status_file.parent.mkdir(exist_ok=True)
        self.prefix = list(prefix)
        self.program = None
        self.sections = {}

    def arguments(self, *extra):
        write_config(self.config, self.sections)
        return [BUILD / self.program_name, "-c", self.config, *extra]

    def start(self, wait=True):
        self.program = Program(self.program_name, self.arguments(), self.directory, self.prefix).start()
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self):
        """Until the status file is this process's own."""
        self.wait_status(lambda status: status.get("pid") == self.program.pid, "its first status file", START_S)

    def run_once(self, *extra, timeout=60):
        """Runs in the foreground with further options, such as -n or --once."""
        return run([*self.prefix, *self.arguments(*extra)], timeout=timeout)

    def stop(self):
        return self.program.stop()

    def kill(self):
        self.program.kill()

    def status(self):
        try:
            return json.loads(self.status_file.read_text())
        except FileNotFoundError:
            return {}

    def wait_status(self, condition, what, timeout=30):
        """Until condition(status) is true for a status that this run of the daemon wrote; returns that status."""

        def look():
            status = self.status()
            return status if status.get("pid") == self.program.pid and condition(status) else None

        return wait_until(look, timeout, lambda: f"{self.program_name}: {what}; status {self.status()}",
                          watch=[self.status_file.parent], alive=[self.program])


class Sender(Daemon):
    program_name = "diodecast-sender"

    def __init__(self, directory, peer, key=None, prefix=(), link=None, fec=None, sender=None, channels=None,
                 replay=None):
        super().__init__(directory, prefix)
        self.spool = self.directory / "spool"
        self.spool.mkdir(exist_ok=True)
        self.key, self.public = key or make_key(self.directory)
        self.sections = {
            "sender": {"spool": self.spool, "state": self.state, "status": self.status_file, "signing_key": self.key,
                       "settle": "200ms", "settle_tree": "1s", **(sender or {})},
            "link": {"peer": peer, "rate": "300Mbit/s", "mtu": "1500", **(link or {})},
            "fec": {"burst": "5ms", **(fec or {})},
            "replay": {"idle_resend": "off", **(replay or {})},
        }
        for name, keys in (channels or {}).items():
            self.sections[f"channel {name}"] = keys

    def channel(self, name):
        directory = self.spool / name
        directory.mkdir(exist_ok=True)
        return directory

    def drop(self, source, channel="default", name=None):
        """As `mv` of a finished item: hidden copy beside, one rename. Takes `source`."""
        name = name or os.path.basename(source)
        hidden = self.channel(channel) / f".drop-{abs(hash(name))}"
        shutil.move(source, hidden)
        os.rename(hidden, os.path.join(self.channel(channel), name))

    def copy(self, source, channel="default", name=None):
        """drop() of a copy, with times and modes kept."""
        source = Path(source)
        hidden = self.channel(channel) / f".copy-{abs(hash(source.name))}"
        if source.is_dir():
            shutil.copytree(source, hidden, symlinks=True)
        else:
            shutil.copy2(source, hidden)
        os.rename(hidden, self.channel(channel) / (name or source.name))

    def wait_sent(self, count, timeout=60):
        return self.wait_status(lambda status: status.get("sent_total", 0) >= count, f"{count} transfers sent", timeout)

    def failed(self):
        """{item name as bytes: reason} of what was refused."""
        found = {}
        for directory in (self.spool / ".failed").glob("*"):
            reason = directory / "reason"
            for name in os.listdir(os.fsencode(directory)):
                if name != b"reason" and reason.exists():
                    found[name] = reason.read_text()
        return found

    def wait_failed(self, name, timeout=30):
        """The reason with which `name` (bytes) was refused."""
        return wait_until(lambda: self.failed().get(name), timeout, f"{name!r} in .failed; there: {self.failed()}",
                          watch=[self.spool / ".failed"], alive=[self.program])


class Delivery:
    """One directory of the intake queue."""

    pattern = re.compile(r"(\d{16})-([0-9a-f]{8})-(.*)", re.DOTALL)

    def __init__(self, path):
        self.path = Path(path)
        self.channel = self.path.parent.name
        sequence, self.sender_id, self.name = self.pattern.fullmatch(self.path.name).groups()
        self.sequence = int(sequence)

    @property
    def manifest(self):
        return json.loads((self.path / "manifest.json").read_text())

    @property
    def item(self):
        (name,) = os.listdir(self.path / "payload")
        return self.path / "payload" / name

    def check(self, expected, public):
        """Bit-identical to facts() of what was sent, and the stock tools agree."""
        actual = content.facts(self.item)
        assert actual == expected, content.differences(expected, actual)
        self.check_stock_tools(public)

    def check_stock_tools(self, public):
        run(["minisign", "-Vm", self.path / "manifest.pb", "-p", public], check=0)
        if (self.path / "SHA256SUMS").stat().st_size > 0:
            run(["sha256sum", "--strict", "--quiet", "-c", "../SHA256SUMS"], cwd=self.path / "payload", check=0,
                timeout=300)
        diodecast("verify", "-p", public, self.path, check=0, timeout=300)


class Receiver(Daemon):
    program_name = "diodecast-receiver"

    def __init__(self, directory, listen, trusted=(), prefix=(), link=None, receiver=None):
        super().__init__(directory, prefix)
        self.intake = self.directory / "intake"
        self.intake.mkdir(exist_ok=True)
        self.trusted = self.directory / "trusted.d"
        self.trusted.mkdir(exist_ok=True)
        for number, public in enumerate(trusted):
            shutil.copy(public, self.trusted / f"{number}-{Path(public).name}")
        self.sections = {
            "receiver": {"intake": self.intake, "state": self.state, "status": self.status_file,
                         "trusted_keys": self.trusted, **(receiver or {})},
            "link": {"listen": listen, **(link or {})},
        }

    def deliveries(self, channel=None):
        found = []
        for directory in sorted(self.intake.iterdir()):
            if directory.name.startswith(".") or (channel and directory.name != channel):
                continue
            found += [Delivery(path) for path in sorted(directory.iterdir()) if not path.name.startswith(".")]
        return found

    def wait_delivered(self, name, channel="default", timeout=60):
        def look():
            return next((one for one in self.deliveries(channel) if one.name == name), None)

        return wait_until(look, timeout, lambda: f"delivery of {name!r} in {channel}; status {self.status()}",
                          watch=[self.intake, self.intake / channel], alive=[self.program])

    def wait_count(self, count, channel=None, timeout=60):
        """Until `count` transfers are in the intake queue; returns them."""

        def look():
            found = self.deliveries(channel)
            return found if len(found) >= count else None

        return wait_until(look, timeout,
                          lambda: f"{count} deliveries, {len(self.deliveries(channel))} there; status {self.status()}",
                          watch=[self.intake, *self.intake.iterdir()], alive=[self.program])

    def newest_epoch(self):
        """The newest run of a sender that a signed heartbeat has confirmed; 0: none."""
        return max((one["epoch"] for one in self.status().get("senders", [])), default=0)

    def wait_heard(self, after=0, timeout=30):
        """
        Until a heartbeat of a sender was accepted: the baseline of its chain is set. `after` is an earlier
        newest_epoch(): then until a later run was heard.
        """
        return self.wait_status(lambda status: any(one["epoch"] > after for one in status.get("senders", [])),
                                "a heartbeat", timeout)


class Impairer(Program):
    """build/diodecast-impair between two loopback ports. `damage` are its options, with underscores."""

    def __init__(self, directory, port, peer_port, **damage):
        options = [word for name, value in damage.items() for word in (f"--{name.replace('_', '-')}", str(value))]
        super().__init__("diodecast-impair", [BUILD / "diodecast-impair", "--listen", f"127.0.0.1:{port}", "--forward",
                                              f"127.0.0.1:{peer_port}", *options], directory)


class Pair:
    """Sender and receiver over loopback, with the impairer or a relay in between when asked for."""

    def __init__(self, directory, damage=None, relay=None, receiver=None, **sender):
        directory = Path(directory)
        self.port = free_port()
        towards = self.port
        self.impairer = self.relay = None
        if damage:
            towards = free_port()
            self.impairer = Impairer(directory, towards, self.port, **damage)
        if relay:
            self.relay = relay(self.port)
            towards = self.relay.port
        self.sender = Sender(directory / "low", f"127.0.0.1:{towards}", **sender)
        self.receiver = Receiver(directory / "high", f"127.0.0.1:{self.port}", [self.sender.public], **(receiver or {}))

    def start(self):
        self.receiver.start()
        if self.impairer:
            self.impairer.start()
        if self.relay:
            self.relay.start()
        self.sender.start()
        return self
