# SPDX-License-Identifier: Apache-2.0
"""What the high side knows of losses: in time, exactly, until it comes or an operator accepts it; and what backups do."""

import os
import shutil
import sqlite3
import time

import content
import harness
import pytest
import relay
from waiting import wait_until


@pytest.fixture
def line():
    return relay.Line()


@pytest.fixture
def both(fast_pair, line):
    pair = fast_pair(relay=lambda port: relay.Relay(port, line))
    pair.receiver.wait_heard()
    return pair


def drop(pair, scratch, *names, size=20_000):
    for number, name in enumerate(names):
        pair.sender.drop(content.write_file(scratch / name, size, seed=number))


def accept(receiver, *tickets, reason="the disk of the mirror died", **options):
    return harness.diodecast("accept-loss", "-c", receiver.config, *tickets, "--reason", reason, **options)


def ranges(status):
    return [(one["first"], one["last"]) for one in status["transfers"]["never_seen"]]


def codes(status):
    return {reason["code"] for reason in status["reasons"]}


def wait_never_seen(receiver, expected, timeout=15):
    return receiver.wait_status(lambda status: ranges(status) == expected, f"{expected} as never seen", timeout)


def lose(pair, line, scratch, *names):
    """Transfers that are sent while the line is down; returns when it is up again."""
    before = pair.sender.status()["sent_total"]
    line.cut()
    drop(pair, scratch, *names)
    sent = pair.sender.wait_sent(before + len(names))
    # The last group is sent once more a little later; by the second status from now on that is over.
    for _ in range(2):
        sent = pair.sender.wait_status(lambda status: status["written_at"] != sent["written_at"], "the next status")
    line.mend()
    return time.monotonic()


def test_what_an_outage_swallowed_is_named_within_three_seconds_and_can_be_written_off(both, line, fast_scratch):
    receiver = both.receiver
    up_again = lose(both, line, fast_scratch, "a", "b", "c")
    status = wait_never_seen(receiver, [(1, 3)])
    assert time.monotonic() - up_again < 3
    (entry,) = status["transfers"]["never_seen"]
    assert status["health"] == "degraded" and "transfers_never_seen" in codes(status)
    assert not entry["healing"] and not entry["chain_replaced"]
    words = harness.diodecast("ticket", "explain", entry["ticket"], check=0).stdout
    assert "3" in words

    wrong = entry["ticket"][:-1] + ("Q" if entry["ticket"][-1] != "Q" else "P")
    refused = accept(receiver, wrong)
    assert refused.returncode != 0 and receiver.status()["transfers"]["never_seen"]
    done = accept(receiver, entry["ticket"], check=0)
    assert "3 transfers" in done.stdout
    receiver.wait_status(lambda status: ranges(status) == [] and status["health"] == "ok", "good health again")
    accept(receiver, entry["ticket"], check=0)  # asked again, answered again
    with sqlite3.connect(f"file:{receiver.state}/receiver.db?mode=ro", uri=True) as database:
        rows = list(database.execute("SELECT first, last, reason FROM written_off"))
    assert rows == [(1, 3, "the disk of the mirror died")]
    assert receiver.stop() == 0
    receiver.start()
    receiver.wait_heard()
    drop(both, fast_scratch, "d")
    receiver.wait_delivered("d")
    assert ranges(receiver.status()) == []

    # It comes all the same.
    harness.diodecast("replay", "-c", both.sender.config, entry["ticket"], check=0)
    receiver.wait_count(4)


def test_an_incomplete_transfer_names_its_chunks_and_is_discarded_when_it_is_written_off(both, line, fast_scratch):
    receiver = both.receiver
    line.lose(6000, after=4000)
    drop(both, fast_scratch, "model", size=40 << 20)
    status = receiver.wait_status(lambda status: status["transfers"]["incomplete"]
                                  and status["transfers"]["incomplete"][0]["ticket"], "an incomplete transfer", 40)
    (entry,) = status["transfers"]["incomplete"]
    chunks = entry["missing_chunks"]
    assert entry["manifest_held"] and 0 < chunks["count"] < 10
    listed = [number for first, last in chunks["ranges"] for number in range(first, last + 1)]
    assert len(listed) == chunks["count"] and set(listed) < set(range(10))
    assert (chunks["count"] - 2) * (4 << 20) <= entry["missing_bytes"] <= chunks["count"] * (4 << 20)
    accept(receiver, entry["ticket"], check=0)
    receiver.wait_status(lambda status: status["transfers"]["incomplete"] == [] and status["health"] == "ok",
                         "good health again")
    staging = receiver.intake / ".staging"
    wait_until(lambda: not list(staging.iterdir()), 10, "an empty staging directory", watch=[staging])
    assert ranges(receiver.status()) == []

    harness.diodecast("replay", "-c", both.sender.config, "--sequence", "1", check=0)
    receiver.wait_delivered("model")


def test_a_ticket_tells_no_more_than_the_configuration_allows(both, line, fast_scratch):
    receiver = both.receiver
    lose(both, line, fast_scratch, "a")
    wait_never_seen(receiver, [(1, 1)])
    receiver.stop()
    receiver.sections["receiver"]["tickets"] = "off"
    receiver.start()
    status = wait_never_seen(receiver, [(1, 1)])
    assert status["transfers"]["never_seen"][0]["ticket"] is None


def litter(directory):
    """What somebody of the group may put where requests are expected."""
    names = (directory / f"{number:032x}.request" for number in range(1, 100))
    os.mkfifo(next(names))
    next(names).mkdir()
    next(names).symlink_to("/etc/passwd")
    os.link(content.write_file(directory / "other", 10, seed=1), next(names))
    next(names).write_text("x" * (1 << 20))
    next(names).write_text("[" * 50_000)
    for number in range(20):
        next(names).write_text('{"kind": "replay", "last": %d}' % (number + 1))
    for name in names:
        name.write_text("{}")
        name.chmod(0o666)


def test_litter_among_the_requests_is_cleared_and_holds_up_nobody(both, line, fast_scratch):
    receiver = both.receiver
    lose(both, line, fast_scratch, "a")
    (entry,) = wait_never_seen(receiver, [(1, 1)])["transfers"]["never_seen"]
    requests = receiver.state / "requests"
    litter(requests)
    # Older than what follows, so that it is met first.
    done = accept(receiver, entry["ticket"], check=0)
    assert "1 transfer is written off" in done.stdout
    # The answer comes before its request goes, so that a crash between them asks once more.
    wait_until(lambda: not list(requests.glob("*.request")), 10, "no request", watch=[requests])
    assert receiver.stop() == 0


def set_back(daemon, saved, directory):
    shutil.rmtree(directory)
    shutil.copytree(saved, directory, symlinks=True)


def test_a_sender_restored_from_an_old_backup_is_an_alarm_without_false_gaps(both, fast_scratch):
    sender, receiver = both.sender, both.receiver
    drop(both, fast_scratch, "a", "b")
    receiver.wait_count(2)
    sender.wait_sent(2)
    assert sender.stop() == 0
    shutil.copytree(sender.state, fast_scratch / "backup")
    sender.start()
    drop(both, fast_scratch, "c", "d", "e")
    receiver.wait_count(5)
    sender.wait_sent(3)
    assert sender.stop() == 0
    epoch = receiver.newest_epoch()
    set_back(sender, fast_scratch / "backup", sender.state)
    sender.start()
    receiver.wait_heard(after=epoch)
    status = receiver.wait_status(lambda status: status["alarms"], "an alarm")
    (alarm,) = status["alarms"]
    assert (alarm["code"], alarm["first"], alarm["last"]) == ("chain_rollback", 3, 5)
    assert status["health"] == "degraded" and codes(status) == {"chain_rollback"}
    assert ranges(status) == []

    # Numbers 3 and 4 come once more, of other transfers: they are delivered, and nothing counts as lost.
    drop(both, fast_scratch, "f", "g")
    receiver.wait_count(7)
    assert receiver.stop() == 0
    receiver.start()
    status = receiver.wait_status(lambda status: status["alarms"], "the alarm after a restart")
    assert ranges(status) == []
    assert sorted(one.sequence for one in receiver.deliveries()) == [1, 2, 3, 3, 4, 4, 5]
    accept(receiver, status["alarms"][0]["ticket"], reason="restored after the fire", check=0)
    receiver.wait_status(lambda status: status["alarms"] == [] and status["health"] == "ok", "good health again")


def test_a_receiver_restored_from_an_old_backup_misses_one_range_which_a_replay_brings(both, fast_scratch):
    receiver = both.receiver
    drop(both, fast_scratch, "a")
    receiver.wait_count(1)
    assert receiver.stop() == 0
    shutil.copytree(receiver.state, fast_scratch / "backup")
    receiver.start()
    receiver.wait_heard()
    drop(both, fast_scratch, "b", "c")
    receiver.wait_count(3)
    both.sender.wait_sent(3)
    assert receiver.stop() == 0
    set_back(receiver, fast_scratch / "backup", receiver.state)
    receiver.start()
    status = wait_never_seen(receiver, [(2, 3)])
    assert status["alarms"] == []
    harness.diodecast("replay", "-c", both.sender.config, status["transfers"]["never_seen"][0]["ticket"], check=0)
    receiver.wait_count(5)  # again, beside what the run before had delivered
    receiver.wait_status(lambda status: ranges(status) == [] and status["health"] == "ok", "nothing missing")


def test_of_a_sender_set_up_anew_the_old_gaps_stay_known(both, line, fast_scratch):
    sender, receiver = both.sender, both.receiver
    lose(both, line, fast_scratch, "a")
    wait_never_seen(receiver, [(1, 1)])
    assert sender.stop() == 0
    epoch = receiver.newest_epoch()
    for path in (sender.state, sender.spool):
        shutil.rmtree(path)
        path.mkdir()
    sender.start()
    receiver.wait_heard(after=epoch)
    drop(both, fast_scratch, "b")
    receiver.wait_delivered("b")
    status = wait_never_seen(receiver, [(1, 1)])
    (entry,) = status["transfers"]["never_seen"]
    assert entry["chain_replaced"] and status["alarms"] == []
    accept(receiver, entry["ticket"], check=0)
    receiver.wait_status(lambda status: ranges(status) == [] and status["health"] == "ok", "good health again")
