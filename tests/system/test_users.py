# SPDX-License-Identifier: Apache-2.0
"""Sender, two operators, receiver and consumer under five uids, none of them root."""

import grp
import os
import re
import shutil
from pathlib import Path

import content
import harness
import pytest
from waiting import wait_until

pytestmark = pytest.mark.root

SENDER, OPERATOR, OTHER_OPERATOR, RECEIVER, CONSUMER = 61001, 61002, 61003, 61004, 61005
DROPPERS, CONSUMERS = 62001, 62002
ASKERS = 4  # must have a name


def as_user(uid, *groups, capabilities=""):
    prefix = ["setpriv", f"--reuid={uid}", f"--regid={uid}"]
    prefix.append(f"--groups={','.join(map(str, groups))}" if groups else "--clear-groups")
    if capabilities:
        prefix += [f"--inh-caps={capabilities}", f"--ambient-caps={capabilities}"]
    return [*prefix, "--"]


def give(path, uid, gid, mode):
    os.chown(path, uid, gid)
    os.chmod(path, mode)


@pytest.fixture
def sides(scratch):
    port = harness.free_port()
    sender = harness.Sender(scratch / "low", f"127.0.0.1:{port}",
                            prefix=as_user(SENDER, DROPPERS, ASKERS, capabilities="+lease,+dac_override"),
                            replay={"group": grp.getgrgid(ASKERS).gr_name})
    receiver = harness.Receiver(scratch / "high", f"127.0.0.1:{port}", [sender.public],
                                prefix=as_user(RECEIVER, CONSUMERS))
    sender.arguments()
    receiver.arguments()
    for path in (sender.key, sender.state, sender.status_file.parent, sender.config):
        give(path, SENDER, SENDER, 0o600 if path == sender.key else 0o755)
    for path in (receiver.state, receiver.status_file.parent, receiver.config):
        give(path, RECEIVER, RECEIVER, 0o755)
    for path in (sender.spool, sender.channel("wheels")):
        give(path, SENDER, DROPPERS, 0o2770)
    give(receiver.intake, RECEIVER, CONSUMERS, 0o2770)
    receiver.start()
    sender.start()
    return sender, receiver


def drop_as(uid, source, spool, umask):
    """An operator's `cp` and `mv`, with a umask that keeps everybody else out."""
    hidden = spool / f".{source.name}"
    script = f"umask {umask:o} && cp -r -- \"$1\" \"$2\" && mv -- \"$2\" \"$3\""
    harness.run([*as_user(uid, DROPPERS), "sh", "-c", script, "sh", source, hidden, spool / source.name], check=0)


def test_five_users_and_a_consumer_that_takes_and_deletes(sides, scratch):
    sender, receiver = sides
    file = content.write_file(scratch / "wheel.whl", 300_000)
    tree = content.make_tree(scratch / "tree", 60)
    expected = content.sha256_of(file), [fact[:3] for fact in sorted(content.facts(tree).values()) if fact[0] == "file"]
    drop_as(OPERATOR, file, sender.spool / "wheels", 0o077)
    drop_as(OTHER_OPERATOR, tree, sender.spool / "wheels", 0o077)
    first = receiver.wait_delivered("wheel.whl", "wheels")
    second = receiver.wait_delivered("tree", "wheels")
    consumer = as_user(CONSUMER, CONSUMERS)
    harness.run([*consumer, "sha256sum", "--quiet", "-c", "../SHA256SUMS"], check=0, cwd=first.path / "payload")
    assert content.sha256_of(first.item) == expected[0]
    assert [fact[:3] for fact in sorted(content.facts(second.item).values()) if fact[0] == "file"] == expected[1]
    # One is taken by a rename and emptied, the other deleted where it lies.
    taken = receiver.intake / ".consumed"
    harness.run([*consumer, "mv", "--", first.path, taken], check=0)
    harness.run([*consumer, "rm", "-r", "--", taken, second.path], check=0)
    assert receiver.deliveries() == []
    drop_as(OPERATOR, file, sender.spool / "wheels", 0o077)
    receiver.wait_delivered("wheel.whl", "wheels")


def test_the_origin_user_is_named_in_the_manifest(sides, scratch):
    sender, receiver = sides
    drop_as(OPERATOR, content.write_file(scratch / "whose", 10), sender.spool / "wheels", 0o077)
    delivery = receiver.wait_delivered("whose", "wheels")
    assert delivery.manifest["origin_user"] in (str(OPERATOR), f"uid {OPERATOR}")


def test_neither_daemon_lets_strangers_look_into_its_work(sides):
    sender, receiver = sides
    assert (receiver.intake / ".staging").stat().st_mode & 0o007 == 0
    assert (receiver.intake / ".quarantine").stat().st_mode & 0o077 == 0
    assert (sender.spool / ".sending").stat().st_mode & 0o007 == 0


def test_an_item_that_cannot_be_claimed_stays_and_the_status_says_what_mends_it(scratch):
    """Without its capabilities the sender can't rename a directory that someone else owns."""
    port = harness.free_port()
    sender = harness.Sender(scratch / "low", f"127.0.0.1:{port}", prefix=as_user(SENDER, DROPPERS))
    sender.arguments()
    for path in (sender.key, sender.state, sender.status_file.parent, sender.config):
        give(path, SENDER, SENDER, 0o600 if path == sender.key else 0o755)
    for path in (sender.spool, sender.channel("wheels")):
        give(path, SENDER, DROPPERS, 0o2770)
    drop_as(OPERATOR, content.make_tree(scratch / "stuck", 3), sender.spool / "wheels", 0o027)
    drop_as(OPERATOR, content.write_file(scratch / "free", 100), sender.spool / "wheels", 0o002)
    os.chown(sender.spool / "wheels" / "free", SENDER, DROPPERS)
    sender.start()
    status = sender.wait_status(lambda status: any("stuck" in reason["action"] for reason in status["reasons"]),
                                "the stuck item named")
    (reason,) = [one for one in status["reasons"] if "stuck" in one["action"]]
    assert any(word in reason["action"] for word in ("chmod", "chown", "setfacl", "mv"))
    assert status["health"] == "degraded"
    sender.wait_sent(1)
    assert (sender.spool / "wheels" / "stuck").is_dir()


def test_a_file_that_the_sender_may_not_read_is_refused_with_a_reason(scratch):
    port = harness.free_port()
    sender = harness.Sender(scratch / "low", f"127.0.0.1:{port}", prefix=as_user(SENDER, DROPPERS))
    sender.arguments()
    tree = content.make_tree(scratch / "tree", 3)
    (tree / "secret").write_bytes(b"unreadable")
    shutil.move(tree, sender.channel("wheels") / ".tree")
    for path in (sender.key, sender.state, sender.status_file.parent, sender.config):
        give(path, SENDER, SENDER, 0o600 if path == sender.key else 0o755)
    for path in (sender.spool, sender.spool / "wheels"):
        give(path, SENDER, DROPPERS, 0o2770)
    for path in [sender.spool / "wheels" / ".tree", *(sender.spool / "wheels" / ".tree").rglob("*")]:
        os.chown(path, SENDER, DROPPERS)
    (sender.spool / "wheels" / ".tree" / "secret").chmod(0)
    os.rename(sender.spool / "wheels" / ".tree", sender.spool / "wheels" / "tree")
    sender.start()
    reason = sender.wait_failed(b"tree")
    assert "secret" in reason
    wait_until(lambda: not (sender.spool / "wheels" / "tree").exists(), 5, "the item out of the way")


def test_who_is_in_the_group_may_ask_for_a_replay_and_is_named(sides, scratch):
    sender, receiver = sides
    drop_as(OPERATOR, content.write_file(scratch / "wheel.whl", 1000), sender.spool / "wheels", 0o077)
    receiver.wait_delivered("wheel.whl", "wheels")
    sender.wait_sent(1)
    sender.config.chmod(0o644)
    command = [harness.BUILD / "diodecast", "replay", "-c", sender.config, "--last", "1"]
    done = harness.run([*as_user(OTHER_OPERATOR, DROPPERS), *command])
    assert done.returncode == 77 and f"group {grp.getgrgid(ASKERS).gr_name}" in done.stderr
    harness.run([*as_user(OPERATOR, DROPPERS, ASKERS), *command], check=0)
    status = sender.wait_status(lambda status: status["replays"]["done_total"] == 1, "the replay is over")
    assert [one["requester"] for one in status["replays"]["requests"]] == [str(OPERATOR)]
    requests = sender.spool / ".requests"
    info = requests.stat()
    assert (info.st_uid, info.st_gid, info.st_mode & 0o7777) == (SENDER, ASKERS, 0o3770)


def test_the_memory_that_trains_leave_from_is_registered_and_so_pinned(sides):
    """Locked memory counts by user: none but this one's is in the way."""
    sender, _ = sides
    log = (sender.directory / "diodecast-sender.log").read_text()
    (blocks,) = re.findall(r"blocks take ([\d.]+) MiB", log)
    (pinned,) = re.findall(r"^VmPin:\s+(\d+) kB$", Path(f"/proc/{sender.program.pid}/status").read_text(), re.MULTILINE)
    print(f"{blocks} MiB of blocks, {pinned} KiB pinned")
    assert int(pinned) >= 0.95 * float(blocks) * 1024, log
