# SPDX-License-Identifier: Apache-2.0
"""What is carried: made once, and dropped as hard links, so that making it is no part of a measurement."""

import os
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "system"))

from waiting import wait_until  # noqa: E402, F401  (re-exported: the modules here need no path of their own)

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
WHEEL_BYTES = 5_000_000


def write_random(path, size):
    """Bytes that nothing can compress or deduplicate."""
    with open("/dev/urandom", "rb") as source, open(path, "wb") as target:
        block = source.read(min(size, 4 * MIB)) or b"\0"
        for number in range(-(-size // len(block))):
            target.write((number.to_bytes(8, "little") + block[8:])[: size - number * len(block)])


class Workload:
    """`items` are dropped; `count` transfers come of them, with `files` files of together `size` bytes."""

    def __init__(self, name, root, items, files, size):
        self.name, self.root, self.items, self.count, self.files, self.size = name, root, items, len(items), files, size

    def stage(self, directory):
        """Links all items below `directory`, which is on the same file system, and returns their paths."""
        staged = []
        for item in self.items:
            target = Path(directory) / item.name
            if item.is_dir():
                _link_tree(item, target)
            else:
                os.link(item, target)
            staged.append(target)
        return staged


def _link_tree(source, target):
    target.mkdir()
    for entry in os.scandir(source):
        if entry.is_dir():
            _link_tree(Path(entry.path), target / entry.name)
        else:
            os.link(entry.path, target / entry.name)


def bulk(root, size):
    root = Path(root) / "bulk"
    root.mkdir()
    write_random(root / "artifact", size)
    return Workload("bulk", root, [root / "artifact"], 1, size)


def sparse(root, size):
    """A large file that takes no memory: read as zeros, which cost as much as other bytes on the way."""
    root = Path(root) / "sparse"
    root.mkdir()
    with open(root / "model", "wb") as target:
        target.truncate(size)
    return Workload("model", root, [root / "model"], 1, size)


def wheel(root):
    root = Path(root) / "wheel"
    root.mkdir()
    write_random(root / "wheel.whl", WHEEL_BYTES)
    return Workload("wheel", root, [root / "wheel.whl"], 1, WHEEL_BYTES)


def tree(root, count):
    """One directory with `count` files of 4 to 200 KiB in folders of a hundred."""
    chance = random.Random(1)
    top = Path(root) / "tree" / "tree"
    total = 0
    for number in range(count):
        folder = top / f"folder-{number // 100}"
        folder.mkdir(parents=True, exist_ok=True)
        size = chance.randint(4 * KIB, 200 * KIB)
        write_random(folder / f"file-{number}", size)
        total += size
    return Workload("tree", top.parent, [top], count, total)


def loose(root, count):
    """`count` files of 1 to 32 KiB, each a transfer of its own."""
    chance = random.Random(2)
    root = Path(root) / "loose"
    root.mkdir()
    total = 0
    for number in range(count):
        size = chance.randint(KIB, 32 * KIB)
        write_random(root / f"file-{number}", size)
        total += size
    return Workload("loose", root, sorted(root.iterdir()), count, total)
