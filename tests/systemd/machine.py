# SPDX-License-Identifier: Apache-2.0
"""
A small Debian with a real systemd as PID 1, in namespaces of its own: what is installed there is seen from outside
through /proc/PID/root. Its file system is in memory and goes with it; the archive it comes from is kept in the build
folder.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import harness
from waiting import wait_until

HERE = Path(__file__).resolve().parent
SUITE = "bookworm"
PROGRAMS = ("diodecast-sender", "diodecast-receiver", "diodecast")
TOOLS = ("systemd", "systemd-sysv", "iproute2", "nftables", "ethtool", "minisign")
UNUSED = ("usr/share/doc/*", "usr/share/man/*", "usr/share/locale/*", "usr/share/i18n/*", "var/cache/apt/*")
BOOT_S, DOWNLOAD_S = 60, 900

# In the new namespaces: the archive's content as the root, API file systems, and PID 1. What the kernel shares between
# all of its namespaces (most of /proc/sys, /sys) is read-only, as in systemd-nspawn(1). What is below /proc/sys/net is
# the machine's own, and what is not can't be seen there.
ENTER = r"""
set -e
root=$1
mount -t tmpfs -o size=2g,mode=755 machine "$root"
tar -C "$root" -xpf "$2"
cd "$root"
mount -t proc proc proc
mount --bind proc/sys proc/sys && mount --bind proc/sys/net proc/sys/net && mount -o remount,bind,ro proc/sys
[ ! -e proc/sysrq-trigger ] || mount --bind /dev/null proc/sysrq-trigger
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 dev dev
for node in null zero full random urandom tty; do touch dev/$node; mount --bind /dev/$node dev/$node; done
mkdir dev/shm dev/pts outside
mount -t tmpfs shm dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs -o mode=755 run run
pivot_root . outside
umount -l outside
mount --make-rshared /  # or credentials stay in the namespace in which they are set up
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --log-target=journal \
    --log-level=notice --show-status=no
"""


class CannotRun(Exception):
    """Says why no machine can be had here."""


def _libraries():
    """The packages of the shared libraries that the programs need."""
    done = harness.run(["ldd", *(harness.BUILD / name for name in PROGRAMS)], check=0)
    paths = sorted(set(re.findall(r"=> (/\S+)", done.stdout)))
    # dpkg knows a file by the path of its package, which may be with /usr or without.
    both = [path for one in paths for path in (one, one.removeprefix("/usr"), f"/usr{one}")]
    found = harness.run(["dpkg-query", "-S", *both]).stdout
    return sorted({line.split(":", 1)[0] for line in found.splitlines()})


def _why_not():
    if os.geteuid() != 0:
        return "needs root: namespaces, mounts, a cgroup"
    for program in ("mmdebstrap", "unshare", "nsenter", "dpkg-query", "nft", "ethtool"):
        if not shutil.which(program):
            return f"{program} is not installed; run tools/deps.sh systemd-check"
    # The programs are built against the libraries of this machine.
    release = Path("/etc/os-release").read_text()
    if f"VERSION_CODENAME={SUITE}" not in release:
        return f"the machine is made of Debian {SUITE}, and the programs were built on something else"
    return None


def make_root(folder):
    """The archive of the root, made by mmdebstrap when there is none yet for these packages. CannotRun."""
    reason = _why_not()
    if reason:
        raise CannotRun(reason)
    packages = sorted({*TOOLS, *_libraries()})
    root = folder / f"root-{SUITE}-{hashlib.sha256(' '.join(packages).encode()).hexdigest()[:8]}.tar"
    if root.exists():
        return root
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / "new.tar"
    command = ["mmdebstrap", "--variant=minbase", "--mode=root", f"--include={','.join(packages)}",
               "--dpkgopt=force-unsafe-io", *(f"--dpkgopt=path-exclude=/{pattern}" for pattern in UNUSED),
               '--customize-hook=rm -f "$1"/etc/systemd/system/timers.target.wants/*', SUITE, fresh]
    mirror = os.environ.get("MIRROR")
    done = harness.run(command + ([mirror] if mirror else []), timeout=DOWNLOAD_S)
    if done.returncode != 0:
        raise CannotRun(f"mmdebstrap could not make a root: {' '.join(done.stderr.splitlines()[-3:])}")
    for old in folder.glob("root-*.tar"):
        old.unlink()
    fresh.rename(root)
    return root


class Cgroup:
    """A cgroup that the machine sees as its root."""

    def __init__(self):
        mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
        top = next((Path(words[1]) for words in mounts if words[2] == "cgroup2"), None)
        if top is None:
            raise CannotRun("no cgroup2 file system is mounted here")
        own = next(line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
        self.path = top / own.lstrip("/") / f"diodecast-machine-{os.getpid()}"
        try:
            self.path.mkdir()
        except OSError as error:
            raise CannotRun(f"no cgroup can be made: {error}") from None

    def remove(self):
        for directory, _, _ in os.walk(self.path, topdown=False):
            os.rmdir(directory)


class Machine:
    """boot() it, use it, and end() it. Paths of it seen from outside are machine.path("/...")."""

    def __init__(self, root, folder):
        self.archive = root
        self.log = folder / "boot.log"
        self.mount_point = folder / "machine"
        self.mount_point.mkdir(parents=True, exist_ok=True)
        self.cgroup = None
        self.process = None
        self.pid = None

    def boot(self):
        self.cgroup = Cgroup()
        command = ["bash", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', self.cgroup.path,
                   "unshare", "--pid", "--mount", "--uts", "--ipc", "--net", "--cgroup", "--fork", "--kill-child",
                   "--propagation", "private", "bash", "-c", ENTER, "enter", self.mount_point, self.archive]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen([os.fspath(word) for word in command], stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log)
        wait_until(lambda: self._has_systemd() or self.process.poll() is not None, BOOT_S, self._boot_log)
        if self.process.poll() is not None:
            raise CannotRun(f"the machine does not boot: {self._boot_log()}")
        wait_until(self.path("/run/systemd/private").exists, BOOT_S, self._boot_log)
        self.run("systemctl", "is-system-running", "--wait")
        return self

    def _boot_log(self):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-5:])

    def _has_systemd(self):
        try:
            children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
            if not children or Path(f"/proc/{children[0]}/comm").read_text().strip() != "systemd":
                return False
        except OSError:
            return False
        self.pid = int(children[0])
        return True

    def end(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        if self.cgroup is not None:
            events = self.cgroup.path / "cgroup.events"
            wait_until(lambda: "populated 0" in events.read_text(), 30, "the end of all processes of the machine")
            self.cgroup.remove()

    def path(self, inside):
        return Path(f"/proc/{self.pid}/root{inside}")

    def run(self, *command, check=None, user=None, **options):
        """Runs a command in the machine, as root or as one of its users."""
        enter = ["nsenter", f"--target={self.pid}", "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup",
                 "--root", "--wd=/", "env", "-i", "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/"]
        become = ["runuser", "-u", user, "--"] if user else []
        return harness.run([*enter, *become, *command], check=check, **options)

    def do(self, *command, **options):
        """run() of a command that must succeed; its output."""
        return self.run(*command, check=0, **options).stdout

    def in_network(self, namespace, *command):
        """Runs a command of this machine's host in a network of the machine: "" is its own, else one of ip-netns."""
        network = self.path(f"/run/netns/{namespace}") if namespace else f"/proc/{self.pid}/ns/net"
        return harness.run(["nsenter", f"--net={network}", "--", *command], check=0).stdout

    @contextlib.contextmanager
    def hang(self, process, thread):
        """Stops one thread of a process of the machine, by its name, until the process ends; as a debugger would."""
        tasks = self.path(f"/proc/{process}/task")
        (found,) = [one.name for one in tasks.iterdir() if (one / "comm").read_text().strip() == thread]
        command = ["nsenter", f"--target={self.pid}", "--pid", "--", "/usr/bin/python3", HERE / "hang.py", found]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as helper:
            try:
                assert helper.stdout.readline().strip() == "stopped"
                yield
            finally:
                helper.kill()

    def properties(self, unit):
        return dict(line.split("=", 1) for line in self.do("systemctl", "show", unit).splitlines() if "=" in line)

    def failed_units(self):
        return self.do("systemctl", "list-units", "--failed", "--plain", "--no-legend", "--full").splitlines()

    def journal(self, *options):
        """The journal's entries as dictionaries, oldest first."""
        text = self.do("journalctl", "--no-pager", "--output=json", *options)
        return [json.loads(line) for line in text.splitlines()]

    def status(self, side):
        try:
            return json.loads(self.path(f"/run/diodecast-{side}/status.json").read_text())
        except FileNotFoundError:
            return {}

    def wait_status(self, side, condition, what, timeout=60):
        """Until condition(status) holds for the status file of a side."""

        def look():
            status = self.status(side)
            return status if status.get("pid") and condition(status) else None

        return wait_until(look, timeout, lambda: f"{side}: {what}; status {self.status(side)}\n" +
                          self.run("journalctl", "--no-pager", "-n", "30").stdout,
                          watch=[self.path(f"/run/diodecast-{side}")])

    def wait_properties(self, unit, condition, what, timeout):
        def look():
            properties = self.properties(unit)
            return properties if condition(properties) else None

        return wait_until(look, timeout, lambda: f"{unit}: {what}; {self.run('systemctl', 'status', unit).stdout}")
