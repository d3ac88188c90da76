# SPDX-License-Identifier: Apache-2.0
"""Makes threads of a running daemon call the kernel, by ptrace(2): what they are told there is what holds for whoever
takes the daemon over. x86-64 only."""

import contextlib
import ctypes
import errno
import os
import struct
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long

SYSCALLS = {"write": 1, "mmap": 9, "socket": 41, "connect": 42, "sendto": 44, "sendmsg": 46, "recvmsg": 47, "bind": 49,
            "setsockopt": 54, "clone": 56, "execve": 59, "openat": 257, "io_uring_setup": 425, "io_uring_enter": 426}
OPERATIONS = {"NOP": 0, "READV": 1, "WRITEV": 2, "SENDMSG": 9, "RECVMSG": 10, "ACCEPT": 13, "CONNECT": 16, "OPENAT": 18,
              "READ": 22, "WRITE": 23, "SEND": 26, "RECV": 27, "SPLICE": 30, "SOCKET": 45, "SEND_ZC": 47,
              "SENDMSG_ZC": 48}
AT_FDCWD = -100
_GETREGS, _SETREGS, _SINGLESTEP, _ATTACH, _DETACH = 12, 13, 9, 16, 17
_WALL = 0x40000000
_REGISTERS = ("r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss fs_base gs_base "
              "ds es fs gs").split()
_SQ_OFFSETS, _CQ_OFFSETS, _SQES = 40, 80, 0x10000000
_CQSIZE = 1 << 3


def _ptrace(request, thread, data=None):
    if _libc.ptrace(request, thread, None, data) < 0:
        raise OSError(ctypes.get_errno(), f"ptrace {request} of {thread}")


class Thread:
    """A stopped thread. `memory` is a page of its process, of which the tests make what they like."""

    def __init__(self, pid, thread):
        self.pid, self.thread = pid, thread
        self.name = Path(f"/proc/{pid}/task/{thread}/comm").read_text().strip()
        _ptrace(_ATTACH, thread)
        os.waitpid(thread, _WALL)
        self.instruction = self._find_syscall()
        self.memory = self.call("mmap", 0, 4096, 3, 0x22, -1, 0)
        assert self.memory > 0, os.strerror(-self.memory)

    def _find_syscall(self):
        """The address of a system call instruction in the C library."""
        for line in Path(f"/proc/{self.pid}/maps").read_text().splitlines():
            if "r-xp" in line and "/libc." in line:
                start, end = (int(word, 16) for word in line.split()[0].split("-"))
                return start + self.read(start, end - start).index(b"\x0f\x05")
        raise RuntimeError("no C library")

    def read(self, address, size):
        with open(f"/proc/{self.pid}/mem", "rb", buffering=0) as memory:
            return os.pread(memory.fileno(), size, address)

    def write(self, address, data):
        with open(f"/proc/{self.pid}/mem", "r+b", buffering=0) as memory:
            assert os.pwrite(memory.fileno(), data, address) == len(data)

    def call(self, name, *arguments):
        """What the call returns: negative is an errno."""
        registers = (ctypes.c_uint64 * len(_REGISTERS))()
        _ptrace(_GETREGS, self.thread, registers)
        changed = type(registers)(*registers)
        values = {"rax": SYSCALLS[name], "orig_rax": -1, "rip": self.instruction}
        values.update(zip(("rdi", "rsi", "rdx", "r10", "r8", "r9"), [*arguments, *[0] * (6 - len(arguments))]))
        for register, value in values.items():
            changed[_REGISTERS.index(register)] = value & 0xFFFFFFFFFFFFFFFF
        _ptrace(_SETREGS, self.thread, changed)
        _ptrace(_SINGLESTEP, self.thread)
        _, status = os.waitpid(self.thread, _WALL)
        assert os.WIFSTOPPED(status), f"{name} ended the daemon: {status}"
        _ptrace(_GETREGS, self.thread, changed)
        return ctypes.c_int64(changed[_REGISTERS.index("rax")]).value

    def descriptors(self, kind):
        """The numbers of the thread's descriptors that lead to `kind`, such as socket:[…]."""
        found = []
        for entry in Path(f"/proc/{self.pid}/task/{self.thread}/fd").iterdir():
            if os.readlink(entry) in kind:
                found.append(int(entry.name))
        return found

    def link_sockets(self):
        lines = [line for table in ("udp", "udp6")
                 for line in Path(f"/proc/{self.pid}/net/{table}").read_text().splitlines()[1:]]
        return self.descriptors({f"socket:[{line.split()[9]}]" for line in lines})

    def own_ring(self):
        """The ring that this thread alone can use."""
        rings = [number for number in self.descriptors({"anon_inode:[io_uring]"})
                 if self.call("io_uring_enter", number, 1, 0, 0, 0, 0) >= 0]
        assert len(rings) == 1, f"{self.name} has {len(rings)} rings"
        return Ring(self, rings[0])


@contextlib.contextmanager
def taken_over(program):
    """Gives a function that stops a thread by its name. At the end the program is killed."""
    stopped = []

    def stop(name):
        threads = {Path(entry / "comm").read_text().strip(): int(entry.name)
                   for entry in Path(f"/proc/{program.pid}/task").iterdir()}
        stopped.append(threads[name])
        return Thread(program.pid, threads[name])

    try:
        yield stop
    finally:
        program.process.kill()
        for thread in stopped:
            if thread != program.pid:
                os.waitpid(thread, _WALL)  # the process ends after those who trace its threads have seen them end
        program.kill()


def _layout(entries, completions):
    """What io_uring_setup(2) says of a ring of this size: the offsets of its parts."""
    parameters = bytearray(120)
    struct.pack_into("=III", parameters, 0, 0, completions, _CQSIZE)
    buffer = (ctypes.c_char * len(parameters)).from_buffer(parameters)
    number = _libc.syscall(SYSCALLS["io_uring_setup"], entries, buffer)
    assert number >= 0, os.strerror(ctypes.get_errno())
    os.close(number)
    sq = struct.unpack_from("=8I", parameters, _SQ_OFFSETS)
    cq = struct.unpack_from("=8I", parameters, _CQ_OFFSETS)
    return {"sq_tail": sq[1], "sq_entries": sq[3], "array": sq[6], "cq_tail": cq[1], "cq_entries": cq[3], "cqes": cq[5]}


class Ring:
    """A ring of a stopped thread, mapped into its process once more."""

    def __init__(self, thread, number):
        self.thread, self.number = thread, number
        self.base = self._map(4096, 0)
        layout = _layout(8, 8)
        self.entries, self.completions = self._word(layout["sq_entries"]), self._word(layout["cq_entries"])
        self.layout = _layout(self.entries, self.completions)
        self.base = self._map(self.layout["array"] + 4 * self.entries, 0)
        self.submissions = self._map(64 * self.entries, _SQES)
        self.user_data = 0x0123456789000000

    def _map(self, size, offset):
        address = self.thread.call("mmap", 0, size, 3, 1, self.number, offset)
        assert address > 0, os.strerror(-address)
        return address

    def _word(self, offset):
        return struct.unpack("=I", self.thread.read(self.base + offset, 4))[0]

    def submit(self, operation, number, address=0, length=0, flags=0):
        """What the kernel says to one operation; None when that takes longer than its submission."""
        self.user_data += 1
        tail, before = self._word(self.layout["sq_tail"]), self._word(self.layout["cq_tail"])
        index = tail % self.entries
        entry = struct.pack("=BBHiQQIIQ24x", OPERATIONS[operation], flags, 0, number, 0, address, length, 0,
                            self.user_data)
        self.thread.write(self.submissions + 64 * index, entry)
        self.thread.write(self.base + self.layout["array"] + 4 * index, struct.pack("=I", index))
        self.thread.write(self.base + self.layout["sq_tail"], struct.pack("=I", tail + 1))
        submitted = self.thread.call("io_uring_enter", self.number, 1, 0, 1, 0, 0)
        assert submitted == 1, os.strerror(-submitted)
        for position in range(before, self._word(self.layout["cq_tail"])):
            place = self.base + self.layout["cqes"] + 16 * (position % self.completions)
            user_data, result, _ = struct.unpack("=QiI", self.thread.read(place, 16))
            if user_data == self.user_data:
                return result
        return None


def name_of(result):
    """EPERM for -1, and so on; what is no error stays."""
    return errno.errorcode.get(-result, result) if isinstance(result, int) and result < 0 else result
