# SPDX-License-Identifier: Apache-2.0
"""proto/README.md is enough: a receiver written from it alone reads what the sender sends."""

import base64
import hashlib
import random
import re
import struct
from pathlib import Path

import content
import pytest
import relay
import spec_receiver as spec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """Two transfers, as datagrams, and what they were."""
    import harness

    scratch = tmp_path_factory.mktemp("recording")
    both = harness.Pair(scratch, relay=lambda port: relay.Relay(port, capture=True), link={"rate": "200Mbit/s"})
    both.start()
    both.receiver.wait_heard()
    both.sender.drop(content.write_file(scratch / "file-ü.bin", (9 << 20) + 77))
    both.receiver.wait_delivered("file-ü.bin")
    both.sender.drop(content.make_tree(scratch / "tree", 200, awkward=True), "trees")
    both.receiver.wait_delivered("tree", "trees")
    both.sender.wait_sent(2)
    both.sender.stop()
    both.receiver.stop()
    both.relay.stop()
    return both, list(both.relay.captured)


def receive(both, datagrams):
    receiver = spec.SpecReceiver(both.sender.public)
    for bytes_ in datagrams:
        receiver.push(bytes_)
    return receiver


def assert_as_delivered(both, receiver):
    found = {}
    for id_ in receiver.transfers:
        manifest, body, entries = receiver.finish(id_)
        found[spec.one(manifest, 3, 0)] = manifest, body, entries
    deliveries = {one.sequence: one for one in both.receiver.deliveries()}
    assert sorted(found) == sorted(deliveries) == [1, 2]
    for sequence, delivery in deliveries.items():
        manifest, body, entries = found[sequence]
        assert (delivery.path / "manifest.pb").read_bytes() == body
        actual = content.facts(delivery.item)
        expected = {}
        for path, (kind, bytes_, executable, mtime_ns) in entries.items():
            if kind == 1:
                expected[path] = ("file", len(bytes_), hashlib.sha256(bytes_).hexdigest(), executable, mtime_ns)
            else:
                expected[path] = ("directory", mtime_ns)
        assert actual == expected, content.differences(expected, actual)
    first, second = found[1], found[2]
    assert spec.one(first[0], 4) == bytes(32)
    assert spec.one(second[0], 4) == hashlib.sha256(first[1]).digest(), "the chain"
    assert spec.one(first[0], 2) == spec.one(second[0], 2) != bytes(16)
    assert delivery.sender_id == f"{receiver.public.sender_id:08x}"


def test_a_receiver_written_from_the_specification_reads_the_stream(recording):
    both, datagrams = recording
    receiver = receive(both, datagrams)
    assert_as_delivered(both, receiver)
    assert len(receiver.heartbeats) >= 2
    for id_ in receiver.transfers:
        assert_announced(receiver, id_)


def assert_announced(receiver, id_):
    announce, (manifest, _, _) = receiver.transfers[id_].announce, receiver.finish(id_)
    statement = spec.message(spec.one(manifest, 12))
    told = [spec.one(announce, number) for number in (2, 3, 4)] + [spec.one(announce, number, 0) for number in (5, 6)]
    assert told == [id_, spec.one(statement, 2), spec.one(statement, 3), spec.one(manifest, 9, 0), spec.one(manifest, 10, 0)]


def test_small_files_in_a_row_share_announces(scratch):
    """Those that are ready at once: here, because they wait behind a large one."""
    import harness

    count = 30
    both = harness.Pair(scratch, relay=lambda port: relay.Relay(port, capture=True), link={"rate": "20Mbit/s"})
    both.start()
    both.receiver.wait_heard()
    both.sender.drop(content.write_file(scratch / "large", 12 << 20))
    both.sender.wait_status(lambda status: any(one["bytes_sent"] > 0 for one in status["sending"]), "the large file")
    for number in range(count):
        both.sender.drop(content.write_file(scratch / f"file-{number}", 100 + number))
    both.sender.wait_status(lambda status: len(status["sending"]) == 1 + count, "the small files, while the large one is sent")
    for number in range(count):
        both.receiver.wait_delivered(f"file-{number}")
    both.sender.stop()
    both.relay.stop()
    receiver = receive(both, list(both.relay.captured))
    assert len(receiver.transfers) == 1 + count
    for id_ in receiver.transfers:
        assert_announced(receiver, id_)
    assert receiver.announces < count / 2


def test_its_own_arithmetic_repairs_what_is_lost(recording):
    both, datagrams = recording
    chance = random.Random(3)
    kept = [bytes_ for bytes_ in datagrams if chance.random() > 0.02]
    assert len(kept) < len(datagrams)
    receiver = receive(both, kept)
    assert_as_delivered(both, receiver)


def test_order_and_duplicates_do_not_matter(recording):
    both, datagrams = recording
    shuffled = list(datagrams)
    random.Random(4).shuffle(shuffled)
    assert_as_delivered(both, receive(both, shuffled))


def test_the_manifest_comes_after_its_data_in_several_copies_in_different_groups(recording):
    both, datagrams = recording
    receiver = spec.SpecReceiver(both.sender.public)
    groups, passed = {}, {}

    def watch(payload, datagram):
        for kind, _, body in spec.frames(payload):
            if kind == spec.MANIFEST:
                groups.setdefault(body[:16], set()).add(datagram.sbn - datagram.group_index)
            elif kind == spec.DATA:
                passed[body[:16]] = max(passed.get(body[:16], 0), datagram.sbn)
        spec.SpecReceiver.unpack(receiver, payload, datagram)

    receiver.unpack = watch
    for bytes_ in datagrams:
        receiver.push(bytes_)
    for id_, transfer in receiver.transfers.items():
        assert len(groups[id_]) >= 3
        assert transfer.watermarks[0] > passed[id_]


def test_heartbeats_count_and_name_the_newest_manifest(recording):
    both, datagrams = recording
    receiver = receive(both, datagrams)
    beats = [spec.one(fields, 5, 0) for fields in receiver.heartbeats]
    assert sorted(beats) == list(range(beats[0], beats[0] + len(beats)))
    last = max(receiver.heartbeats, key=lambda fields: spec.one(fields, 5, 0))
    assert spec.one(last, 7, 0) == 2
    deliveries = {one.sequence: one for one in both.receiver.deliveries()}
    newest = hashlib.sha256((deliveries[2].path / "manifest.pb").read_bytes()).digest()
    assert spec.one(last, 8) == newest


def test_the_first_heartbeat_of_a_run_names_what_will_be_repeated(scratch):
    import harness

    both = harness.Pair(scratch, relay=lambda port: relay.Relay(port, capture=True), replay={"idle_resend": "on"})
    both.start()
    both.sender.drop(content.write_file(scratch / "file", 1000))
    both.receiver.wait_delivered("file")
    both.sender.wait_sent(1)
    both.sender.stop()
    first = both.receiver.status()["senders"][0]["epoch"]
    both.sender.start()
    both.receiver.wait_status(lambda status: status["senders"][0]["epoch"] != first, "the second run")
    both.sender.stop()
    both.relay.stop()
    beats = [fields for fields in receive(both, list(both.relay.captured)).heartbeats if spec.one(fields, 4) != first]
    begin = min(beats, key=lambda fields: spec.one(fields, 5, 0))
    assert spec.one(begin, 5, 0) == 1
    ranges = [spec.message(entry) for entry in begin.get(11, [])]
    assert [(spec.one(entry, 1), spec.one(entry, 2)) for entry in ranges] == [(1, 1)]


def test_a_changed_byte_anywhere_is_seen(recording):
    both, datagrams = recording
    chance = random.Random(5)
    for _ in range(300):
        bytes_ = bytearray(chance.choice(datagrams))
        bytes_[chance.randrange(len(bytes_))] ^= 1 << chance.randrange(8)
        with pytest.raises(spec.Violation):
            spec.Datagram(bytes(bytes_))


def worked_example():
    """{title: bytes} of the hex dumps in proto/README.md."""
    text = (Path(__file__).resolve().parents[2] / "proto" / "README.md").read_text()
    found = {}
    for title, dump in re.findall(r"^\*\*([^*\n]+)\*\*\n\n```\n(.*?)```", text, re.MULTILINE | re.DOTALL):
        found[title] = b"".join(bytes.fromhex(line[6:]) for line in dump.splitlines())
    return found


def test_the_worked_example_of_the_specification_says_what_its_text_says(tmp_path):
    example = worked_example()
    payload, repair = example["block payload"], example["repair symbols"]
    source = [payload[:64], payload[64:]]
    symbols = dict(enumerate(source + [repair[start : start + 64] for start in range(0, len(repair), 64)]))
    for first in range(6):
        for second in range(first):
            assert spec.decode(2, {esi: symbols[esi] for esi in (first, second)}) == payload
    for esi in (0, 2):
        datagram = spec.Datagram(example[f"datagram ESI {esi}, plain"])
        assert (datagram.k, datagram.r, datagram.esi, datagram.sbn, datagram.depth) == (2, 4, esi, 7, 1)
        assert datagram.symbol == symbols[esi]
        assert datagram.block_hash == spec.block_hash(payload, 64)
    ((kind, flags, body),) = spec.frames(payload)
    assert (kind, flags, body[:16], body[40:]) == (2, 3, bytes(range(0xA0, 0xB0)), b"hello, high side\n")
    key = example["signing key: key id, public key"]
    public = tmp_path / "example.pub"
    public.write_text("untrusted comment: example\n" + base64.b64encode(b"Ed" + key).decode() + "\n")
    opener = spec.PublicKey(public)
    manifest, body = opener.open(example["manifest, signed"], "diodecast manifest 1")
    assert body == example["manifest body"]
    ((kind, _, beat),) = spec.frames(example["heartbeat frame"])
    heartbeat, beat_body = opener.open(beat, "diodecast heartbeat 1")
    assert kind == 5 and beat_body == example["heartbeat body"]
    assert spec.one(heartbeat, 8) == hashlib.sha256(body).digest()
    assert spec.one(manifest, 3) == 1
    sealed = example["datagram ESI 0, sealed"]
    info = b"diodecast link 1" + struct.pack("<IQB", opener.sender_id, 0x112345678, 0)
    secret = HKDF(hashes.SHA256(), 32, sealed[24:32], info).derive(bytes(range(0x20, 0x40)))
    opened = AESGCM(secret).decrypt(bytes(4) + sealed[32:40], sealed[80:] + sealed[64:80], sealed[:64])
    assert opened == source[0]
