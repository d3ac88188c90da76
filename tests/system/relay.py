# SPDX-License-Identifier: Apache-2.0
"""A relay between two loopback ports that looks into the datagrams, so that a test can harm exactly one thing."""

import socket
import struct
import threading

SYMBOL = 80
FRAME_DATA = 2
SO_RCVBUFFORCE = 33


class View:
    """The header fields that a relay needs (proto/README.md, "Datagram"), and the first frame of a block."""

    def __init__(self, bytes_):
        self.bytes = bytes_
        self.lane, self.k, self.r, self.esi, self.symbol_size = struct.unpack_from("<BBBBH", bytes_, 2)
        self.depth, self.group_index, self.epoch = struct.unpack_from("<HHQ", bytes_, 12)
        self.sequence, self.sbn, self.repeat_of = struct.unpack_from("<QQQ", bytes_, 32)

    @property
    def block(self):
        return self.lane, self.epoch, self.sbn

    def data_of(self):
        """(transfer id, artifact size) when the block begins with DATA that fills nearly all of it, else None."""
        if self.esi != 0 or self.k == 0 or self.bytes[SYMBOL] != FRAME_DATA:
            return None
        (length,) = struct.unpack_from("<I", self.bytes, SYMBOL + 4)
        (size,) = struct.unpack_from("<Q", self.bytes, SYMBOL + 8 + 24)
        if length < self.k * self.symbol_size - 128:
            return None
        return self.bytes[SYMBOL + 8 : SYMBOL + 24], size


class Relay:
    """
    Forwards what `decide(view)` lets pass (a list of datagrams; None forwards it as it came). Keeps a copy of all that
    came in when `capture` is set.
    """

    def __init__(self, peer_port, decide=None, capture=False):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 32 << 20)
        except PermissionError:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.peer = ("127.0.0.1", peer_port)
        self.decide = decide
        self.captured = [] if capture else None
        self.forwarded = 0
        self.dropped = 0
        self.thread = threading.Thread(target=self._run, daemon=True)

    def start(self):
        self.thread.start()

    def _run(self):
        out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        while True:
            try:
                bytes_ = self.socket.recv(65536)
            except OSError:
                return
            if not bytes_:
                return
            if self.captured is not None:
                self.captured.append(bytes_)
            passed = self.decide(View(bytes_)) if self.decide else None
            for one in [bytes_] if passed is None else passed:
                self._forward(out, one)
            self.dropped += passed == []

    def _forward(self, out, bytes_):
        try:
            out.sendto(bytes_, self.peer)
            self.forwarded += 1
        except ConnectionRefusedError:
            self.dropped += 1

    def stop(self):
        # A zero-length datagram ends the thread's recv(); closing alone would not wake it.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"", ("127.0.0.1", self.port))
        self.thread.join(5)
        self.socket.close()


class LoseOneBlock:
    """decide() that drops, for good, all but the first datagram of one block of the artifact of `artifact_size`."""

    def __init__(self, artifact_size, after_blocks=5):
        self.artifact_size = artifact_size
        self.after_blocks = after_blocks
        self.victim = None
        self.seen = 0

    def __call__(self, view):
        if self.victim is None:
            data = view.data_of()
            if data and data[1] == self.artifact_size:
                self.seen += 1
                if self.seen > self.after_blocks:
                    self.victim = view.block
                    return None
        return [] if view.block == self.victim else None


class Line:
    """
    decide() of a line that goes down: for `count` datagrams that follow `after` others, from lose() on, or from cut()
    to mend(). Keeps account of what came in: datagrams and bytes, all of them and by the transfer that they repeat.
    """

    def __init__(self):
        self.datagrams = self.bytes = self.lost = 0
        self.repeats = {}
        self.down = False
        self.window = range(0)

    def lose(self, count, after=0):
        self.window = range(self.datagrams + after, self.datagrams + after + count)

    def cut(self):
        self.down = True

    def mend(self):
        self.down = False

    def __call__(self, view):
        lost = self.down or self.datagrams in self.window
        self.datagrams += 1
        self.bytes += len(view.bytes)
        self.lost += lost
        if view.repeat_of:
            self.repeats[view.repeat_of] = self.repeats.get(view.repeat_of, 0) + len(view.bytes)
        return [] if lost else None
