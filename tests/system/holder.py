# SPDX-License-Identifier: Apache-2.0
"""A holder of descriptors in systemd's place: keeps a receiver's UDP sockets over the restarts of the receiver."""

import fcntl
import os
import socket
import subprocess
import sys
import time

import harness

SO_RCVBUFFORCE = 33  # as root, beyond net.core.rmem_max, as systemd does for ReceiveBuffer=
FIRST_FD = 3
HIGH_FD = 100  # far from the numbers that the child needs
# In the child: the sockets to their places, and the variables of sd_listen_fds(3), which name the child itself.
ENTER = 'export LISTEN_PID=$$; exec "$@"'


class Holder:
    """UDP sockets for `lanes` consecutive ports, bound and never closed before close(). `order` shuffles the passing."""

    def __init__(self, host="127.0.0.1", lanes=1, buffer=None, order=None):
        self.family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.port = harness.free_port(lanes, self.family)
        self.listen = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
        self.sockets = []
        for lane in range(lanes):
            one = socket.socket(self.family, socket.SOCK_DGRAM)
            if buffer:
                one.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE if os.geteuid() == 0 else socket.SO_RCVBUF, buffer)
            one.bind((host, self.port + lane))
            self.sockets.append(one)
        passed = [self.sockets[lane] for lane in order] if order else self.sockets
        self.fds = [fcntl.fcntl(one.fileno(), fcntl.F_DUPFD_CLOEXEC, HIGH_FD) for one in passed]

    def close(self):
        for fd in self.fds:
            os.close(fd)
        for one in self.sockets:
            one.close()


class HeldProgram(harness.Program):
    """A program that is started as systemd starts the service of a socket unit."""

    def __init__(self, name, command, directory, holder, prefix=()):
        places = "".join(f"exec {FIRST_FD + i}<&{fd}; " for i, fd in enumerate(holder.fds))
        super().__init__(name, command, directory, ["bash", "-c", places + ENTER, "holder", *prefix])
        self.fds = holder.fds

    def start(self):
        names = ":".join("diodecast-receiver.socket" for _ in self.fds)
        environment = {**os.environ, "LISTEN_FDS": str(len(self.fds)), "LISTEN_FDNAMES": names}
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=environment, pass_fds=self.fds)
        harness.Program.running.append(self)
        return self


class HeldReceiver(harness.Receiver):
    """A receiver whose sockets a Holder holds. `finished` are the last status files of its runs so far."""

    def __init__(self, directory, holder, trusted=(), prefix=(), **options):
        super().__init__(directory, holder.listen, trusted, prefix, **options)
        self.holder = holder
        self.finished = []
        self.longest_stop_s = 0

    def start(self, wait=True):
        self.program = HeldProgram(self.program_name, self.arguments(), self.directory, self.holder, self.prefix)
        self.program.start()
        if wait:
            self.wait_ready()
        return self

    def stop(self):
        begun = time.monotonic()
        code = super().stop()
        self.longest_stop_s = max(self.longest_stop_s, time.monotonic() - begun)
        status = self.status()
        assert status["pid"] == self.program.pid and status["state"] == "stopping"
        self.finished.append(status)
        return code

    def restart(self, wait=False):
        assert self.stop() == 0, self.program.log_tail()
        self.start(wait)


def without_inet(command):
    """Runs `command` in this process's place, where sockets other than AF_UNIX can't be made, as in the unit."""
    import ctypes

    seccomp = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    seccomp.seccomp_init.restype = ctypes.c_void_p
    seccomp.seccomp_rule_add_array.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint,
                                               ctypes.c_void_p]
    seccomp.seccomp_load.argtypes = [ctypes.c_void_p]

    class Comparison(ctypes.Structure):
        _fields_ = [("argument", ctypes.c_uint), ("operation", ctypes.c_int), ("a", ctypes.c_uint64),
                    ("b", ctypes.c_uint64)]

    allow, not_equal, fail = 0x7FFF0000, 1, 0x00050000 | 97  # SCMP_ACT_ALLOW, SCMP_CMP_NE, EAFNOSUPPORT
    context = seccomp.seccomp_init(allow)
    not_unix = Comparison(0, not_equal, socket.AF_UNIX, 0)
    number = seccomp.seccomp_syscall_resolve_name(b"socket")
    if seccomp.seccomp_rule_add_array(context, fail, number, 1, ctypes.byref(not_unix)) or \
            seccomp.seccomp_load(context):
        sys.exit("the seccomp filter can't be loaded")
    os.execvp(command[0], command)


if __name__ == "__main__":
    without_inet(sys.argv[1:])
