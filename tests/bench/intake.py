# SPDX-License-Identifier: Apache-2.0
"""Sees deliveries at the moment of their rename: an inotify watch on a channel of the intake queue."""

import ctypes
import os
import select
import struct
import time

_libc = ctypes.CDLL(None, use_errno=True)
_IN_MOVED_TO, _IN_Q_OVERFLOW = 0x80, 0x4000
_EVENT = struct.Struct("iIII")


class Intake:
    def __init__(self, directory):
        self.descriptor = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if _libc.inotify_add_watch(self.descriptor, os.fsencode(directory), _IN_MOVED_TO) < 0:
            raise OSError(ctypes.get_errno(), f"{directory} can't be watched")
        self.count = 0
        self.newest_s = None

    def wait(self, count, deadline_s, every_s=0.25, hopeless=lambda: False):
        """
        Until `count` deliveries were seen since the watch was made: the monotonic time of the last one. None at the
        deadline, or when hopeless() says so, which is asked at most every `every_s`.
        """
        ask_s = time.monotonic() + every_s
        while self.count < count:
            now_s = time.monotonic()
            if now_s >= deadline_s or (now_s >= ask_s and hopeless()):
                return None
            if now_s >= ask_s:
                ask_s = now_s + every_s
            if select.select([self.descriptor], [], [], max(0, min(ask_s, deadline_s) - now_s))[0]:
                self._read()
        return self.newest_s

    def _read(self):
        events = os.read(self.descriptor, 1 << 20)
        self.newest_s = time.monotonic()
        at = 0
        while at < len(events):
            _, mask, _, length = _EVENT.unpack_from(events, at)
            if mask & _IN_Q_OVERFLOW:
                raise RuntimeError("the kernel lost inotify events: raise fs.inotify.max_queued_events")
            at += _EVENT.size + length
            self.count += 1

    def close(self):
        os.close(self.descriptor)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
