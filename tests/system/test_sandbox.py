# SPDX-License-Identifier: Apache-2.0
"""What someone who has taken over a running daemon can do, tried from inside its own threads."""

import contextlib
import errno
import grp
import os
import platform
import re
import socket
import struct
from pathlib import Path

import content
import harness
import inside
import pytest

CLONE_SIGHAND = 0x800
CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID, CAP_SYS_NICE, CAP_LEASE = 0, 1, 3, 4, 23, 28



def from_inside(test):
    registers = pytest.mark.skipif(platform.machine() != "x86_64", reason="the registers are those of x86-64")
    return pytest.mark.root(registers(test))


@pytest.fixture
def running(pair, scratch):
    both = pair()
    both.receiver.wait_heard()
    return both


@pytest.fixture
def open_pair(scratch):
    """Both daemons without their sandboxes."""
    port = harness.free_port()
    sender = harness.Sender(scratch / "low", f"127.0.0.1:{port}", sender={"sandbox": "off"})
    receiver = harness.Receiver(scratch / "high", f"127.0.0.1:{port}", [sender.public])
    receiver.sections["receiver"]["sandbox"] = "off"
    receiver.start()
    sender.start()
    receiver.wait_heard()
    return sender, receiver


@contextlib.contextmanager
def taken_over(daemon):
    """Gives a function that stops a thread, in whose page there are then: an address, a message to it, and the names of
    a program and of a file outside."""
    outside = daemon.directory / "outside"
    outside.write_text("secret")
    with inside.taken_over(daemon.program) as stop:

        def prepare(name):
            thread = stop(name)
            page = thread.memory
            thread.write(page, struct.pack("=HH4s8x", socket.AF_INET, socket.htons(9), socket.inet_aton("127.0.0.1")))
            thread.write(page + 64, struct.pack("=QQ", page, 1))
            thread.write(page + 128, struct.pack("=QI4xQQQQI4x", page, 16, page + 64, 1, 0, 0, 0))
            thread.write(page + 256, struct.pack("=QQ", page + 512, 0))
            thread.write(page + 512, b"/bin/true\0")
            thread.write(page + 1024, os.fsencode(outside) + b"\0")
            return thread

        yield prepare


def attempts(thread, target, execute=True):
    """{what: what the kernel says}, with `target` for the link's socket."""
    page = thread.memory
    calls = {
        "socket": ("socket", socket.AF_INET, socket.SOCK_DGRAM, 0),
        "packet socket": ("socket", socket.AF_PACKET, socket.SOCK_RAW, 0),
        "unix socket": ("socket", socket.AF_UNIX, socket.SOCK_DGRAM, 0),
        "bind": ("bind", target, page, 16),
        "connect": ("connect", target, page, 16),
        "sendto": ("sendto", target, page, 1, 0, page, 16),
        "sendmsg": ("sendmsg", target, page + 128, 0),
        "recvmsg": ("recvmsg", target, page + 128, socket.MSG_DONTWAIT),
        "setsockopt": ("setsockopt", target, socket.SOL_SOCKET, socket.SO_BROADCAST, page, 4),
        "open outside": ("openat", inside.AT_FDCWD, page + 1024, os.O_RDONLY),
        "write outside": ("openat", inside.AT_FDCWD, page + 1024, os.O_WRONLY),
        "io_uring_setup": ("io_uring_setup", 8, page + 2048),
        "code": ("mmap", 0, 4096, 7, 0x22, -1, 0),
        "process": ("clone", CLONE_SIGHAND),  # which is no process where it is allowed
        "execve": ("execve", page + 512 if execute else 0, page + 256, 0),
    }
    return {what: inside.name_of(thread.call(*call)) for what, call in calls.items()}


def assert_denied(found):
    refusals = {what: "EACCES" if "outside" in what else "EPERM" for what in found}
    assert found == refusals


def refusals_of(thread, number, own=None):
    """What the kernel says to all operations but its own one on the thread's ring."""
    ring = thread.own_ring()
    addresses = {"SENDMSG": 128, "SENDMSG_ZC": 128, "RECVMSG": 128, "WRITEV": 64, "READV": 64}
    return {inside.name_of(ring.submit(operation, number, thread.memory + addresses.get(operation, 0), 1))
            for operation in inside.OPERATIONS if operation != own}


@from_inside
def test_no_thread_of_the_receiver_can_send_open_or_execute(running):
    with taken_over(running.receiver) as stop:
        for name in ("diodecast-recei", "receive 0", "store"):
            thread = stop(name)
            sockets = thread.link_sockets()
            assert len(sockets) == (1 if name == "receive 0" else 0), name
            assert_denied(attempts(thread, sockets[0] if sockets else 0))
            if sockets:
                # Shut for sending, without an address to send to, and nobody who could give it one.
                assert inside.name_of(thread.call("write", sockets[0], thread.memory, 1)) in ("EPIPE", "EDESTADDRREQ")


@from_inside
def test_no_ring_of_the_receiver_can_send(running):
    with taken_over(running.receiver) as stop:
        receive, store, publish = stop("receive 0"), stop("store"), stop("publish")
        (number,) = receive.link_sockets()
        assert refusals_of(receive, number, "RECVMSG") == {"EACCES"}
        # These write and flush files, and have no socket that they could write to.
        assert store.link_sockets() == [] and publish.link_sockets() == []
        assert refusals_of(store, number, "WRITEV") == {"EACCES"}
        assert refusals_of(publish, number) == {"EACCES"}


@from_inside
def test_no_thread_of_the_sender_can_send_beside_its_ring_open_or_execute(running):
    with taken_over(running.sender) as stop:
        for name in ("diodecast-sende", "send", "read"):
            thread = stop(name)
            (number,) = thread.link_sockets()
            assert_denied(attempts(thread, number))
            assert inside.name_of(thread.call("write", number, thread.memory, 1)) == "EDESTADDRREQ"


@from_inside
def test_the_rings_of_the_sender_send_or_read_and_do_nothing_else(running):
    with taken_over(running.sender) as stop:
        for name, operation in (("send", "SENDMSG"), ("read", "READ")):
            thread = stop(name)
            (number,) = thread.link_sockets()
            assert refusals_of(thread, number, operation) == {"EACCES"}


@from_inside
def test_without_the_sandbox_all_of_that_would_work(open_pair):
    """So that the other tests are known to see it."""
    sender, receiver = open_pair
    for daemon, name in ((receiver, "store"), (sender, "read")):
        with taken_over(daemon) as stop:
            found = attempts(stop(name), -1, execute=False)
        for what in ("socket", "packet socket", "unix socket", "open outside", "write outside", "io_uring_setup",
                     "code"):
            assert isinstance(found.pop(what), int), what
        assert found == {"bind": "EBADF", "connect": "EBADF", "sendto": "EBADF", "sendmsg": "EBADF", "recvmsg": "EBADF",
                         "setsockopt": "EBADF", "process": "EINVAL", "execve": "EFAULT"}


def fields_of(pid, thread):
    text = Path(f"/proc/{pid}/task/{thread}/status").read_text()
    return dict(re.findall(r"^(\w+):\s+(.*)$", text, re.MULTILINE))


def test_every_thread_is_bound_and_has_no_capability_of_another_role(running, scratch):
    """Those of libuv too, which start when they have something to do."""
    running.sender.drop(content.write_file(scratch / "item", 1000))
    running.receiver.wait_delivered("item")
    as_root = bits(CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FSETID) if os.geteuid() == 0 else 0
    for daemon, role in ((running.sender, bits(CAP_LEASE, CAP_DAC_OVERRIDE) | (as_root and as_root | bits(CAP_FOWNER))),
                         (running.receiver, as_root)):
        pid = daemon.program.pid
        threads = [int(entry.name) for entry in Path(f"/proc/{pid}/task").iterdir()]
        assert len(threads) > 3
        for thread in threads:
            fields = fields_of(pid, thread)
            assert (fields["Seccomp"], fields["NoNewPrivs"]) == ("2", "1"), fields["Name"]
            for kind in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
                assert int(fields[kind], 16) & ~role == 0, (fields["Name"], kind)
        assert daemon.status()["sandbox"] == "on"
        assert all(reason["code"] != "sandbox_off" for reason in daemon.status()["reasons"])


def bits(*numbers):
    return sum(1 << number for number in numbers)


@pytest.mark.root
def test_as_root_the_threads_at_the_link_come_first_and_then_the_one_that_hashes(running, scratch):
    """They get their nice value before the capability for it is given up."""
    if not int(fields_of(os.getpid(), os.getpid())["CapEff"], 16) & bits(CAP_SYS_NICE):
        pytest.skip("root lacks CAP_SYS_NICE here")
    running.sender.drop(content.write_file(scratch / "item", 1000))  # for the threads of libuv
    running.receiver.wait_delivered("item")
    for daemon, expected in ((running.sender, {"send": -20}), (running.receiver, {"receive 0": -10, "hash": -5})):
        pid = daemon.program.pid
        found = {}
        for thread in (int(entry.name) for entry in Path(f"/proc/{pid}/task").iterdir()):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a worker of a ring that has ended
                nice = os.getpriority(os.PRIO_PROCESS, thread)
                if nice < 0:
                    found[fields_of(pid, thread)["Name"]] = nice
        assert {name: nice for name, nice in found.items() if not name.startswith("iou-")} == expected


@pytest.mark.root
def test_a_user_of_its_own_leaves_the_receiver_no_capability_at_all(scratch):
    receiver = harness.Receiver(scratch / "high", f"127.0.0.1:{harness.free_port()}", [harness.make_key(scratch)[1]],
                                prefix=["setpriv", "--reuid=61004", "--regid=61004", "--clear-groups",
                                        "--inh-caps=+net_admin,+net_raw", "--ambient-caps=+net_admin,+net_raw", "--"])
    receiver.arguments()
    for path in (receiver.state, receiver.status_file.parent, receiver.config, receiver.intake):
        os.chown(path, 61004, 61004)
    receiver.start()
    pid = receiver.program.pid
    for entry in Path(f"/proc/{pid}/task").iterdir():
        fields = fields_of(pid, int(entry.name))
        assert {int(fields[kind], 16) for kind in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == {0}, fields["Name"]
    # Not dumpable: what is below /proc belongs to root and not to the user.
    assert os.stat(f"/proc/{pid}/mem").st_uid == 0


def test_the_sandbox_can_be_switched_off_and_that_shows(open_pair):
    for daemon in open_pair:
        status = daemon.wait_status(lambda status: status["health"] == "degraded", "degraded health")
        assert status["sandbox"] == "off"
        (reason,) = [one for one in status["reasons"] if one["code"] == "sandbox_off"]
        assert "sandbox = off" in reason["action"]
        assert fields_of(daemon.program.pid, daemon.program.pid)["Seccomp"] == "0"


@pytest.mark.parametrize("side", ["sender", "receiver"])
def test_the_command_line_overrides_the_configuration(side, open_pair, scratch):
    daemon = open_pair[side == "receiver"]
    daemon.stop()
    program = harness.Program("again", daemon.arguments("--sandbox=on"), scratch).start()
    daemon.program = program
    assert daemon.wait_status(lambda status: True, "a status")["sandbox"] == "on"
    assert fields_of(program.pid, program.pid)["Seccomp"] == "2"
    program.stop()
    assert daemon.run_once("--sandbox=perhaps").returncode == os.EX_USAGE


def test_a_channel_that_is_a_link_to_another_directory_is_delivered_to(pair, scratch):
    elsewhere = scratch / "elsewhere"
    elsewhere.mkdir()
    both = pair()
    both.receiver.stop()
    (both.receiver.intake / "linked").symlink_to(elsewhere)
    both.receiver.start()
    both.sender.drop(content.write_file(scratch / "item", 1000), "linked")
    both.receiver.wait_delivered("item", "linked")
    assert list(elsewhere.iterdir())


LESSER_KERNEL = """
import ctypes, os, sys
seccomp = ctypes.CDLL("libseccomp.so.2")
seccomp.seccomp_init.restype = ctypes.c_void_p
context = ctypes.c_void_p(seccomp.seccomp_init(0x7FFF0000))
answer, names, command = int(sys.argv[1]), sys.argv[2].split(), sys.argv[3:]
for name in names:
    number = seccomp.seccomp_syscall_resolve_name(name.encode())
    assert seccomp.seccomp_rule_add(context, ctypes.c_uint32(0x00050000 | answer), number, 0) == 0
assert seccomp.seccomp_load(context) == 0
os.execv(command[0], command)
"""


@pytest.mark.root
@pytest.mark.parametrize("answer, calls, code, words", [
    (errno.ENOSYS, "landlock_create_ruleset", os.EX_UNAVAILABLE, ["CONFIG_SECURITY_LANDLOCK", "sandbox = off"]),
    (errno.EOPNOTSUPP, "landlock_create_ruleset", os.EX_UNAVAILABLE, ["lsm=landlock", "sandbox = off"]),
    (errno.EINVAL, "seccomp", os.EX_UNAVAILABLE, ["CONFIG_SECCOMP_FILTER", "sandbox = off"]),
    # These say that they have done it, and have not.
    (0, "landlock_restrict_self", os.EX_SOFTWARE, ["opening /", "refusing to run"]),
    (0, "capset", os.EX_SOFTWARE, ["a capability", "refusing to run"]),
], ids=["no Landlock", "Landlock off", "no seccomp", "Landlock without effect", "capabilities kept"])
@pytest.mark.parametrize("side", ["sender", "receiver"])
def test_where_the_sandbox_does_not_hold_the_daemon_says_why_and_does_not_run(side, answer, calls, code, words,
                                                                              scratch):
    secret, public = harness.make_key(scratch)
    address = f"127.0.0.1:{harness.free_port()}"
    prefix = ["/usr/bin/python3", "-c", LESSER_KERNEL, str(answer), calls]
    daemon = (harness.Sender(scratch / "side", address, (secret, public), prefix) if side == "sender" else
              harness.Receiver(scratch / "side", address, [public], prefix=prefix))
    done = daemon.run_once()
    assert done.returncode == code, done.stderr
    for word in words:
        assert word in done.stderr
    # Without it, it runs there.
    daemon.sections[side]["sandbox"] = "off"
    daemon.start()
    assert daemon.stop() == 0


@pytest.mark.root
def test_as_root_the_daemons_serve_directories_of_others(scratch):
    """What memberships in groups are to a user of their own, a few capabilities are to root."""
    user, group = 61004, 62002
    port = harness.free_port()
    sender = harness.Sender(scratch / "low", f"127.0.0.1:{port}", replay={"group": grp.getgrgid(4).gr_name})
    receiver = harness.Receiver(scratch / "high", f"127.0.0.1:{port}", [sender.public])
    channel, sticky = receiver.intake / "theirs", sender.channel("theirs")
    channel.mkdir()
    for path, mode in ((channel, 0o2770), (sticky, 0o3770)):
        os.chown(path, user, group)
        os.chmod(path, mode)
    item = content.make_tree(scratch / "item", 5)
    for directory, _, names in os.walk(item):
        os.chown(directory, user, group)
        for name in names:
            os.chown(os.path.join(directory, name), user, group, follow_symlinks=False)
    receiver.start()
    sender.start()
    os.rename(item, sticky / "item")
    delivered = receiver.wait_delivered("item", "theirs").path
    for path in (delivered, delivered / "payload"):
        facts = path.stat()
        assert (facts.st_gid, facts.st_mode & 0o7777) == (group, 0o2770), path
    assert (delivered / "SHA256SUMS").stat().st_gid == group
    facts = (sender.spool / ".requests").stat()
    assert facts.st_gid == 4 and facts.st_mode & 0o2000
