# SPDX-License-Identifier: Apache-2.0
"""The commands that operators type, and the daemons' options."""

import json
import os
import signal
import stat
import time

import content
import harness
import pytest
from waiting import wait_until

EX_TEMPFAIL = 75


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


def test_keygen_keeps_the_secret_and_never_overwrites(scratch):
    secret, public = harness.make_key(scratch)
    assert mode(secret) == 0o600
    before = secret.read_bytes(), public.read_bytes()
    for arguments in (("-s", secret, "-p", scratch / "new.pub"), ("-s", scratch / "new.key", "-p", public)):
        assert harness.diodecast("keygen", *arguments).returncode != 0
    assert (secret.read_bytes(), public.read_bytes()) == before
    assert not (scratch / "new.pub").exists() and not (scratch / "new.key").exists()
    link = scratch / "link.key"
    harness.diodecast("keygen", "--link", link, check=0)
    assert mode(link) == 0o600
    kept = link.read_bytes()
    assert harness.diodecast("keygen", "--link", link).returncode != 0
    assert link.read_bytes() == kept


def test_stock_minisign_reads_the_public_key_and_verifies_a_manifest(pair, scratch):
    both = pair()
    both.sender.drop(content.write_file(scratch / "item", 1000))
    delivery = both.receiver.wait_delivered("item")
    done = harness.run(["minisign", "-Vm", delivery.path / "manifest.pb", "-p", both.sender.public], check=0)
    assert "Signature and comment signature verified" in done.stdout
    manifest = delivery.path / "manifest.pb"
    manifest.chmod(0o600)
    manifest.write_bytes(manifest.read_bytes()[:-1] + b"!")
    assert harness.run(["minisign", "-Vm", manifest, "-p", both.sender.public]).returncode != 0
    assert harness.diodecast("verify", "-p", both.sender.public, delivery.path).returncode != 0


@pytest.mark.parametrize("harm", ["change", "remove", "add", "link", "mode", "foreign key"])
def test_verify_notices_every_change_of_a_delivered_tree(pair, scratch, harm):
    both = pair()
    both.sender.drop(content.make_tree(scratch / "tree", 20))
    delivery = both.receiver.wait_delivered("tree")
    public = both.sender.public
    harness.diodecast("verify", "-p", public, delivery.path, check=0)
    victim = next(path for path in delivery.item.rglob("*.bin") if path.stat().st_size > 10)
    if harm == "change":
        victim.write_bytes(b"\0" * victim.stat().st_size)
    elif harm == "remove":
        victim.unlink()
    elif harm == "add":
        (delivery.item / "more").touch()
    elif harm == "link":
        target = victim.with_suffix(".moved")
        victim.rename(scratch / "moved")
        assert not target.exists()
        victim.symlink_to(scratch / "moved")
    elif harm == "mode":
        victim.chmod(victim.stat().st_mode ^ 0o111)
    else:
        public = harness.make_key(scratch, "other")[1]
    assert harness.diodecast("verify", "-p", public, delivery.path).returncode != 0


def test_once_sends_what_is_in_the_spool_and_ends(scratch):
    port = harness.free_port()
    sender = harness.Sender(scratch / "low", f"127.0.0.1:{port}")
    receiver = harness.Receiver(scratch / "high", f"127.0.0.1:{port}", [sender.public]).start()
    expected = {}
    for number in range(3):
        file = content.write_file(scratch / f"item-{number}", 1 << 20, seed=number)
        expected[file.name] = content.facts(file)
        sender.drop(file)
    tree = content.make_tree(scratch / "tree", 30)
    expected["tree"] = content.facts(tree)
    sender.drop(tree, "trees")
    done = sender.run_once("--once")
    assert done.returncode == 0, done.stderr
    found = {one.name: one for one in receiver.wait_count(4)}
    for name, facts in expected.items():
        found[name].check(facts, sender.public)
    assert sender.run_once("--once").returncode == 0, "an empty spool is no error"
    assert len(receiver.deliveries()) == 4


def test_once_fails_when_not_all_was_sent(scratch):
    sender = harness.Sender(scratch / "low", f"127.0.0.1:{harness.free_port()}", link={"rate": "1Mbit/s"})
    os.mkfifo(sender.channel("default") / "refused")
    assert sender.run_once("--once").returncode == EX_TEMPFAIL
    assert b"refused" in sender.failed()
    sender.drop(content.write_file(scratch / "slow", 4 << 20))
    program = harness.Program("once", sender.arguments("--once"), scratch).start()
    wait_until(lambda: not (sender.spool / "default" / "slow").exists(), 20, "the claim", alive=[program])
    assert program.stop() == EX_TEMPFAIL, "interrupted"


def test_put_drops_files_and_trees_safely(pair, scratch):
    both = pair()
    file = content.write_file(scratch / "file", 200_000)
    tree = content.make_tree(scratch / "tree", 30)
    expected = content.facts(file), content.facts(tree)
    harness.diodecast("put", file, tree, "wheels", "-c", both.sender.config, check=0)
    both.receiver.wait_delivered("file", "wheels").check(expected[0], both.sender.public)
    both.receiver.wait_delivered("tree", "wheels").check(expected[1], both.sender.public)
    assert file.exists() and tree.exists(), "put copies"


def test_put_says_what_is_wrong(pair, scratch):
    both = pair()
    file = content.write_file(scratch / "file", 10)
    for arguments in ((scratch / "absent", "wheels"), (file, "no/channel"), (file, "../up"), (file,)):
        done = harness.diodecast("put", *arguments, "-c", both.sender.config)
        assert done.returncode != 0 and done.stderr
    assert both.receiver.deliveries() == []
    assert [name for name in os.listdir(both.sender.spool) if not name.startswith(".")] == []


def test_status_shows_both_sides_and_fails_when_stale_or_failed(pair, scratch):
    both = pair()
    both.receiver.wait_heard()
    for daemon in (both.sender, both.receiver):
        assert harness.diodecast("status", daemon.status_file, check=0).stdout
    both.receiver.stop()
    document = json.loads(both.receiver.status_file.read_text())
    altered = scratch / "altered.json"
    document["written_at"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    document["state"] = both.sender.status()["state"]
    for health, good in (("ok", True), ("degraded", True), ("failed", False)):
        document["health"] = health
        altered.write_text(json.dumps(document))
        assert (harness.diodecast("status", altered).returncode == 0) == good, health
    document["health"] = "ok"
    document["written_at"] = "2001-01-01T00:00:00Z"
    altered.write_text(json.dumps(document))
    assert harness.diodecast("status", altered).returncode != 0, "stale"
    for broken in ("", "{", "[]", '{"health": 7}'):
        altered.write_text(broken)
        assert harness.diodecast("status", altered).returncode != 0, broken
    assert harness.diodecast("status", scratch / "absent.json").returncode != 0


def test_the_status_file_of_a_killed_daemon_goes_stale(pair):
    both = pair()
    both.receiver.kill()
    document = both.receiver.status()
    document["written_at"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - document["valid_for_s"] - 1))
    both.receiver.status_file.write_text(json.dumps(document))
    assert harness.diodecast("status", both.receiver.status_file).returncode != 0


def test_the_status_files_have_the_fields_that_monitoring_relies_on(pair, scratch):
    both = pair(damage={"drop": "1%"})
    both.sender.drop(content.write_file(scratch / "item", 2 << 20))
    both.receiver.wait_delivered("item")
    status = both.receiver.wait_status(lambda status: status["transfers"]["delivered_total"] == 1
                                       and status["intake"]["backlog_count"] == 1, "the delivery")
    for daemon, wanted in ((both.receiver, status), (both.sender, both.sender.wait_sent(1))):
        for field in ("schema_version", "written_at", "valid_for_s", "pid", "boot_id", "state", "health", "reasons"):
            assert field in wanted, (daemon.program_name, field)
    for path in ("link.last_datagram_at", "link.last_heartbeat_at", "link.clock_offset_s", "link.datagrams_total",
                 "link.lost_total", "link.drops", "fec.blocks_total", "fec.repaired_total", "fec.failed_total",
                 "transfers.delivered_total", "transfers.open", "transfers.incomplete", "transfers.never_seen",
                 "last_delivered", "intake.backlog_count", "intake.backlog_bytes", "intake.free_bytes"):
        value = status
        for part in path.split("."):
            assert part in value, path
            value = value[part]
    assert status["health"] == "ok"
    assert abs(status["link"]["clock_offset_s"]) < 5
    sent = both.sender.status()
    for path in ("queue.depth", "queue.bytes", "sending", "sent_total", "rate_bits_per_second", "last_sequence"):
        value = sent
        for part in path.split("."):
            assert part in value, path
            value = value[part]
    assert sent["last_sequence"] == 1 and sent["queue"]["depth"] == 0


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_daemon_that_is_asked_to_end_does_so_in_order(pair, scratch, name):
    both = pair(link={"rate": "100Mbit/s"})
    both.sender.drop(content.write_file(scratch / "large", 60 << 20))
    both.receiver.wait_status(lambda status: status["transfers"]["open"], "a transfer under way")
    for daemon in (both.sender, both.receiver):
        os.kill(daemon.program.pid, getattr(signal, name))
        assert daemon.program.wait(20) == 0


def test_version_and_help(scratch):
    for program in ("diodecast", "diodecast-sender", "diodecast-receiver"):
        assert harness.run([harness.BUILD / program, "--version"], check=0).stdout.startswith("diodecast")
        assert harness.run([harness.BUILD / program, "--help"], check=0).stdout
    assert harness.diodecast("no-such-command").returncode == 64
