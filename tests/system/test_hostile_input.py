# SPDX-License-Identifier: Apache-2.0
"""Bad input on the high side: any datagram whatsoever is counted and dropped, and harms nothing."""

import random
import socket
import struct

import content
import harness
import pytest
import relay
import spec_receiver as spec


class Attacker:
    """Sends what it likes to the receiver; every so often it waits until the receiver has counted what came."""

    def __init__(self, receiver, port):
        self.receiver = receiver
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.peer = ("127.0.0.1", port)
        self.sent = 0
        self.before = self.seen(receiver.status())

    @staticmethod
    def seen(status):
        return status["link"]["datagrams_total"] + sum(status["link"]["drops"].values())

    def send(self, datagrams):
        for bytes_ in datagrams:
            self.socket.sendto(bytes_, self.peer)
            self.sent += 1
            if self.sent % 500 == 0:
                self.settle()
        self.settle()

    def settle(self):
        # Whether a dropped datagram also counts in datagrams_total does not matter here.
        self.receiver.wait_status(lambda status: self.seen(status) - self.before >= self.sent * 0.9,
                                  "the attack counted")


def drops(status):
    return status["link"]["drops"]


@pytest.fixture
def captured(pair, scratch):
    """A pair that is idle after one transfer, and the datagrams of that transfer."""
    both = pair(relay=lambda port: relay.Relay(port, capture=True))
    both.sender.drop(content.write_file(scratch / "real", 300_000))
    both.receiver.wait_delivered("real")
    both.sender.wait_sent(1)
    both.sender.stop()
    return both, list(both.relay.captured)


def assert_unharmed(both, scratch, memory_before):
    assert [one.name for one in both.receiver.deliveries()] == ["real"]
    after = both.receiver.program.peak_memory_kib()
    assert after <= memory_before * 1.1 + 1024, f"{memory_before} KiB before, {after} KiB after"
    before = both.receiver.newest_epoch()
    both.sender.start()
    # Without a link key forged epochs can hold up a new run of the sender for a while, but not for good.
    both.receiver.wait_heard(after=before)
    file = content.write_file(scratch / "afterwards", 200_000)
    expected = content.facts(file)
    both.sender.drop(file)
    both.receiver.wait_delivered("afterwards").check(expected, both.sender.public)


def test_random_bytes_of_any_length_are_dropped(captured, scratch):
    both, _ = captured
    chance = random.Random(11)
    memory = both.receiver.program.peak_memory_kib()
    lengths = [*range(1, 200), 1472, 9000, 65507, *(chance.randint(1, 9300) for _ in range(2000))]
    attacker = Attacker(both.receiver, both.port)
    attacker.send(chance.randbytes(length) for length in lengths)
    status = both.receiver.wait_status(lambda status: sum(drops(status).values()) >= len(lengths) * 0.9, "the drops")
    assert drops(status)["short"] > 50
    assert drops(status)["version"] > 50
    assert_unharmed(both, scratch, memory)


def test_every_truncation_and_every_flipped_header_bit_is_dropped(captured, scratch):
    both, datagrams = captured
    memory = both.receiver.program.peak_memory_kib()
    whole = max(datagrams, key=len)
    harmed = [whole[:length] for length in range(len(whole))]
    for bit in range(8 * spec.HEADER_SIZE):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        harmed.append(bytes(flipped))
    harmed += [whole + b"x", whole + bytes(1000)]
    Attacker(both.receiver, both.port).send(harmed[1:])
    both.receiver.wait_status(lambda status: drops(status)["short"] > 1000 and drops(status)["tag"] > 100, "the drops")
    assert_unharmed(both, scratch, memory)


def test_what_was_delivered_is_not_delivered_again_by_a_recording(captured, scratch):
    both, datagrams = captured
    memory = both.receiver.program.peak_memory_kib()
    Attacker(both.receiver, both.port).send(datagrams * 3)
    assert_unharmed(both, scratch, memory)


def resealed(bytes_, **fields):
    """The datagram with header fields changed and the tag made anew: no key is needed for that without a link key."""
    offsets = {"k": ("<B", 3), "r": ("<B", 4), "esi": ("<B", 5), "symbol_size": ("<H", 6), "sender_id": ("<I", 8),
               "depth": ("<H", 12), "group_index": ("<H", 14), "epoch": ("<Q", 16), "sequence": ("<Q", 32),
               "sbn": ("<Q", 40), "repeat_of": ("<Q", 48), "block_hash": ("<Q", 56)}
    changed = bytearray(bytes_)
    for name, value in fields.items():
        form, offset = offsets[name]
        struct.pack_into(form, changed, offset, value)
    changed[64:80] = spec.plain_tag(bytes(changed[:64]), bytes(changed[80:]))
    return bytes(changed)


def test_absurd_and_contradicting_geometry_is_dropped(captured, scratch):
    both, datagrams = captured
    memory = both.receiver.program.peak_memory_kib()
    chance = random.Random(12)
    template = max(datagrams, key=len)
    size = len(template) - spec.HEADER_SIZE
    epoch = struct.unpack_from("<Q", template, 16)[0] + (1 << 32)  # newer than the real one, never confirmed
    harmed = []
    for number in range(3000):
        harmed.append(resealed(
            template, k=chance.choice([0, 1, 128, 200, 201, 255]), r=chance.choice([0, 3, 4, 55, 56]),
            esi=chance.randint(0, 255), symbol_size=chance.choice([size, 0, 63, 64, 65535]),
            depth=chance.choice([0, 1, 8, 4096, 4097, 65535]), group_index=chance.randint(0, 9000),
            sbn=chance.choice([0, 1, number, 2**64 - 1, chance.getrandbits(64)]),
            epoch=chance.choice([epoch, 0, 2**64 - 1]), sequence=chance.getrandbits(64),
            block_hash=chance.getrandbits(64)))
    for number in range(3000):  # legal one by one, contradicting each other
        k = chance.randint(1, 200)
        harmed.append(resealed(template, k=k, r=min(55, 255 - k), esi=chance.randint(0, k), depth=chance.randint(1, 64),
                               group_index=0, sbn=number // 30, epoch=epoch, sequence=number + 1))
    Attacker(both.receiver, both.port).send(harmed)
    both.receiver.wait_status(lambda status: drops(status)["geometry"] > 500, "absurd geometry counted")
    assert_unharmed(both, scratch, memory)


def test_manifests_that_an_unknown_key_has_signed_deliver_nothing(captured, scratch):
    """A stranger's whole transfer, relabelled with the trusted sender's id."""
    both, datagrams = captured
    memory = both.receiver.program.peak_memory_kib()
    stranger_relay = relay.Relay(harness.free_port(), capture=True)
    stranger_relay.start()
    stranger = harness.Sender(scratch / "stranger", f"127.0.0.1:{stranger_relay.port}").start()
    stranger.drop(content.write_file(scratch / "forged", 100_000))
    stranger.wait_sent(1)
    stranger.stop()
    stranger_relay.stop()
    (trusted_id,) = struct.unpack_from("<I", datagrams[0], 8)
    forged = [resealed(one, sender_id=trusted_id) for one in stranger_relay.captured]
    assert len(forged) > 70
    Attacker(both.receiver, both.port).send(forged)
    assert [one.name for one in both.receiver.deliveries()] == ["real"]
    assert_unharmed(both, scratch, memory)


def block_datagrams(template, payload, sbn, **fields):
    """One block whose payload the attacker chose, as source symbols with a good hash and good tags."""
    size = 1024
    k = max(1, (len(payload) + size - 1) // size)
    payload = payload.ljust(k * size, b"\0")
    return [resealed(template[:80] + payload[esi * size : (esi + 1) * size], k=k, r=4, esi=esi, symbol_size=size,
                     depth=1, group_index=0, sbn=sbn, sequence=sbn * 256 + esi + 1,
                     block_hash=spec.block_hash(payload, size), **fields)
            for esi in range(k)]


def frame(kind, flags, body, length=None):
    return struct.pack("<BBHI", kind, flags, 0, len(body) if length is None else length) + body


def data_frame(id_, artifact, size, offset, bytes_, **options):
    return frame(2, 3, id_ + struct.pack("<IIQQ", artifact, 0, size, offset) + bytes_, **options)


def test_hostile_frames_write_nothing_outside_staging_and_deliver_nothing(captured, scratch):
    both, datagrams = captured
    memory = both.receiver.program.peak_memory_kib()
    chance = random.Random(13)
    template = datagrams[0]
    epoch = struct.unpack_from("<Q", template, 16)[0] + (1 << 32)
    top = 2**64 - 1
    payloads = []
    for number in range(40):
        id_ = chance.randbytes(16)
        payloads += [
            data_frame(id_, 0, 10, 5, b"beyond the end"),
            data_frame(id_, 0, top, top - 3, b"overflow"),
            data_frame(id_, 0, 1 << 50, 1 << 49, b"larger than any artifact"),
            data_frame(id_, 2**32 - 1, 100, 0, b"an index beyond all"),
            data_frame(id_, 0, 100, 0, b""),
            data_frame(id_, 0, 8 << 20, (4 << 20) - 3, b"crosses a chunk"),
            data_frame(id_, 0, 100, 0, b"shorter than told", length=2**32 - 1),
            frame(3, 3, id_ + struct.pack("<IIHHI", top & 0xFFFFFFFF, 0, 1, 0, 0) + bytes(8) + b"part"),
            frame(3, 3, id_ + struct.pack("<IIHHI", 100, 99, 1, 0, 0) + bytes(8) + b"beyond"),
            frame(3, 3, id_ + struct.pack("<IIHHI", 100, 0, 65535, 0, 0) + b"too few watermarks"),
            frame(1, 3, id_ + b"no announce"),
            frame(4, 3, id_ + b"no abort"),
            frame(5, 0, b"no heartbeat"),
            frame(99, 1, b"unknown and critical"),
            frame(98, 0, b"unknown"),
            frame(97, 3, id_ + b"unknown and critical to its transfer"),
            frame(2, 3, b"short"),
            chance.randbytes(900),
        ]
    attack = [one for number, payload in enumerate(payloads)
              for one in block_datagrams(template, payload, number, epoch=epoch)]
    Attacker(both.receiver, both.port).send(attack)
    assert not any(path.name == "bad" for path in scratch.rglob("bad"))
    assert sorted(path.name for path in both.receiver.intake.iterdir() if not path.name.startswith(".")) == ["default"]
    assert_unharmed(both, scratch, memory)


def test_unannounced_transfers_share_a_small_quota(captured, scratch):
    """Data of ever new transfers, none of which anybody signed, can't fill the disk."""
    both, datagrams = captured
    memory = both.receiver.program.peak_memory_kib()
    chance = random.Random(14)
    epoch = struct.unpack_from("<Q", datagrams[0], 16)[0] + (1 << 32)
    attack = []
    for number in range(4000):
        payload = data_frame(chance.randbytes(16), 0, 1 << 40, number << 30, chance.randbytes(900))
        attack += block_datagrams(datagrams[0], payload, number, epoch=epoch)
    Attacker(both.receiver, both.port).send(attack)
    staged = list((both.receiver.intake / ".staging").iterdir())
    assert len(staged) < 2000
    assert_unharmed(both, scratch, memory)
