# SPDX-License-Identifier: Apache-2.0
"""Bad input on the low side: refused with a reason, and everything else goes on."""

import os
import socket
import stat

import content
import pytest
from waiting import wait_until


def make_fifo(directory):
    os.mkfifo(directory / "bad")


def make_socket(directory):
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(directory)
        try:
            server.bind("bad")
        finally:
            os.chdir(here)


def make_device(directory):
    if os.geteuid() != 0:
        pytest.skip("making a device needs root")
    try:
        os.mknod(directory / "bad", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("this machine lets nobody make devices")


def make_symlink(directory):
    (directory / "bad").symlink_to("/etc/passwd")


def in_a_tree(make):
    def made(directory):
        (directory / "bad").mkdir()
        (directory / "bad" / "fine").write_bytes(b"fine")
        make(directory / "bad")
    return made


def make_long_path(directory):
    """Deeper than a path may be long; made with relative names, as a system call takes no more than 4095 bytes."""
    here = os.getcwd()
    os.mkdir(directory / "bad")
    os.chdir(directory / "bad")
    try:
        for _ in range(17):
            os.mkdir("d" * 250)
            os.chdir("d" * 250)
        with open("file", "wb") as file:
            file.write(b"deep")
    finally:
        os.chdir(here)


def make_deep_path(directory):
    (directory / "bad" / "/".join("d" * 130)).mkdir(parents=True)


def make_absolute_link(directory):
    (directory / "link").symlink_to("/etc/passwd")


REFUSED = {
    "fifo": (make_fifo, "FIFO"),
    "socket": (make_socket, "socket"),
    "device": (make_device, "device"),
    "symlink": (make_symlink, "symlink"),
    "fifo in a tree": (in_a_tree(make_fifo), "FIFO"),
    "socket in a tree": (in_a_tree(make_socket), "socket"),
    "symlink in a tree": (in_a_tree(make_absolute_link), "symlink"),
    "long path": (make_long_path, "long"),
    "deep path": (make_deep_path, "128"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_sent_is_refused_with_a_reason_and_the_rest_goes_on(pair, scratch, case):
    make, word = REFUSED[case]
    both = pair()
    channel = both.sender.channel("default")
    hidden = channel / ".making"
    hidden.mkdir()
    make(hidden)
    os.rename(hidden / "bad", channel / "bad")
    reason = both.sender.wait_failed(b"bad")
    assert word.lower() in reason.lower()
    both.sender.drop(content.write_file(scratch / "good", 1000))
    both.receiver.wait_delivered("good")
    assert len(both.receiver.deliveries()) == 1
    assert both.sender.program.is_running()


@pytest.mark.parametrize("name", [b"bad\x01name", b"bad\nname", b"bad\x7fname", b"bad\xff", b"bad\xc0\xaf",
                                  b"\xed\xa0\x80"])
@pytest.mark.parametrize("inside", [False, True], ids=["item", "in a tree"])
def test_names_that_nobody_can_trust_are_refused(pair, scratch, name, inside):
    both = pair()
    channel = os.fsencode(both.sender.channel("default"))
    hidden = channel + b"/.making"
    os.mkdir(hidden)
    with open(hidden + b"/" + name, "wb") as file:
        file.write(b"content")
    os.rename(hidden if inside else hidden + b"/" + name, channel + (b"/tree" if inside else b"/" + name))
    reason = both.sender.wait_failed(b"tree" if inside else name)
    assert "UTF-8" in reason or "control character" in reason
    assert reason.isprintable() or reason.rstrip("\n").isprintable()
    both.sender.drop(content.write_file(scratch / "good", 1000))
    both.receiver.wait_delivered("good")


def test_a_file_over_the_configured_maximum_is_refused(pair, scratch):
    both = pair(sender={"max_size": "1MiB"})
    both.sender.drop(content.write_file(scratch / "too large", (1 << 20) + 1))
    both.sender.drop(content.write_file(scratch / "fits", 1 << 20))
    assert "max_size" in both.sender.wait_failed(b"too large")
    both.receiver.wait_delivered("fits")


def test_a_symlink_that_leaves_its_item_is_refused_also_where_symlinks_are_allowed(pair, scratch):
    both = pair(channels={"linked": {"symlinks": "inside"}})
    for name, target in (("absolute", "/etc/passwd"), ("upwards", "../other"), ("hidden climb", "sub/../../out")):
        tree = scratch / name
        (tree / "sub").mkdir(parents=True)
        (tree / "link").symlink_to(target)
        both.sender.copy(tree, "linked")
        assert "link" in both.sender.wait_failed(name.encode())
    assert both.receiver.deliveries() == []


def test_an_item_that_changes_while_it_is_read_goes_back_and_is_delivered_whole_later(pair, scratch):
    both = pair(link={"rate": "40Mbit/s"})
    size = 12 << 20
    both.sender.drop(content.write_file(scratch / "changing", size))

    def claimed():
        return next((both.sender.spool / ".sending").glob("*/changing"), None)

    item = wait_until(claimed, 20, "the claim", watch=[both.sender.spool / ".sending"], alive=[both.sender.program])
    both.receiver.wait_status(lambda status: status["transfers"]["open"], "the transfer under way")
    with open(item, "r+b") as writer:
        writer.seek(1000)
        writer.write(b"changed")
        writer.seek(size)
        writer.write(b"longer")
    delivery = both.receiver.wait_delivered("changing", timeout=90)
    payload = delivery.item.read_bytes()
    assert len(payload) == size + 6
    assert payload[1000:1007] == b"changed" and payload[size:] == b"longer"
    delivery.check_stock_tools(both.sender.public)
    both.sender.wait_sent(1)
    assert len(both.receiver.deliveries()) == 1
    assert delivery.sequence == 1, "a transfer given up before its manifest takes no number"


def test_the_refusal_of_one_channel_does_not_touch_another(pair, scratch):
    both = pair()
    os.mkfifo(both.sender.channel("a") / "pipe")
    both.sender.drop(content.write_file(scratch / "pipe", 10), "b")
    both.sender.wait_failed(b"pipe")
    both.receiver.wait_delivered("pipe", "b")


def test_a_directory_that_cannot_be_a_channel_is_named_in_the_status(pair):
    both = pair()
    (both.sender.spool / "not a channel!").mkdir()
    (both.sender.spool / "not a channel!" / "item").write_bytes(b"waits")
    both.sender.wait_status(lambda status: any("not a channel!" in one["action"] for one in status["reasons"]),
                            "the directory named", 60)
    assert (both.sender.spool / "not a channel!" / "item").exists()


def test_the_claim_of_a_large_tree_does_not_hold_up_what_is_urgent(fast_pair, fast_scratch):
    both = fast_pair(channels={"bulk": {"priority": "low"}, "urgent": {"priority": "high"}})
    bulk, urgent = both.sender.channel("bulk"), both.sender.channel("urgent")

    def wheel_overtakes(turn):
        tree, wheel = fast_scratch / f"tree{turn}", content.write_file(fast_scratch / f"wheel{turn}", 1000)
        for number in range(30):
            (tree / str(number)).mkdir(parents=True)
            for file in range(1000):
                (tree / str(number) / str(file)).touch()
        os.rename(tree, bulk / tree.name)
        both.sender.drop(wheel, "urgent")
        wait_until(lambda: not (urgent / wheel.name).exists(), 60, "the claim", watch=[urgent],
                   alive=[both.sender.program])
        overtaken = (bulk / tree.name).exists()
        both.receiver.wait_delivered(wheel.name, "urgent")
        return overtaken

    # A machine that is busy elsewhere may keep the wheel from its turn once; if claims held each other up, it never came.
    assert any(wheel_overtakes(turn) for turn in range(4)), "the wheels were claimed only after the trees"
