# SPDX-License-Identifier: Apache-2.0
"""What is dropped into the spool comes out of the intake queue, over a link that damages datagrams."""

import os

import content
import pytest

LOSS = {"drop": "1%"}
EVERYTHING = {"drop": "1%", "burst_every": "1s", "burst_length": "2ms", "duplicate": "1%", "reorder": "1%",
              "corrupt": "0.5%", "seed": 7}


@pytest.mark.parametrize("damage", [None, LOSS, EVERYTHING], ids=["clean", "loss", "everything"])
def test_a_file_and_a_tree_arrive_bit_identical(pair, scratch, damage):
    tree = content.make_tree(scratch / "släkt tree", 300, awkward=True)
    file = content.write_file(scratch / "model-Ω.bin", (24 << 20) + 12345, mode=0o755)
    os.utime(file, ns=(0, 1234567890_987654321))
    expected = {path.name: content.facts(path) for path in (tree, file)}
    both = pair(damage=damage)
    both.sender.copy(tree, "trees")
    both.sender.copy(file, "default")
    public = both.sender.public
    both.receiver.wait_delivered(tree.name, "trees").check(expected[tree.name], public)
    both.receiver.wait_delivered(file.name, "default").check(expected[file.name], public)
    assert len(both.receiver.deliveries()) == 2


def test_the_smallest_transfers_arrive(pair, scratch):
    (scratch / "empty-file").touch()
    (scratch / "empty-directory").mkdir()
    (scratch / "one-byte").write_bytes(b"1")
    content.write_file(scratch / "one-chunk", 4 << 20)
    content.write_file(scratch / "one-chunk-and-a-byte", (4 << 20) + 1)
    names = ["empty-file", "empty-directory", "one-byte", "one-chunk", "one-chunk-and-a-byte"]
    expected = {name: content.facts(scratch / name) for name in names}
    both = pair(damage=LOSS)
    for name in names:
        both.sender.copy(scratch / name)
    for name in names:
        both.receiver.wait_delivered(name).check(expected[name], both.sender.public)


def test_a_file_directly_in_the_spool_is_of_channel_default(pair, scratch):
    both = pair()
    file = content.write_file(scratch / "loose.bin", 5000)
    os.rename(file, both.sender.spool / "loose.bin")
    delivery = both.receiver.wait_delivered("loose.bin", "default")
    assert delivery.item.stat().st_size == 5000


def test_long_names_are_cut_at_a_character_and_kept_in_the_manifest(pair, scratch):
    name = "ü" * 127  # 254 bytes
    (scratch / name).write_bytes(b"long")
    both = pair()
    both.sender.copy(scratch / name)
    (delivery,) = both.receiver.wait_count(1)
    assert delivery.name == "ü" * 100
    assert delivery.item.name == name
    assert delivery.manifest["name"] == name


def test_the_same_name_dropped_again_is_a_new_transfer(pair, scratch):
    both = pair()
    for number in (1, 2):
        content.write_file(scratch / "again", 3000, seed=number)
        both.sender.copy(scratch / "again")
        found = both.receiver.wait_count(number)
    assert [one.sequence for one in found] == [1, 2]
    assert found[0].item.read_bytes() != found[1].item.read_bytes()


def test_what_was_sent_is_kept_on_the_low_side_and_leaves_the_spool(pair, scratch):
    both = pair()
    file = content.write_file(scratch / "kept", 100_000)
    expected = file.read_bytes()
    both.sender.drop(file)
    both.receiver.wait_delivered("kept")
    both.sender.wait_sent(1)
    assert os.listdir(both.sender.spool / "default") == []
    (kept,) = (both.sender.spool / ".sent").glob("*/kept")
    assert kept.read_bytes() == expected


def test_symlinks_inside_cross_where_the_channel_allows_them(pair, scratch):
    tree = scratch / "linked"
    tree.mkdir()
    (tree / "file").write_bytes(b"target")
    (tree / "sub").mkdir()
    (tree / "link").symlink_to("file")
    (tree / "sub" / "up").symlink_to("../file")
    expected = content.facts(tree)
    both = pair(channels={"linked": {"symlinks": "inside"}})
    both.sender.copy(tree, "linked")
    both.receiver.wait_delivered("linked", "linked").check(expected, both.sender.public)


def test_several_lanes_carry_one_stream(scratch):
    import harness

    port = harness.free_port(3)
    sender = harness.Sender(scratch / "low", f"127.0.0.1:{port}", link={"lanes": 3})
    receiver = harness.Receiver(scratch / "high", f"127.0.0.1:{port}", [sender.public], link={"lanes": 3})
    receiver.start()
    sender.start()
    file = content.write_file(scratch / "wide", 20 << 20)
    expected = content.facts(file)
    sender.drop(file)
    receiver.wait_delivered("wide").check(expected, sender.public)


def test_with_a_link_key_a_transfer_arrives_and_without_it_nothing_is_read(pair, scratch):
    import harness

    key, other = scratch / "link.key", scratch / "other.key"
    harness.diodecast("keygen", "--link", key, check=0)
    harness.diodecast("keygen", "--link", other, check=0)
    file = content.write_file(scratch / "sealed", 3 << 20)
    expected = content.facts(file)
    both = pair(link={"key": key}, receiver={"link": {"key": other}}, damage=LOSS)
    both.sender.copy(file)
    both.sender.wait_sent(1)
    both.receiver.wait_status(lambda status: status["link"]["drops"]["tag"] > 100, "damaged tags counted")
    assert both.receiver.deliveries() == []
    both.receiver.stop()
    both.receiver.sections["link"]["key"] = key
    both.receiver.start()
    both.sender.copy(file, name="sealed again")
    both.receiver.wait_delivered("sealed again")
    assert content.facts(both.receiver.deliveries()[0].item)["sealed again"] == expected["sealed"]
