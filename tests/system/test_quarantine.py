# SPDX-License-Identifier: Apache-2.0
"""What is held back or refused on the high side, what operators do with it, and what one transfer may be."""

import json
import os
import shutil
import stat

import content
import harness
import pytest
from waiting import wait_until

EX_USAGE, EX_DATAERR = 64, 65


class Held:
    """A pair whose receiver wants an approval that nobody can give yet."""

    def __init__(self, scratch, **receiver):
        port = harness.free_port()
        self.scratch = scratch
        self.approval = scratch / "approval.d"
        self.approval.mkdir()
        self.key = harness.make_key(scratch, "anna")
        shutil.copy(harness.make_key(scratch, "boris")[1], self.approval / "boris.pub")
        self.sender = harness.Sender(scratch / "low", f"127.0.0.1:{port}")
        self.receiver = harness.Receiver(scratch / "high", f"127.0.0.1:{port}", [self.sender.public], receiver={
            "approval_keys": self.approval, "required_signatures": 1, **receiver})
        self.quarantine = self.receiver.intake / ".quarantine"

    def start(self):
        self.receiver.start()
        self.sender.start()
        self.receiver.wait_heard()
        return self

    def put(self, name, size=3000):
        """Drops a file that anna has approved, and waits until it is held; gives its name in the quarantine."""
        item = content.write_file(self.scratch / name, size, seed=name)
        harness.diodecast("sign", item, "-s", self.key[0], "--channel", "wheels", check=0)
        harness.diodecast("put", item, "wheels", "-c", self.sender.config, "--approval", f"{item}.approval", check=0)
        return self.wait_held(name)["quarantine_name"]

    def wait_held(self, name):
        def find(status):
            return next((one for one in status["transfers"]["held"] if one["name"] == name), None)

        return find(self.receiver.wait_status(find, f"{name} held back"))

    def install_key(self):
        """From now on anna's approvals count."""
        shutil.copy(self.key[1], self.approval / "anna.pub")
        self.receiver.wait_status(
            lambda status: any(one["name"] == "anna" for one in status["keys"]["approvers"]), "anna's key")

    def ask(self, *arguments, check=0):
        done = harness.diodecast("quarantine", *arguments, "-c", self.receiver.config, "--json", check=check)
        return json.loads(done.stdout)

    def names(self):
        return sorted(os.listdir(self.quarantine))


@pytest.fixture
def held(scratch):
    return Held(scratch).start()


def test_what_is_held_waits_whole_until_a_recheck_delivers_it_once(held):
    name = held.put("torch.whl", 3_000_000)
    facts = content.facts(held.quarantine / name / "payload" / "torch.whl")
    status = held.receiver.status()
    assert status["transfers"]["held_total"] == 1 and status["transfers"]["held"][0]["kept"] == "all"
    assert status["health"] == "degraded"
    assert "transfers_held" in [reason["code"] for reason in status["reasons"]]
    assert status["transfers"]["never_seen_total"] == status["transfers"]["incomplete_total"] == 0
    assert stat.S_IMODE(held.quarantine.stat().st_mode) == 0o700
    assert held.receiver.deliveries() == []

    answer = held.ask("recheck", name, check=EX_DATAERR)
    assert "stays held back" in answer["items"][0]["message"]
    listed = held.ask("list")["items"]
    assert [one["name"] for one in listed] == [name] and listed[0]["channel"] == "wheels"
    shown = held.ask("show", name)["items"][0]
    assert shown["entries"] == [{"path": "torch.whl", "kind": "file", "size": 3_000_000}]
    assert len(shown["approvals"]) == 1

    held.install_key()
    held.receiver.kill()
    held.receiver.start()
    assert held.ask("recheck")["items"][0]["message"] == "delivered"
    (delivery,) = held.receiver.deliveries("wheels")
    delivery.check(facts, held.sender.public)
    assert not (delivery.path / "reason").exists()
    assert held.names() == []
    held.receiver.wait_status(lambda status: status["transfers"]["held_total"] == 0 and
                              status["transfers"]["delivered_total"] == 1, "nothing held")
    held.sender.drop(content.write_file(held.scratch / "not-approved", 100))
    held.wait_held("not-approved")  # and so for the next one
    assert len(held.receiver.deliveries()) == 1


def test_what_is_discarded_is_gone_for_good_and_the_audit_log_says_by_whom(held):
    name = held.put("one")
    harness.diodecast("quarantine", "discard", "-c", held.receiver.config, check=EX_USAGE)
    held.ask("discard", "0000000000000009-00000000-none", check=EX_DATAERR)
    assert held.ask("discard", name, "--reason", "not ours")["items"][0]["message"] == "discarded"
    assert held.names() == []
    held.receiver.wait_status(lambda status: status["transfers"]["held_total"] == 0, "nothing held")
    assert held.receiver.stop() == 0
    events = [json.loads(line) for path in sorted((held.receiver.state / "audit").glob("*.jsonl"))
              for line in path.read_text().splitlines()]
    by_event = {one["event"]: one for one in events}
    assert by_event["held"]["name"] == "one" and "approv" in by_event["held"]["detail"]
    assert by_event["discarded"]["detail"] == "not ours" and by_event["discarded"]["actor"]
    assert "delivered" not in by_event
    held.receiver.start()
    status = held.receiver.wait_heard()
    assert status["transfers"]["never_seen_total"] == 0


def test_a_full_quarantine_keeps_only_the_manifest_and_says_so(scratch):
    held = Held(scratch, quarantine="1MiB").start()
    held.put("fits", 600_000)
    name = held.put("does-not", 600_000)
    assert held.wait_held("fits")["kept"] == "all"
    late = held.wait_held("does-not")
    assert late["kept"] == "manifest" and "full" in late["reason"]
    assert {"manifest.json", "manifest.pb", "manifest.pb.minisig", "reason"} <= set(os.listdir(held.quarantine / name))
    assert not (held.quarantine / name / "payload").exists()
    status = held.receiver.status()
    assert status["quarantine"]["not_kept_total"] == 1
    assert any("not kept" in reason["action"] for reason in status["reasons"])


@pytest.mark.parametrize("key, value, what", [
    ("max_size", "1MiB", "large"),
    pytest.param("max_artifacts", "3", "many", marks=pytest.mark.long),
    pytest.param("max_path", "20", "long", marks=pytest.mark.long),
    ("max_depth", "3", "deep"),
])
def test_a_transfer_beyond_a_limit_is_refused_with_the_reason_and_only_that_one(scratch, key, value, what):
    port = harness.free_port()
    sender = harness.Sender(scratch / "low", f"127.0.0.1:{port}")
    receiver = harness.Receiver(scratch / "high", f"127.0.0.1:{port}", [sender.public], receiver={key: value})
    item = scratch / what
    if what == "large":
        content.write_file(item, 2 << 20)
    else:
        item.mkdir()
        inner = {"many": ["a", "b", "c", "d"], "long": ["a-name-of-many-letters"], "deep": ["a/b/c"]}[what]
        for name in inner:
            (item / name).parent.mkdir(parents=True, exist_ok=True)
            (item / name).write_text("x")
    receiver.start()
    sender.start()
    receiver.wait_heard()
    sender.drop(item)
    sender.drop(content.write_file(scratch / "small", 1000))
    receiver.wait_delivered("small")

    def reasons():
        found = [path.read_text() for path in (receiver.intake / ".quarantine").glob("*/reason")]
        return [text for text in found if key in text]

    assert wait_until(reasons, 30, "the reason in the quarantine", watch=[receiver.intake / ".quarantine"])
    status = receiver.wait_status(
        lambda status: any(one["code"] == "manifest_quarantined" for one in status["reasons"]),
        "the refusal in the status")
    assert [one.name for one in receiver.deliveries()] == ["small"]
    assert status["transfers"]["delivered_total"] == 1


def test_a_refused_manifest_is_listed_beside_what_is_held(scratch):
    held = Held(scratch, max_size="1MiB").start()
    held.put("one")
    held.sender.drop(content.write_file(scratch / "large", 2 << 20))
    held.receiver.wait_status(lambda status: any(one["code"] == "manifest_quarantined" for one in status["reasons"]),
                              "the refusal")
    wait_until(lambda: len(held.names()) == 2, 30, "both in the quarantine", watch=[held.quarantine])
    kinds = {one["kind"]: one for one in held.ask("list")["items"]}
    assert set(kinds) == {"transfer", "manifest"} and "max_size" in kinds["manifest"]["reason"]
    plain = harness.diodecast("quarantine", "list", "-c", held.receiver.config, check=0).stdout
    assert kinds["manifest"]["name"] in plain and kinds["transfer"]["reason"] in plain
    held.ask("discard", kinds["manifest"]["name"])
    assert held.names() == [kinds["transfer"]["name"]]


def test_hidden_names_stand_in_no_log_and_can_be_looked_up(pair, scratch):
    both = pair(sender={"log_names": "hash"}, receiver={"receiver": {"log_names": "hash"}})
    os.mkfifo(scratch / "secret-pipe")
    both.sender.drop(content.write_file(scratch / "secret-wheel", 3000))
    delivery = both.receiver.wait_delivered("secret-wheel")
    both.sender.drop(scratch / "secret-pipe")
    both.sender.wait_failed(b"secret-pipe")
    hashes = {}
    for side, other in ((both.sender, both.receiver), (both.receiver, both.sender)):
        assert side.stop() == 0
        text = side.program.log.read_text()
        assert "secret" not in text
        key = side.state / "names.key"
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        assert key.read_bytes() != (other.state / "names.key").read_bytes()
        done = harness.diodecast("log-name", "-c", side.config, "secret-wheel", "secret-pipe", check=0)
        hashes[side] = dict(reversed(line.split("  ")) for line in done.stdout.splitlines())
    assert hashes[both.receiver]["secret-wheel"] in both.receiver.program.log.read_text()
    assert hashes[both.sender]["secret-pipe"] in both.sender.program.log.read_text()
    assert delivery.manifest["name"] == "secret-wheel"  # only logs hide it
    for hidden in (".sent", ".sending", ".failed"):
        assert stat.S_IMODE((both.sender.spool / hidden).stat().st_mode) == 0o700
    assert stat.S_IMODE(both.receiver.status_file.stat().st_mode) == 0o640
