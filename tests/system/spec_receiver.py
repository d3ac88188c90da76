# SPDX-License-Identifier: Apache-2.0
"""
A receiver written from proto/README.md alone, without any of the project's code: it turns recorded datagrams into
transfers. Slow and simple on purpose.
"""

import base64
import hashlib
import struct
from dataclasses import dataclass, field

import xxhash
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

HEADER_SIZE = 80
CHUNK = 4 << 20
ANNOUNCE, DATA, MANIFEST, ABORT, HEARTBEAT = 1, 2, 3, 4, 5


class Violation(Exception):
    """The recording breaks the specification."""


def rule(holds, text):
    if not holds:
        raise Violation(text)


# Datagrams


def plain_tag(header, symbol):
    covered = header + struct.pack("<Q", xxhash.xxh3_64_intdigest(symbol))
    return xxhash.xxh3_128_intdigest(covered).to_bytes(16, "little")


def block_hash(payload, size):
    symbols = [payload[at : at + size] for at in range(0, len(payload), size)]
    return sum((2 * esi + 1) * xxhash.xxh3_64_intdigest(symbol) for esi, symbol in enumerate(symbols)) % (1 << 64)


class Datagram:
    def __init__(self, bytes_):
        rule(len(bytes_) >= HEADER_SIZE + 64, "a datagram has a header and a symbol")
        (version, self.flags, self.lane, self.k, self.r, self.esi, size, self.sender_id, self.depth, self.group_index,
         self.epoch, self.salt, self.sequence, self.sbn, self.repeat_of, self.block_hash,
         tag) = struct.unpack_from("<BBBBBBHIHHQQQQQQ16s", bytes_)
        self.symbol = bytes_[HEADER_SIZE:]
        rule(version == 1, "version 1")
        rule(self.flags & 0x0F == 0, "no unknown critical flag")
        rule(1 <= self.k <= 200 and 4 <= self.r <= 55 and self.esi < self.k + self.r, "k, r, esi")
        rule(size == len(self.symbol) and size % 16 == 0 and 64 <= size <= 9216, "symbol size")
        rule(1 <= self.depth <= 4096 and self.group_index < self.depth and self.sbn >= self.group_index, "group")
        rule(tag == plain_tag(bytes_[:64], self.symbol), "tag")
        self.epoch_counter = self.epoch >> 32


# FEC: GF(2^8) with polynomial 0x11D; parity row i, column j is 1 / ((k + i) xor j)

_EXP, _LOG = [0] * 510, [0] * 256
_value = 1
for _power in range(255):
    _EXP[_power] = _EXP[_power + 255] = _value
    _LOG[_value] = _power
    _value = (_value << 1) ^ (0x11D if _value & 0x80 else 0)


def multiply(a, b):
    return _EXP[_LOG[a] + _LOG[b]] if a and b else 0


def inverse(a):
    return _EXP[255 - _LOG[a]]


_ROWS = [bytes(multiply(factor, byte) for byte in range(256)) for factor in range(256)]


def scaled(symbol, factor):
    return int.from_bytes(symbol.translate(_ROWS[factor]), "little")


def decode(k, symbols):
    """The k source symbols from any k symbols ({esi: bytes}), by solving for the missing ones only."""
    missing = [esi for esi in range(k) if esi not in symbols]
    size = len(next(iter(symbols.values())))
    rows = []
    for esi in sorted(esi for esi in symbols if esi >= k)[: len(missing)]:
        right = int.from_bytes(symbols[esi], "little")
        for column in range(k):
            if column in symbols:
                right ^= scaled(symbols[column], inverse(esi ^ column))
        rows.append(([inverse(esi ^ column) for column in missing], right.to_bytes(size, "little")))
    rule(len(rows) == len(missing), "enough symbols")
    for step in range(len(missing)):
        pivot = next(row for row in range(step, len(rows)) if rows[row][0][step])
        rows[step], rows[pivot] = rows[pivot], rows[step]
        factor = inverse(rows[step][0][step])
        rows[step] = ([multiply(factor, one) for one in rows[step][0]], rows[step][1].translate(_ROWS[factor]))
        for row, (left, right) in enumerate(rows):
            if row != step and left[step]:
                factor = left[step]
                left = [a ^ multiply(factor, b) for a, b in zip(left, rows[step][0])]
                total = int.from_bytes(right, "little") ^ scaled(rows[step][1], factor)
                rows[row] = (left, total.to_bytes(size, "little"))
    found = dict(zip(missing, (right for _, right in rows)))
    return b"".join(symbols.get(esi) or found[esi] for esi in range(k))


# Frames


def frames(payload):
    position = 0
    while position < len(payload) and payload[position] != 0:
        rule(position + 8 <= len(payload), "a frame header")
        kind, flags, zero, length = struct.unpack_from("<BBHI", payload, position)
        rule(zero == 0 and position + 8 + length <= len(payload), "a frame inside its payload")
        yield kind, flags, payload[position + 8 : position + 8 + length]
        position += 8 + length
    rule(not any(payload[position:]), "padding is zero")


# protobuf, as far as diodecast.proto needs it


def varint(bytes_, position):
    value = shift = 0
    while True:
        byte = bytes_[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, position


def message(bytes_):
    """{field number: [values]}: integers for varints, bytes for the rest."""
    fields, position = {}, 0
    while position < len(bytes_):
        key, position = varint(bytes_, position)
        if key & 7 == 0:
            value, position = varint(bytes_, position)
        elif key & 7 == 2:
            length, position = varint(bytes_, position)
            value, position = bytes_[position : position + length], position + length
            rule(len(value) == length, "a field inside its message")
        else:
            raise Violation(f"wire type {key & 7}")
        fields.setdefault(key >> 3, []).append(value)
    return fields


def one(fields, number, default=b""):
    return fields.get(number, [default])[-1]


def signed_integer(value):
    return (value >> 1) ^ -(value & 1)


class PublicKey:
    """A minisign public key file."""

    def __init__(self, path):
        raw = base64.b64decode(open(path, encoding="ascii").read().splitlines()[1])
        rule(raw[:2] == b"Ed" and len(raw) == 42, "a minisign key")
        self.key_id, self.key = raw[2:10], Ed25519PublicKey.from_public_bytes(raw[10:])
        (self.sender_id,) = struct.unpack_from("<I", self.key_id)

    def open(self, bytes_, context):
        """The fields of the body of a Signed message, after both of its signatures were checked."""
        envelope = message(bytes_)
        body, signature = one(envelope, 1), one(envelope, 2)
        rule(len(signature) == 74 and signature[:10] == b"ED" + self.key_id, "a signature by the sender")
        try:
            self.key.verify(signature[10:], hashlib.blake2b(body).digest())
            if 4 in envelope:
                self.key.verify(one(envelope, 4), signature[10:] + one(envelope, 3))
        except InvalidSignature as error:
            raise Violation(f"signature of {context}") from error
        fields = message(body)
        rule(one(fields, 1).decode() == context, context)
        return fields, body


@dataclass
class Transfer:
    data: dict = field(default_factory=dict)  # artifact index: {offset: bytes}
    sizes: dict = field(default_factory=dict)
    parts: dict = field(default_factory=dict)  # offset: bytes
    manifest_total: int = 0
    announce: dict = None
    watermarks: dict = field(default_factory=dict)


class SpecReceiver:
    def __init__(self, public):
        self.public = PublicKey(public)
        self.blocks = {}
        self.hashes = {}
        self.transfers = {}
        self.heartbeats = []
        self.sequences = {}
        self.decoded = 0
        self.announces = 0

    def push(self, bytes_):
        datagram = Datagram(bytes_)
        rule(datagram.sender_id == self.public.sender_id, "sender id is of the signing key")
        numbers = self.sequences.setdefault((datagram.epoch, datagram.lane), set())
        rule(datagram.sequence not in numbers, "a datagram sequence number is used once")
        numbers.add(datagram.sequence)
        name = datagram.epoch, datagram.lane, datagram.sbn
        geometry = datagram.k, datagram.r, len(datagram.symbol), datagram.depth, datagram.block_hash
        rule(self.hashes.setdefault(name, geometry) == geometry, "all datagrams of a block agree")
        symbols = self.blocks.setdefault(name, {})
        if symbols is None:
            return
        symbols[datagram.esi] = datagram.symbol
        if len(symbols) == datagram.k:
            payload = decode(datagram.k, symbols)
            rule(block_hash(payload, len(datagram.symbol)) == datagram.block_hash, "block hash")
            self.blocks[name] = None
            self.decoded += 1
            self.unpack(payload, datagram)

    def unpack(self, payload, datagram):
        for kind, flags, body in frames(payload):
            if kind == HEARTBEAT:
                fields, _ = self.public.open(body, "diodecast heartbeat 1")
                rule(one(fields, 2, 0) == self.public.sender_id and one(fields, 4, 0) == datagram.epoch, "heartbeat")
                self.heartbeats.append(fields)
                continue
            rule(flags & 2, "frames of a transfer begin with its id")
            transfer = self.transfers.setdefault(body[:16], Transfer())
            if kind == ANNOUNCE:
                transfer.announce, _ = self.public.open(body[16:], "diodecast announce 1")
                rule(one(transfer.announce, 2) == body[:16], "the announce names its transfer")
                self.announces += 1
                for also in map(message, transfer.announce.get(8, [])):
                    self.transfers.setdefault(one(also, 1), Transfer()).announce = {
                        number + 1: values for number, values in also.items()}
            elif kind == DATA:
                index, zero, size, offset = struct.unpack_from("<IIQQ", body, 16)
                bytes_ = body[40:]
                rule(zero == 0 and bytes_ and offset + len(bytes_) <= size, "DATA")
                rule(offset // CHUNK == (offset + len(bytes_) - 1) // CHUNK, "DATA crosses no chunk boundary")
                rule(transfer.sizes.setdefault(index, size) == size, "DATA agrees about the size")
                transfer.data.setdefault(index, {})[offset] = bytes_
            elif kind == MANIFEST:
                total, offset, lanes, _, zero = struct.unpack_from("<IIHHI", body, 16)
                rule(zero == 0, "MANIFEST")
                transfer.manifest_total = total
                transfer.watermarks = dict(enumerate(struct.unpack_from(f"<{lanes}Q", body, 32)))
                transfer.parts[offset] = body[32 + 8 * lanes :]

    def finish(self, id_):
        """(manifest fields, body, {path: (kind, bytes or None, executable, mtime)}) of a complete transfer."""
        transfer = self.transfers[id_]
        envelope = join(transfer.parts, transfer.manifest_total)
        manifest, body = self.public.open(envelope, "diodecast manifest 1")
        rule(one(manifest, 6) == id_, "the manifest names its transfer")
        statement = message(one(manifest, 12))
        rule(one(statement, 1) == b"diodecast statement 1", "statement")
        hashes, used, index, found = one(manifest, 13), 0, 0, {}
        entries = [message(entry) for entry in statement.get(5, [])]
        names = [one(entry, 1).replace(b"/", b"\0") for entry in entries]
        rule(all(first < second for first, second in zip(names, names[1:])), "entries in rising order")
        rule(names[0] == one(statement, 3), "the first entry is the item")
        for entry in entries:
            path, kind, size = one(entry, 1).decode(), one(entry, 2, 0), one(entry, 3, 0)
            content = None
            if kind == 1:
                content = join(transfer.data.get(index, {}), size)
                rule(hashlib.sha256(content).digest() == one(entry, 6), f"SHA-256 of {path}")
                if size > CHUNK:
                    for start in range(0, size, CHUNK):
                        value = xxhash.xxh3_128_intdigest(content[start : start + CHUNK])
                        rule(hashes[used : used + 16] == chunk_hash(value), "chunk hash")
                        used += 16
                index += 1
            found[path] = kind, content, bool(one(entry, 4, 0)), signed_integer(one(entry, 5, 0))
        rule(used == len(hashes) and index == one(manifest, 10, 0), "every chunk hash and artifact is used")
        return manifest, body, found


def chunk_hash(value):
    return value.to_bytes(16, "little")


def join(parts, total):
    joined, position = [], 0
    for offset in sorted(parts):
        rule(offset <= position, f"nothing missing at {position}")
        joined.append(parts[offset][position - offset :])
        position = max(position, offset + len(parts[offset]))
    rule(position == total, f"{position} of {total} bytes")
    return b"".join(joined)
