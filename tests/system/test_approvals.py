# SPDX-License-Identifier: Apache-2.0
"""What the keys decide: which transfers are delivered, and which are held back, with the reason, and only those."""

import base64
import datetime
import hashlib
import os
import re
import shutil

import content
import harness
import pytest
import relay
from waiting import wait_until


class Keys:
    """A pair whose receiver has approvers, with their secret keys elsewhere. `rules` are its [channel] sections."""

    def __init__(self, scratch, approvers=("alice", "bob"), required=None, rules=None, sender=None, channels=None):
        self.scratch = scratch
        port = harness.free_port()
        self.sender = harness.Sender(scratch / "low", f"127.0.0.1:{port}", sender=sender, channels=channels)
        self.approval = scratch / "approval.d"
        self.approval.mkdir()
        self.secrets = {}
        for name in approvers:
            self.add_approver(name)
        self.receiver = harness.Receiver(scratch / "high", f"127.0.0.1:{port}", [self.sender.public], receiver={
            "approval_keys": self.approval, "required_signatures": required})
        self.sender_name = f"0-{self.sender.public.stem}"
        for channel, keys in (rules or {}).items():
            self.receiver.sections[f"channel {channel}"] = keys

    def start(self):
        self.receiver.start()
        self.sender.start()
        self.receiver.wait_heard()
        return self

    def add_approver(self, name):
        secret, public = harness.make_key(self.scratch, name)
        shutil.copy(public, self.approval / f"{name}.pub")
        self.secrets[name] = secret
        return public

    def drop(self, name, channel="default", approved_by=(), content=b"content"):
        item = self.scratch / name
        item.write_bytes(content)
        for approver in approved_by:
            harness.diodecast("sign", item, "-s", self.secrets[approver], "--channel", channel, check=0)
        if approved_by:
            os.rename(f"{item}.approval", self.sender.channel(channel) / f"{name}.approval")
        self.sender.drop(item, channel)

    def held(self):
        return {one["name"]: one["reason"] for one in self.receiver.status().get("transfers", {}).get("held", [])}

    def wait_held(self, name):
        """The reason for which it is held."""
        self.receiver.wait_status(lambda status: name in self.held(), f"{name} held")
        return self.held()[name]

    def delivered(self):
        return {one.name for one in self.receiver.deliveries()}

    def quarantined(self, name):
        return next(path for path in (self.receiver.intake / ".quarantine").iterdir() if path.name.endswith(f"-{name}"))

    def key(self, role, name):
        return next((one for one in self.receiver.status().get("keys", {}).get(role, []) if one["name"] == name), None)

    def wait_key(self, role, name, **members):
        def fits(status):
            return any(one["name"] == name and all(one[key] == value for key, value in members.items())
                       for one in status.get("keys", {}).get(role, []))

        return self.receiver.wait_status(fits, f"{role} {name} {members}")

    def reasons(self):
        return {one["code"]: one["action"] for one in self.receiver.status().get("reasons", [])}


def test_what_has_too_few_approvals_is_held_and_only_that(scratch):
    keys = Keys(scratch, required=2, rules={"free": {"required_signatures": 0}, "narrow": {"approvers": "alice bob"}},
                approvers=("alice", "bob", "carol")).start()
    keys.drop("none.whl")
    keys.drop("one.whl", approved_by=["alice"])
    keys.drop("narrow.whl", "narrow", approved_by=["alice", "carol"])
    keys.drop("two.whl", approved_by=["alice", "bob"])
    keys.drop("free.whl", "free")

    delivery = keys.receiver.wait_delivered("two.whl")
    keys.receiver.wait_delivered("free.whl", "free")
    assert keys.wait_held("none.whl").startswith("2 approvals are needed, 0 there")
    assert keys.wait_held("one.whl").startswith("2 approvals are needed, 1 there (alice)")
    assert "carol is not among the approvers" in keys.wait_held("narrow.whl")
    assert keys.delivered() == {"two.whl", "free.whl"}
    assert (keys.quarantined("one.whl") / "payload" / "one.whl").read_bytes() == b"content"
    assert "1 there (alice)" in (keys.quarantined("one.whl") / "reason").read_text()

    signatures = list((delivery.path / "approvals").iterdir())
    assert len(signatures) == 2
    for name in ("alice", "bob"):
        assert any(harness.run(["minisign", "-Vm", delivery.path / "statement.pb", "-x", one, "-p",
                                keys.approval / f"{name}.pub"]).returncode == 0 for one in signatures)


def test_a_new_approver_and_a_revoked_one_count_at_once(scratch):
    keys = Keys(scratch, required=1, approvers=("alice",)).start()
    carol = keys.add_approver("carol")
    keys.wait_key("approvers", "carol", state="good")
    keys.drop("first.whl", approved_by=["carol"])
    keys.receiver.wait_delivered("first.whl")

    (keys.approval / "carol.revoked").write_text("left the team\n")
    keys.wait_key("approvers", "carol", state="revoked", why_revoked="left the team")
    keys.drop("second.whl", approved_by=["carol"])
    assert "carol is revoked: left the team" in keys.wait_held("second.whl")
    keys.drop("third.whl", approved_by=["alice"])
    keys.receiver.wait_delivered("third.whl")
    assert keys.delivered() == {"first.whl", "third.whl"}
    assert "carol.pub" in keys.reasons()["key_revoked"]
    shown = harness.diodecast("key", "show", carol, check=0).stdout
    assert keys.key("approvers", "carol")["fingerprint"] in shown


def audit_of_keys(receiver):
    text = "".join(file.read_text() for file in (receiver.state / "audit").glob("audit-*.jsonl"))
    return [line for line in text.splitlines() if '"event":"key"' in line]


def test_a_revoked_sender_is_held_from_then_on_and_what_was_delivered_stays(scratch):
    keys = Keys(scratch).start()
    keys.drop("before.whl")
    keys.receiver.wait_delivered("before.whl")
    revoked = keys.receiver.trusted / f"{keys.sender_name}.revoked"
    revoked.write_text("stolen\n")
    keys.wait_key("senders", keys.sender_name, state="revoked")
    wait_until(lambda: any("is revoked: stolen" in line for line in audit_of_keys(keys.receiver)), 30,
               "the revocation in the audit log", watch=[keys.receiver.state / "audit"], alive=[keys.receiver.program])
    keys.drop("during.whl")
    assert keys.wait_held("during.whl").endswith("is revoked: stolen")
    assert keys.delivered() == {"before.whl"}
    (before,) = keys.receiver.deliveries()
    verified = harness.diodecast("verify", "-t", keys.receiver.trusted, before.path, check=0)
    assert "its key is revoked now: stolen" in verified.stdout

    keys.receiver.stop()
    keys.receiver.start()
    assert "during.whl" in keys.held()
    revoked.unlink()
    keys.wait_key("senders", keys.sender_name, state="good")
    keys.drop("after.whl")
    keys.receiver.wait_delivered("after.whl")
    assert keys.delivered() == {"before.whl", "after.whl"}


def incomplete(status):
    return next((one for one in status["transfers"]["incomplete"] if one["manifest_held"] and one["ticket"]), None)


def test_a_key_that_ends_while_a_transfer_is_open_counts_for_it_also_after_a_restart(fast_pair, fast_scratch):
    line = relay.Line()
    both = fast_pair(relay=lambda port: relay.Relay(port, line))
    both.receiver.wait_heard()
    line.lose(3000, after=2000)
    both.sender.drop(content.write_file(fast_scratch / "model", 20 << 20))
    both.receiver.wait_status(incomplete, "an incomplete transfer")
    name = next(both.receiver.trusted.glob("*.pub")).stem
    now = datetime.datetime.now(datetime.timezone.utc)
    (both.receiver.trusted / f"{name}.expires").write_text(now.strftime("%Y-%m-%dT%H:%M:%SZ"))
    both.receiver.wait_status(lambda status: status["keys"]["senders"][0]["state"] == "expired", "the end of the key")
    both.receiver.stop()
    both.receiver.start(wait=False)
    status = both.receiver.wait_status(incomplete, "the transfer, incomplete again")
    both.sender.drop(content.write_file(fast_scratch / "late", 1000))
    harness.diodecast("replay", "-c", both.sender.config, incomplete(status)["ticket"], check=0)
    both.receiver.wait_delivered("model")
    status = both.receiver.wait_status(lambda status: status["transfers"]["held"], "the later one is held")
    (held,) = status["transfers"]["held"]
    assert held["name"] == "late" and "expired at" in held["reason"]


def test_what_an_expired_sender_sends_is_held_what_a_stranger_sends_is_dropped_and_others_go_on(scratch):
    keys = Keys(scratch)
    peer = keys.sender.sections["link"]["peer"]
    expired, stranger = harness.Sender(scratch / "expired", peer), harness.Sender(scratch / "stranger", peer)
    shutil.copy(expired.public, keys.receiver.trusted / "expired.pub")
    (keys.receiver.trusted / "expired.expires").write_text("2020-01-01\n")
    keys.start()
    for sender, name in ((expired, "late.whl"), (stranger, "strange.whl")):
        sender.drop(content.write_file(scratch / name, 1000))
        sender.start()
    keys.drop("good.whl")
    keys.receiver.wait_delivered("good.whl")
    stranger.wait_sent(1)
    assert "expired expired at 2020-01-01T00:00:00.000Z" in keys.wait_held("late.whl")
    keys.receiver.wait_status(lambda status: status["link"]["drops"]["sender"] > 0, "drops of the stranger")
    assert keys.delivered() == {"good.whl"}
    assert set(keys.held()) == {"late.whl"}
    assert "expired.pub (2020-01-01" in keys.reasons()["key_expired"]

    shutil.copy(stranger.public, keys.receiver.trusted / "stranger.pub")
    keys.wait_key("senders", "stranger", state="needs_restart")
    assert "stranger.pub" in keys.reasons()["sender_key_needs_restart"]


def take_key_id(secret, public):
    """Gives the secret key file the key id of the public one, as who has neither but wants to be heard would."""
    key_id = base64.b64decode(public.read_text().splitlines()[1])[2:10]
    comment, text = secret.read_text().splitlines()
    key = bytearray(base64.b64decode(text))
    key[54:62] = key_id
    key[126:158] = hashlib.blake2b(bytes(key[:2] + key[54:126]), digest_size=32).digest()
    secret.write_text(f"{comment}\n{base64.b64encode(key).decode()}\n")


def test_what_another_key_signs_under_the_id_of_a_sender_is_refused_with_the_reason(scratch):
    keys = Keys(scratch)
    impostor = harness.Sender(scratch / "impostor", keys.sender.sections["link"]["peer"])
    take_key_id(impostor.key, keys.sender.public)
    keys.start()
    impostor.drop(content.write_file(scratch / "forged.whl", 1000))
    impostor.start()
    quarantine = keys.receiver.intake / ".quarantine"
    reason = wait_until(lambda: next((one for one in quarantine.glob("*/reason") if one.read_text()), None), 30,
                        "a refused manifest", watch=[quarantine], alive=[keys.receiver.program])
    assert reason.read_text() == "the manifest is not signed by the key of its sender\n"
    assert not (reason.parent / "payload").exists()
    impostor.stop()
    keys.drop("good.whl")
    keys.receiver.wait_delivered("good.whl")
    assert keys.delivered() == {"good.whl"}


def test_an_announced_key_is_shown_and_trusted_only_once_it_is_installed(scratch):
    secret, public = harness.make_key(scratch, "next")
    keys = Keys(scratch, sender={"next_key": public}).start()
    status = keys.receiver.wait_status(lambda status: status["keys"]["announced"], "an announced key", timeout=90)
    (announced,) = status["keys"]["announced"]
    copy = keys.receiver.state / "announced" / f"{announced['key_id']}.pub"
    assert announced["fingerprint"] in harness.diodecast("key", "show", public, check=0).stdout
    assert re.match(r"announced by sender [0-9a-f]{8} at ", announced["announcement"])
    assert copy.read_text().splitlines()[1] == public.read_text().splitlines()[1]
    assert "key_announced" in keys.reasons()

    # Before it is installed nothing that it signs passes.
    keys.sender.stop()
    keys.sender.sections["sender"].update(signing_key=secret, next_key=None)
    keys.sender.start()
    keys.drop("early.whl")
    keys.sender.wait_sent(1)
    keys.receiver.wait_status(lambda status: status["link"]["drops"]["sender"] > 0, "drops of the new key")
    assert keys.delivered() == set()

    shutil.copy(copy, keys.receiver.trusted / "next.pub")
    keys.receiver.stop()
    keys.receiver.start()
    keys.drop("good.whl")
    keys.receiver.wait_delivered("good.whl")
    assert "key_announced" not in keys.reasons()


def secret_key_beside(keys):
    shutil.copy(keys.secrets["alice"], keys.approval / "backup")
    return r"is a secret key"


def expiry_that_is_none(keys):
    (keys.approval / "alice.expires").write_text("next week\n")
    return r"alice\.expires:1: this is no date"


def senders_key_as_approver(keys):
    shutil.copy(keys.sender.public, keys.approval / "sender.pub")
    return r"receiver\.conf:\d+: approval_keys: sender\.pub is a sender's key too"


def more_required_than_there_are(keys):
    keys.receiver.sections["receiver"]["required_signatures"] = 3
    return r"receiver\.conf:\d+: required_signatures: 3 are required, and there are only 2 keys"


def approver_that_is_not_there(keys):
    keys.receiver.sections["channel x"] = {"approvers": "alice dave"}
    return r"receiver\.conf:\d+: approvers: there is no dave\.pub"


@pytest.mark.parametrize("spoil", [secret_key_beside, expiry_that_is_none, senders_key_as_approver,
                                   more_required_than_there_are, approver_that_is_not_there])
def test_a_check_of_the_configuration_tells_what_is_wrong_with_the_keys(scratch, spoil):
    keys = Keys(scratch, required=2)
    assert keys.receiver.run_once("-n").returncode == 0
    words = spoil(keys)
    done = keys.receiver.run_once("-n")
    assert done.returncode == harness.EX_CONFIG
    assert re.search(words, done.stderr), done.stderr


def test_a_check_of_the_configuration_names_keys_that_count_no_more(scratch):
    keys = Keys(scratch)
    (keys.approval / "bob.revoked").write_text("lost\n")
    (keys.receiver.trusted / f"{keys.sender_name}.expires").write_text("2020-01-01\n")
    done = keys.receiver.run_once("-n")
    assert done.returncode == 0
    assert re.search(r"receiver\.conf:\d+: approval_keys: bob\.pub is revoked: lost", done.stderr)
    assert re.search(r"receiver\.conf:\d+: trusted_keys: \S+\.pub expired at 2020-01-01", done.stderr)
