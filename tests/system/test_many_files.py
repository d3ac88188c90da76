# SPDX-License-Identifier: Apache-2.0
"""Many small files, and items that grow in the spool before they are complete."""

import os
import threading

import content
import harness

FILES = 50_000 if os.environ.get("DIODECAST_LONG") else 15_000


def test_a_tree_of_many_small_files_is_one_transfer(fast_pair, fast_scratch):
    tree = content.make_tree(fast_scratch / "many", FILES)
    expected = content.facts(tree)
    both = fast_pair(damage={"drop": "1%"}, link={"rate": "500Mbit/s"})
    both.sender.drop(tree)
    delivery = both.receiver.wait_delivered("many", timeout=180)
    delivery.check(expected, both.sender.public)
    assert len(both.receiver.deliveries()) == 1


def test_two_thousand_loose_files_dropped_at_once_are_all_delivered(fast_pair, fast_scratch):
    count = 2000
    both = fast_pair(damage={"drop": "1%"}, link={"rate": "500Mbit/s"})
    channel = both.sender.channel("loose")
    hidden = fast_scratch / "prepared"
    hidden.mkdir()
    for number in range(count):
        content.write_file(hidden / f"item-{number}", number * 3, seed=number)
    expected = {name: content.sha256_of(hidden / name) for name in os.listdir(hidden)}
    for name in expected:
        os.rename(hidden / name, channel / name)
    found = both.receiver.wait_count(count, "loose", timeout=180)
    assert {one.name: content.sha256_of(one.item) for one in found} == expected
    assert sorted(one.sequence for one in found) == list(range(1, count + 1))
    harness.run(["minisign", "-Vm", found[0].path / "manifest.pb", "-p", both.sender.public], check=0)


def test_a_tree_copied_in_place_with_stalls_is_delivered_once_and_whole(pair, scratch):
    settle, stall = (30, 5) if os.environ.get("DIODECAST_LONG") else (3, 2)
    source = content.make_tree(scratch / "grown", 5)
    paths = sorted(path for path in source.rglob("*") if path.is_file())
    both = pair(sender={"settle_tree": f"{settle:g}s"})
    destination = both.sender.channel("trees") / "grown"

    def copy():
        pause = threading.Event()
        for path in paths:
            target = destination / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
            pause.wait(stall)  # the operator's slow copy is what is tested
    copying = threading.Thread(target=copy)
    copying.start()
    delivery = both.receiver.wait_delivered("grown", "trees", timeout=(len(paths) + 3) * stall + settle + 30)
    assert not copying.is_alive()
    expected = {name: fact[:3] for name, fact in content.facts(source).items() if fact[0] == "file"}
    actual = {name: fact[:3] for name, fact in content.facts(delivery.item).items() if fact[0] == "file"}
    assert actual == expected
    both.sender.wait_sent(1)
    assert len(both.receiver.deliveries()) == 1


def test_a_file_written_in_place_is_taken_only_when_its_writer_has_closed(pair):
    both = pair()
    path = both.sender.channel("default") / "growing"
    with open(path, "wb") as writer:
        for number in range(10):
            writer.write(bytes([number]) * 4096)
            writer.flush()
            threading.Event().wait(0.1)  # longer in all than `settle`, which is 200 ms
        assert path.exists(), "an open file is not claimed"
    delivery = both.receiver.wait_delivered("growing")
    assert delivery.item.read_bytes() == b"".join(bytes([number]) * 4096 for number in range(10))
    assert len(both.receiver.deliveries()) == 1


def test_hidden_and_partial_names_are_not_items(pair, scratch):
    both = pair()
    channel = both.sender.channel("default")
    for name in (".hidden", "download.part", "editor.tmp"):
        (channel / name).write_bytes(b"not yet")
    both.sender.drop(content.write_file(scratch / "ready", 10))
    both.receiver.wait_delivered("ready")
    os.rename(channel / "download.part", channel / "download")
    both.receiver.wait_delivered("download")
    assert sorted(os.listdir(channel)) == [".hidden", "editor.tmp"]
    assert len(both.receiver.deliveries()) == 2


def test_a_marker_channel_waits_for_the_marker(pair, scratch):
    both = pair(channels={"marked": {"complete": "marker"}})
    both.sender.drop(content.write_file(scratch / "waits", 10), "marked")
    both.sender.drop(content.write_file(scratch / "goes", 10))
    both.receiver.wait_delivered("goes")
    assert (both.sender.spool / "marked" / "waits").exists()
    (both.sender.spool / "marked" / "waits.ready").touch()
    both.receiver.wait_delivered("waits", "marked")


def test_a_rename_channel_does_not_take_what_is_written_in_place(pair, scratch):
    both = pair(channels={"renamed": {"complete": "rename"}})
    both.sender.drop(content.write_file(scratch / "first", 10), "renamed")
    both.receiver.wait_delivered("first", "renamed")
    (both.sender.spool / "renamed" / "in-place").write_bytes(b"written here")
    both.sender.drop(content.write_file(scratch / "second", 10), "renamed")
    both.receiver.wait_delivered("second", "renamed")
    both.sender.wait_status(lambda status: any(one["name"] == "in-place" for one in status["waiting"]),
                            "the item that waits named")
    assert (both.sender.spool / "renamed" / "in-place").exists()
    assert len(both.receiver.deliveries()) == 2
