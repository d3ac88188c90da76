# SPDX-License-Identifier: Apache-2.0
"""The procedures of diodecast-keys(7): making, changing, losing keys. Each test does what the page says."""

import re
import shutil

import content
import harness
import pytest


def shown(*files):
    """{file: fingerprint} by `diodecast key show`."""
    done = harness.diodecast("key", "show", *files, check=0)
    return dict(zip(files, re.findall(r"^  fingerprint +(.*)", done.stdout, re.M), strict=True))


def link_key(path):
    harness.diodecast("keygen", "--link", path, check=0)
    return path


def approve(item, key, channel="images"):
    harness.diodecast("sign", item, "-s", key[0], "--channel", channel, check=0)
    return item


def put(sender, item, channel="images"):
    harness.diodecast("put", item, channel, "-c", sender.config, "--approval", f"{item}.approval", check=0)


def send(both, scratch, name):
    """Sends a new file and returns its delivery."""
    both.sender.drop(content.write_file(scratch / name, 3000, seed=name))
    return both.receiver.wait_delivered(name)


def held(receiver, name):
    """The reason for which a transfer of this name is held back."""
    def find(status):
        return next((one["reason"] for one in status["transfers"]["held"] if one["name"] == name), None)

    return find(receiver.wait_status(find, f"{name} held back"))


def restart(daemon):
    assert daemon.stop() == 0
    daemon.start()


@pytest.fixture
def approved(pair, scratch):
    """A pair that delivers what one approver has signed, and the keys of two of whom only anna's is installed."""
    (scratch / "approval.d").mkdir()
    keys = {name: harness.make_key(scratch, name) for name in ("anna", "boris")}
    shutil.copy(keys["anna"][1], scratch / "approval.d")
    both = pair(receiver={"receiver": {"approval_keys": scratch / "approval.d", "required_signatures": 1}})
    put(both.sender, approve(content.write_file(scratch / "first", 100), keys["anna"]))
    both.receiver.wait_delivered("first", "images")
    return both, keys


def test_a_key_has_one_fingerprint_wherever_it_is_shown_and_no_secret_is(pair, scratch):
    both = pair()
    secret, public = both.sender.key, both.sender.public
    link, other, copy = link_key(scratch / "link.key"), link_key(scratch / "other.key"), scratch / "copy.key"
    shutil.copy2(link, copy)
    found = shown(secret, public, link, copy, other)
    assert found[secret] == found[public] and found[link] == found[copy] != found[other]
    (sender,) = both.receiver.status()["keys"]["senders"]
    assert sender["fingerprint"] == found[public]
    assert found[public].startswith(re.search(r"public key ([0-9A-F]{16})", public.read_text()).group(1))
    printed = harness.diodecast("key", "show", secret, link, check=0).stdout
    assert secret.read_text().splitlines()[1] not in printed and link.read_text().strip() not in printed


def test_secret_keys_that_others_may_read_are_refused_by_all_programs(scratch):
    sender = harness.Sender(scratch / "low", "127.0.0.1:9", link={"key": link_key(scratch / "link.key")})
    receiver = harness.Receiver(scratch / "high", "127.0.0.1:9", [sender.public], link={"key": scratch / "link.key"})
    assert sender.run_once("-n").returncode == receiver.run_once("-n").returncode == 0
    for file in (sender.key, scratch / "link.key"):
        file.chmod(0o640)
        assert "chmod 600" in sender.run_once("-n").stderr
        assert harness.diodecast("key", "show", file).returncode == 77
        file.chmod(0o600)
    (scratch / "link.key").chmod(0o604)
    assert "chmod 600" in receiver.run_once("-n").stderr


def test_the_senders_key_changes_by_an_announcement_that_a_person_checks(pair, scratch):
    both = pair()
    old = send(both, scratch, "by the old key")
    secret, public = harness.make_key(scratch, "next")
    both.sender.sections["sender"]["next_key"] = public
    restart(both.sender)
    assert both.sender.status()["next_key"] == shown(public)[public]
    status = both.receiver.wait_status(lambda status: status["keys"]["announced"], "an announced key")
    (announced,) = status["keys"]["announced"]
    assert announced["fingerprint"] == shown(public)[public] and not announced["in_use"]
    assert shown(announced["file"]) == {announced["file"]: announced["fingerprint"]}
    assert [one["fingerprint"] for one in status["keys"]["senders"]] == [shown(both.sender.public)[both.sender.public]]

    shutil.copy(announced["file"], both.receiver.trusted / "next.pub")
    restart(both.receiver)
    del both.sender.sections["sender"]["next_key"]
    both.sender.sections["sender"]["signing_key"] = secret
    restart(both.sender)
    new = send(both, scratch, "by the new key")
    new.check_stock_tools(public)
    assert new.sender_id != old.sender_id and new.manifest["chain_id"] == old.manifest["chain_id"]
    assert new.sequence == old.sequence + 1
    (both.receiver.trusted / "0-sender.expires").write_text("2020-01-01\n")
    both.receiver.wait_status(lambda status: {one["state"] for one in status["keys"]["senders"]} == {"good", "expired"},
                              "the old key has ended")
    send(both, scratch, "and again")


def test_the_link_key_changes_while_both_are_accepted(pair, scratch):
    first, second = link_key(scratch / "link.key"), link_key(scratch / "link-2.key")
    both = pair(link={"key": first}, receiver={"link": {"key": first}})
    send(both, scratch, "by the first")
    both.receiver.sections["link"]["key_next"] = second
    restart(both.receiver)
    send(both, scratch, "still by the first")
    assert not both.receiver.status()["link"]["keys"]["key_is_unused"]
    both.sender.sections["link"]["key"] = second
    restart(both.sender)
    send(both, scratch, "by the second")
    both.receiver.wait_status(lambda status: status["link"]["keys"]["key_is_unused"], "the first key is not used")
    both.receiver.sections["link"]["key"] = second
    del both.receiver.sections["link"]["key_next"]
    restart(both.receiver)
    send(both, scratch, "by the second alone")


def test_a_lost_senders_key_is_replaced_and_the_chain_goes_on(pair, scratch):
    both = pair()
    before = send(both, scratch, "before")
    both.sender.stop()
    both.sender.key.unlink()
    secret, public = harness.make_key(scratch, "new")
    shutil.copy(public, both.receiver.trusted / "new.pub")
    restart(both.receiver)
    both.sender.sections["sender"]["signing_key"] = secret
    both.sender.start()
    after = send(both, scratch, "after")
    assert (after.sequence, after.manifest["chain_id"]) == (before.sequence + 1, before.manifest["chain_id"])


def test_what_a_stolen_senders_key_signs_is_held_back_at_once(pair, scratch):
    both = pair()
    send(both, scratch, "before")
    (both.receiver.trusted / "0-sender.revoked").write_text("stolen 2026-11-22\n")
    both.receiver.wait_status(lambda status: status["keys"]["senders"][0]["state"] == "revoked", "the key is revoked")
    both.sender.drop(content.write_file(scratch / "forged", 100))
    assert "stolen 2026-11-22" in held(both.receiver, "forged")

    secret, public = harness.make_key(scratch, "new")
    link = link_key(scratch / "link.key")
    shutil.copy(public, both.receiver.trusted / "new.pub")
    both.receiver.sections["link"]["key"] = link
    restart(both.receiver)
    both.sender.stop()
    both.sender.sections["sender"]["signing_key"] = secret
    both.sender.sections["link"]["key"] = link
    both.sender.start()
    send(both, scratch, "after")
    assert {one.name for one in both.receiver.deliveries()} == {"before", "after"}


def test_a_stolen_approvers_key_counts_no_more_without_a_restart(approved, scratch):
    both, keys = approved
    (scratch / "approval.d" / "anna.revoked").write_text("laptop stolen, INC-4711\n")
    both.receiver.wait_status(lambda status: status["keys"]["approvers"][0]["state"] == "revoked", "it is revoked")
    put(both.sender, approve(content.write_file(scratch / "second", 100), keys["anna"]))
    assert "INC-4711" in held(both.receiver, "second")
    shutil.copy(keys["boris"][1], scratch / "approval.d")
    both.receiver.wait_status(lambda status: len(status["keys"]["approvers"]) == 2, "another approver")
    again = approve(content.write_file(scratch / "third", 100), keys["boris"])
    put(both.sender, again)
    both.receiver.wait_delivered("third", "images")
    assert {one.name for one in both.receiver.deliveries("images")} == {"first", "third"}


def test_a_lost_approvers_key_is_replaced_and_what_waits_is_judged_again(approved, scratch):
    both, keys = approved
    put(both.sender, approve(content.write_file(scratch / "second", 100), keys["boris"]))
    held(both.receiver, "second")
    shutil.copy(keys["boris"][1], scratch / "approval.d")
    (scratch / "approval.d" / "anna.revoked").write_text("lost\n")
    both.receiver.wait_status(
        lambda status: {one["state"] for one in status["keys"]["approvers"]} == {"good", "revoked"}, "both are known")
    harness.diodecast("quarantine", "recheck", "-c", both.receiver.config, check=0)
    delivery = both.receiver.wait_delivered("second", "images")
    assert [one.stem in keys["boris"][1].read_text() for one in (delivery.path / "approvals").iterdir()] == [True]


def test_a_lost_audit_key_begins_a_new_log_and_the_old_one_stays_provable(pair, scratch):
    both = pair()
    send(both, scratch, "before")
    both.sender.stop()
    audit = both.sender.state / "audit"
    shutil.copy(audit / "audit.pub", scratch)
    (audit / "audit.key").unlink()
    done = both.sender.run_once()
    assert done.returncode != 0 and "bring the key back, or move" in done.stderr
    audit.rename(scratch / "old-audit")
    both.sender.start()
    send(both, scratch, "after")
    harness.diodecast("audit", "verify", scratch / "old-audit", "--key", scratch / "audit.pub", check=0)
    assert (audit / "audit.pub").read_bytes() != (scratch / "audit.pub").read_bytes()
