# SPDX-License-Identifier: Apache-2.0
"""The receiver's socket can't send and the sender's can't receive, tried on the very sockets of the running daemons."""

import ctypes
import os
import socket
from pathlib import Path

import content
import harness
import pytest

_libc = ctypes.CDLL(None, use_errno=True)
PIDFD_GETFD = 438
PIDFD_THREAD = os.O_EXCL  # Linux 6.9
SO_DETACH_FILTER = 27


def sockets_of(pid):
    """The UDP sockets of a process, borrowed. A thread may have a table of descriptors of its own; another process's
    tables are used to tell which descriptors they are."""
    inodes = set()
    for table in ("udp", "udp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            inodes.add(line.split()[9])
    found = {}
    for entry in Path(f"/proc/{pid}/task").glob("*/fd/*"):
        try:
            target = os.readlink(entry)
        except FileNotFoundError:
            continue
        if target.startswith("socket:[") and target[8:-1] in inodes and target not in found:
            found[target] = borrow(pid, int(entry.parts[4]), int(entry.name))
    return list(found.values())


def borrow(pid, thread, number):
    try:
        process = os.pidfd_open(thread, 0 if thread == pid else PIDFD_THREAD)
    except OSError as error:
        pytest.skip(f"the descriptors of a thread can't be had here: {error}")
    descriptor = _libc.syscall(PIDFD_GETFD, process, number, 0)
    os.close(process)
    if descriptor < 0:
        pytest.skip(f"pidfd_getfd is not allowed here: {os.strerror(ctypes.get_errno())}")
    return socket.socket(fileno=descriptor)


@pytest.fixture
def running(pair, scratch):
    both = pair()
    both.receiver.wait_heard()
    return both


def test_the_receivers_socket_cannot_send(running):
    sockets = sockets_of(running.receiver.program.pid)
    assert len(sockets) == 1
    for one in sockets:
        with pytest.raises(BrokenPipeError):
            one.sendto(b"back", ("127.0.0.1", harness.free_port()))
        with pytest.raises(BrokenPipeError):
            one.sendmsg([b"back"], [], 0, ("127.0.0.1", harness.free_port()))


def test_the_senders_socket_cannot_receive_and_its_filter_is_locked(running):
    sockets = sockets_of(running.sender.program.pid)
    assert sockets
    for one in sockets:
        with pytest.raises(PermissionError):
            one.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
        port = one.getsockname()[1]
        if port == 0:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            for _ in range(10):
                other.sendto(b"an answer", ("127.0.0.1", port))
        with pytest.raises(BlockingIOError):
            one.recv(100, socket.MSG_DONTWAIT)


def test_an_unreachable_receiver_does_not_disturb_the_sender(scratch):
    """Every datagram is answered by ICMP port unreachable, which ends careless senders."""
    sender = harness.Sender(scratch / "low", f"127.0.0.1:{harness.free_port()}")
    sender.start()
    for number in range(1, 4):
        sender.drop(content.write_file(scratch / f"item-{number}", 100_000))
        sender.wait_sent(number)
    assert sender.program.is_running()

