# SPDX-License-Identifier: Apache-2.0
"""Artifacts to send, and the comparison of what was sent with what was delivered."""

import hashlib
import os
import random
import stat
from pathlib import Path

PIECE = 1 << 20


def write_file(path, size, seed=0, mode=0o644):
    """A file of `size` bytes that no two pieces and no two seeds share; fast enough for gigabytes."""
    base = random.Random(f"{seed}/{size}").randbytes(min(size, PIECE))
    with open(path, "wb") as out:
        for number in range((size + PIECE - 1) // PIECE):
            length = min(PIECE, size - number * PIECE)
            turn = (number * 7919) % len(base)
            piece = bytearray(base[turn:] + base[:turn])
            piece[:8] = number.to_bytes(8, "little")[: min(8, len(piece))]
            out.write(piece[:length])
    os.chmod(path, mode)
    return Path(path)


def make_tree(root, files, largest=8192, seed=0, awkward=False):
    """
    A tree of `files` regular files of 0 to `largest` bytes in nested directories. `awkward` adds the names and modes
    that break careless programs.
    """
    root = Path(root)
    chance = random.Random(seed)
    root.mkdir()
    directories = [root]
    for number in range(max(1, files // 40)):
        parent = chance.choice(directories[-8:])
        if len(parent.parts) - len(root.parts) > 12:
            parent = root
        directory = parent / f"directory-{number}"
        directory.mkdir()
        directories.append(directory)
    blob = chance.randbytes(largest + 1)
    for number in range(files):
        size = 0 if number % 50 == 0 else chance.randint(0, largest)
        start = chance.randint(0, largest - size) if size < largest else 0
        path = chance.choice(directories) / f"file-{number}.bin"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o755 if number % 7 == 0 else 0o644)
        os.write(descriptor, number.to_bytes(8, "little")[: min(8, size)] + blob[start + 8 : start + size])
        os.close(descriptor)
    if awkward:
        _add_awkward_entries(root)
    return root


def _add_awkward_entries(root):
    (root / "empty directory").mkdir()
    (root / "empty directory" / "empty inside").mkdir()
    (root / "zero").touch()
    (root / "käse-Ω-日本語-🧀.txt").write_bytes(b"non-ASCII")
    (root / "back\\slash").write_bytes(b"escaped in SHA256SUMS")
    (root / "-dash first").write_bytes(b"-")
    (root / " leading and trailing ").write_bytes(b" ")
    (root / ("x" * 255)).write_bytes(b"a name of 255 bytes")
    (root / ("é" * 127)).write_bytes(b"254 bytes in two-byte characters")
    (root / "#hash;semicolon'quote\"").write_bytes(b"#")
    (root / ".hidden").write_bytes(b"hidden inside a tree is content")
    (root / "work.part").write_bytes(b"and so is this")
    script = root / "run.sh"
    script.write_bytes(b"#!/bin/sh\n")
    script.chmod(0o755)
    deep = root
    for number in range(40):
        deep = deep / f"level {number}"
    deep.mkdir(parents=True)
    (deep / "bottom").write_bytes(b"deep")
    os.utime(root / "zero", ns=(0, 981173106_123456789))
    os.utime(root / "empty directory", ns=(0, 86400_000000001))


def sha256_of(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()


def facts(path):
    """What must survive the crossing of `path`: {relative path: (kind, size, sha256, x bit, mtime)}."""
    path = Path(path)
    found = {}

    def add(entry, relative):
        info = entry.lstat()
        if stat.S_ISREG(info.st_mode):
            found[relative] = ("file", info.st_size, sha256_of(entry), bool(info.st_mode & 0o100), info.st_mtime_ns)
        elif stat.S_ISDIR(info.st_mode):
            found[relative] = ("directory", info.st_mtime_ns)
            for child in os.listdir(entry):
                add(entry / child, f"{relative}/{child}")
        elif stat.S_ISLNK(info.st_mode):
            found[relative] = ("symlink", os.readlink(entry))
        else:
            found[relative] = ("other", info.st_mode)

    add(path, path.name)
    return found


def differences(expected, actual):
    """Readable, and bounded: the first few entries that differ between two results of facts()."""
    lines = []
    for name in sorted(set(expected) | set(actual)):
        if expected.get(name) != actual.get(name):
            lines.append(f"{name[-80:]!r}: sent {expected.get(name)} delivered {actual.get(name)}")
    return lines[:10]
