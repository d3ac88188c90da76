# SPDX-License-Identifier: Apache-2.0
"""Approvals: signed on any machine, carried beside the item, checked by stock tools where it arrived."""

import json
import os
import shutil

import content
import harness
import pytest
from waiting import wait_until


def sign(item, key, channel="images", *options):
    return harness.diodecast("sign", item, "-s", key[0], "--channel", channel, *options)


def approvals(item):
    return json.loads(harness.diodecast("inspect", "--json", f"{item}.approval", check=0).stdout)


def put(sender, item, channel="images"):
    harness.diodecast("put", item, channel, "-c", sender.config, "--approval", f"{item}.approval", check=0)


@pytest.fixture
def keys(scratch):
    """Key pairs of two approvers, and the directory that the receiver takes their public keys from."""
    (scratch / "approval.d").mkdir()
    made = {name: harness.make_key(scratch, name) for name in ("anna", "boris")}
    for name, (_, public) in made.items():
        shutil.copy(public, scratch / "approval.d" / f"{name}.pub")
    return made


def test_two_persons_approve_one_tree_and_stock_minisign_agrees(scratch, keys):
    tree = content.make_tree(scratch / "tree", 12)
    copy = scratch / "elsewhere" / "tree"
    copy.parent.mkdir()
    shutil.copytree(tree, copy, symlinks=True)
    os.utime(copy, (1, 1))
    assert sign(tree, keys["anna"], "images", "--label", "case=4711").returncode == 0
    shutil.copy(f"{tree}.approval", f"{copy}.approval")
    assert sign(copy, keys["boris"]).returncode == 0
    found = approvals(copy)
    assert (found["name"], found["channel"]) == ("tree", "images")
    assert found["labels"] == [{"key": "case", "value": "4711"}]
    assert len({one["key_id"] for one in found["approvals"]}) == 2
    assert {entry["path"] for entry in found["entries"]} == {
        os.path.relpath(os.path.join(where, name), scratch)
        for where, folders, files in os.walk(tree) for name in folders + files} | {"tree"}

    harness.diodecast("inspect", "--export", scratch / "export", f"{copy}.approval", check=0)
    for secret, public in keys.values():
        one = next(scratch / "export" / f"{each['key_id']}.minisig" for each in found["approvals"]
                   if each["key_id"] in public.read_text())
        done = harness.run(["minisign", "-V", "-m", scratch / "export" / "statement.pb", "-x", one, "-p", public],
                           check=0)
        assert "channel images item tree" in done.stdout


@pytest.mark.parametrize("change", ["content", "added", "removed", "mode", "channel"])
def test_a_second_signature_is_only_over_the_same_content(scratch, keys, change):
    tree = scratch / "tree"
    tree.mkdir()
    (tree / "a").write_text("hello")
    (tree / "b").write_text("world")
    assert sign(tree, keys["anna"]).returncode == 0
    before = (scratch / "tree.approval").read_bytes()
    if change == "content":
        (tree / "a").write_text("jello")
    elif change == "added":
        (tree / "c").touch()
    elif change == "removed":
        (tree / "b").unlink()
    elif change == "mode":
        (tree / "a").chmod(0o755)
    done = sign(tree, keys["boris"], "other" if change == "channel" else "images")
    assert done.returncode == 65
    assert {"content": "tree/a has another content", "added": "tree/c is there and was not signed",
            "removed": "tree/b was signed and is not there", "mode": "tree/a is executable",
            "channel": "signed for channel images and not other"}[change] in done.stderr
    assert (scratch / "tree.approval").read_bytes() == before


def test_signing_again_changes_nothing_and_an_open_secret_key_signs_nothing(scratch, keys):
    item = content.write_file(scratch / "item", 100)
    assert sign(item, keys["anna"]).returncode == 0
    before = (scratch / "item.approval").read_bytes()
    done = sign(item, keys["anna"])
    assert done.returncode == 0 and "was approved before" in done.stdout
    assert (scratch / "item.approval").read_bytes() == before
    keys["boris"][0].chmod(0o640)
    done = sign(item, keys["boris"])
    assert done.returncode == 77 and "chmod 600" in done.stderr
    assert (scratch / "item.approval").read_bytes() == before
    (scratch / "item.approval").write_bytes(before[:-1])
    assert sign(item, keys["anna"]).returncode == 65


def test_what_two_keys_approved_is_delivered_with_proof_for_minisign(pair, scratch, keys):
    both = pair(receiver={"receiver": {"approval_keys": scratch / "approval.d", "required_signatures": 2}},
                channels={"images": {"approvals": 2}})
    item = content.write_file(scratch / "base.tar", 300_000)
    assert sign(item, keys["anna"]).returncode == 0
    assert sign(item, keys["boris"]).returncode == 0
    expected = content.facts(item)
    put(both.sender, item)
    delivery = both.receiver.wait_delivered("base.tar", "images")
    delivery.check(expected, both.sender.public)
    assert len(list((delivery.path / "approvals").iterdir())) == 2
    harness.diodecast("inspect", "--export", scratch / "export", delivery.path, check=0)
    assert (scratch / "export" / "statement.pb").read_bytes() == (delivery.path / "statement.pb").read_bytes()
    for one in (delivery.path / "approvals").iterdir():
        public = next(public for _, public in keys.values() if one.stem in public.read_text())
        harness.run(["minisign", "-V", "-m", delivery.path / "statement.pb", "-x", one, "-p", public], check=0)


def test_an_item_waits_in_the_spool_for_its_approvals(pair, scratch, keys):
    both = pair(channels={"images": {"approvals": 2}})
    item = content.write_file(scratch / "item", 1000)
    assert sign(item, keys["anna"]).returncode == 0
    put(both.sender, item)
    status = both.sender.wait_status(lambda status: status["waiting"], "the item waits")
    assert "1 of 2" in status["waiting"][0]["action"]
    assert not both.receiver.deliveries()
    assert sign(item, keys["boris"]).returncode == 0
    hidden = both.sender.spool / "images" / ".new"
    shutil.copy(f"{item}.approval", hidden)
    os.rename(hidden, both.sender.spool / "images" / "item.approval")
    delivery = both.receiver.wait_delivered("item", "images")
    assert len(list((delivery.path / "approvals").iterdir())) == 2
    assert not list((both.sender.spool / "images").glob("*"))


def test_what_is_not_what_was_approved_is_refused_and_stray_approvals_are_counted(pair, scratch, keys):
    both = pair()
    item = content.write_file(scratch / "item", 1000)
    assert sign(item, keys["anna"], "default").returncode == 0
    channel = both.sender.channel("default")
    shutil.copy(f"{item}.approval", channel / "item.approval")
    item.write_bytes(b"x" * 1000)
    both.sender.drop(item)
    assert "item has another content than was signed" in both.sender.wait_failed(b"item")
    shutil.copy(next((both.sender.spool / ".failed").glob("*/item.approval")), channel / "never.approval")
    both.sender.program.process.send_signal(10)  # SIGUSR1: scan now
    both.sender.wait_status(lambda status: status["approvals_without_item"] == 1, "one approval has no item")
    both.sender.drop(content.write_file(scratch / "plain", 10))
    assert not (both.receiver.wait_delivered("plain").path / "approvals").exists()


def test_put_refuses_approvals_of_something_else(scratch, keys):
    sender = harness.Sender(scratch / "low", "127.0.0.1:9")
    sender.arguments()
    item = content.write_file(scratch / "item", 10)
    assert sign(item, keys["anna"], "other").returncode == 0
    done = harness.diodecast("put", item, "images", "-c", sender.config, "--approval", f"{item}.approval")
    assert done.returncode == 65 and "is for item in channel other" in done.stderr
    assert not (sender.spool / "images").exists()
    (scratch / "item.approval").write_bytes(b"junk")
    assert harness.diodecast("put", item, "images", "-c", sender.config, "--approval",
                             f"{item}.approval").returncode == 65
    wait_until(lambda: not list(sender.spool.iterdir()), 1, "nothing was left in the spool")
