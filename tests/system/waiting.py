# SPDX-License-Identifier: Apache-2.0
"""Waiting for effects: a condition with a deadline, looked at when a watched directory changes."""

import ctypes
import os
import select
import time

_libc = ctypes.CDLL(None, use_errno=True)
_IN_ALL = 0x00000FFF
_LOOK_AGAIN_S = 0.05  # conditions that no watched directory shows, such as a process's end


class Timeout(AssertionError):
    pass


class _Watch:
    def __init__(self, directories):
        self.descriptor = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self.watched = set()
        self.directories = directories

    def renew(self):
        """Directories may appear later than the wait begins."""
        for directory in self.directories:
            if directory not in self.watched and os.path.isdir(directory):
                if _libc.inotify_add_watch(self.descriptor, os.fsencode(directory), _IN_ALL) >= 0:
                    self.watched.add(directory)

    def wait(self, seconds):
        if select.select([self.descriptor], [], [], max(0, seconds))[0]:
            try:
                while os.read(self.descriptor, 65536):
                    pass
            except BlockingIOError:
                pass

    def close(self):
        os.close(self.descriptor)


def wait_until(condition, timeout, what, watch=(), alive=()):
    """
    Returns the first true value of condition(). Fails with `what` when `timeout` seconds pass, or at once when a
    program of `alive` has ended.
    """
    deadline = time.monotonic() + timeout
    notices = _Watch([os.fspath(directory) for directory in watch])
    try:
        while True:
            notices.renew()
            value = condition()
            if value:
                return value
            for program in alive:
                if not program.is_running():
                    raise Timeout(f"{program.name} ended while waiting for: {what}\n{program.log_tail()}")
            left = deadline - time.monotonic()
            if left <= 0:
                raise Timeout(f"not seen within {timeout} s: {what() if callable(what) else what}")
            notices.wait(min(left, _LOOK_AGAIN_S))
    finally:
        notices.close()


def holds_for(condition, seconds, what):
    """Fails when condition() turns false within `seconds`: for what must not happen."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert condition(), f"did not hold: {what}"
        select.select([], [], [], _LOOK_AGAIN_S)
    assert condition(), f"did not hold: {what}"
