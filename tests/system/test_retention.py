# SPDX-License-Identifier: Apache-2.0
"""What .sent keeps, who may ask for it, and what an idle link does with it."""

import grp
import os

import content
import harness
import pytest
from test_users import DROPPERS, OPERATOR, OTHER_OPERATOR, SENDER, as_user, give
from waiting import wait_until

MIB = 1 << 20


def make_sides(scratch, **sender_options):
    port = harness.free_port()
    sender = harness.Sender(scratch / "low", f"127.0.0.1:{port}", **sender_options)
    receiver = harness.Receiver(scratch / "high", f"127.0.0.1:{port}", [sender.public])
    return sender, receiver


def kept(sender):
    return {path.name for path in (sender.spool / ".sent").glob("*/*")}


def send(sender, scratch, *names, channel="default", size=MIB):
    for name in names:
        count = sender.status().get("sent_total", 0)
        sender.drop(content.write_file(scratch / name, size), channel)
        sender.wait_sent(count + 1)


def answered(*arguments):
    done = harness.diodecast("replay", *arguments)
    return done.returncode, done.stdout + done.stderr


def test_a_channel_keeps_no_more_than_its_own_bound_and_says_what_is_gone(scratch):
    sender, _ = make_sides(scratch, channels={"models": {"retain_bytes": "2500KiB"}})
    sender.start()
    send(sender, scratch, "wheel")
    send(sender, scratch, "one", "two", "three", channel="models")
    sender.stop()
    sender.start()
    sender.wait_status(lambda status: status["retained"]["count"] == 3, "one of four removed")
    assert kept(sender) == {"wheel", "two", "three"}
    code, text = answered("-c", sender.config, "--sequence", "2")
    assert code == os.EX_UNAVAILABLE and "retain" in text
    # Nothing but the manifest is left of it, and what is in the ledger is enough to know that.
    status = sender.status()
    assert status["sent_total"] == 4 and status["health"] == "ok"


def test_too_little_free_disk_takes_the_oldest_and_is_told_when_that_is_not_enough(scratch):
    sender, _ = make_sides(scratch)
    sender.start()
    send(sender, scratch, "one", "two")
    sender.stop()
    sender.sections["replay"]["retain_free"] = "100000TiB"
    sender.start()
    status = sender.wait_status(lambda status: any(one["code"] == "disk_low" for one in status["reasons"]), "disk low")
    assert status["health"] == "degraded" and kept(sender) == set()


def test_an_idle_link_brings_what_was_missed_and_then_rests(scratch):
    sender, receiver = make_sides(scratch)
    sender.start()
    send(sender, scratch, "one", "two", size=50_000)
    sender.stop()
    receiver.start()
    sender.sections["replay"] = {"idle_resend": "on", "idle_copies": "1"}
    sender.start()
    for name in ("one", "two"):
        receiver.wait_delivered(name)
    sender.wait_status(lambda status: status["healing"] == {"pending": 0, "sent_total": 2}, "both sent again")
    # A copy is a copy, also after a restart.
    sender.stop()
    sender.start()
    status = sender.wait_status(lambda status: status["link"]["heartbeats_sent"] > 2, "a while")
    assert status["healing"] == {"pending": 0, "sent_total": 0} and status["sending"] == []


def test_what_changed_in_sent_is_not_sent_again_and_told_once(scratch):
    sender, receiver = make_sides(scratch, replay={"idle_resend": "off"})
    sender.start()
    send(sender, scratch, "wheel", size=50_000)
    sender.stop()
    (item,) = (sender.spool / ".sent").glob("*/wheel")
    item.write_bytes(b"x" * 50_000)
    receiver.start()
    sender.sections["replay"]["idle_resend"] = "on"
    sender.start()
    wait_until(lambda: sender.program.log.read_text().count("is not sent again while the link is idle") == 1, 20,
               "the changed copy told", alive=[sender.program])
    sender.wait_status(lambda status: status["healing"]["pending"] == 0, "given up")
    code, text = answered("-c", sender.config, "--sequence", "1")
    assert code == 0, text
    status = sender.wait_status(lambda status: status["replays"]["failed_total"] == 1, "the replay failed")
    assert status["replays"]["requests"][0]["failed"] == 1
    assert "no longer" in status["replays"]["requests"][0]["message"]
    assert receiver.deliveries() == []


def test_the_directory_of_requests_is_closed_to_all_without_a_group(scratch):
    sender, _ = make_sides(scratch)
    sender.start()
    directory = sender.spool / ".requests"
    assert directory.stat().st_mode & 0o7777 == 0o700
    sender.stop()
    # Opened and closed again, as the configuration says.
    group = grp.getgrgid(os.getegid()).gr_name
    sender.sections["replay"]["group"] = group
    sender.start()
    assert directory.stat().st_mode & 0o7777 == 0o3770
    sender.stop()
    del sender.sections["replay"]["group"]
    sender.start()
    assert directory.stat().st_mode & 0o7777 == 0o700


@pytest.mark.root
def test_members_of_the_group_may_ask_and_nobody_else(scratch):
    group = next(one for one in grp.getgrall() if one.gr_gid not in (0, os.getegid()))
    port = harness.free_port()
    sender = harness.Sender(scratch / "low", f"127.0.0.1:{port}", replay={"group": group.gr_name},
                            prefix=as_user(SENDER, DROPPERS, group.gr_gid))
    sender.arguments()
    for path in (sender.key, sender.state, sender.status_file.parent, sender.config):
        give(path, SENDER, SENDER, 0o600 if path == sender.key else 0o755)
    give(sender.spool, SENDER, DROPPERS, 0o2771)
    give(sender.channel("wheels"), SENDER, DROPPERS, 0o2770)
    sender.start()
    file = content.write_file(scratch / "wheel", 1000)
    os.chown(file, SENDER, DROPPERS)
    sender.drop(file, "wheels")
    sender.wait_sent(1)
    directory = sender.spool / ".requests"
    assert directory.stat().st_gid == group.gr_gid and directory.stat().st_mode & 0o7777 == 0o3770
    ask = [harness.BUILD / "diodecast", "replay", "-c", sender.config, "--last", "1"]
    harness.run([*as_user(OPERATOR, group.gr_gid), *ask], check=0)
    sender.wait_status(lambda status: status["replays"]["done_total"] == 1, "the replay done")
    (request,) = sender.status()["replays"]["requests"]
    assert request["requester"] == str(OPERATOR)
    assert harness.run([*as_user(OTHER_OPERATOR, DROPPERS), *ask]).returncode != 0
    assert len(sender.status()["replays"]["requests"]) == 1
