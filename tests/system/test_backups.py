# SPDX-License-Identifier: Apache-2.0
"""States that were put back, or begun anew, while there was something under way: no false gap comes of it."""

import shutil
import sqlite3

import content
import harness

MIB = 1 << 20
SEALED = 3  # state of the sender's ledger


def drop(both, scratch, *names, size=20_000):
    for number, name in enumerate(names):
        both.sender.drop(content.write_file(scratch / name, size, seed=number))


def ranges(status):
    return [(one["first"], one["last"]) for one in status["transfers"]["never_seen"]]


def wait_settled(receiver, sequence):
    """Until numbers up to this are settled and a few seconds more have gone by: what is missing of them is named."""

    def is_settled(status):
        return any(one["settled_sequence"] >= sequence for one in status["senders"])

    receiver.wait_status(is_settled, f"sequence {sequence} is settled")
    written = set()
    return receiver.wait_status(lambda status: written.add(status["written_at"]) or len(written) > 3, "a few statuses")


def set_back(daemon, saved):
    shutil.rmtree(daemon.state)
    shutil.copytree(saved, daemon.state, symlinks=True)


def state_of(sender, name):
    database = sqlite3.connect(f"file:{sender.state}/sender.db?mode=ro", uri=True)
    try:
        return database.execute("SELECT state, sequence FROM transfer WHERE name = ?", (name,)).fetchone()
    finally:
        database.close()


def test_what_was_on_its_way_when_the_restored_backup_was_made_is_delivered_once_and_not_missed(fast_pair,
                                                                                                fast_scratch):
    both = fast_pair(link={"rate": "40Mbit/s"}, channels={"wheels": {"priority": "high"}})
    sender, receiver = both.sender, both.receiver
    receiver.wait_heard()
    drop(both, fast_scratch, "a")
    receiver.wait_count(1)
    sender.wait_sent(1)
    drop(both, fast_scratch, "model", size=8 * MIB)
    receiver.wait_status(lambda status: [one for one in status["transfers"]["open"] if one["bytes_received"] > MIB],
                         "the model is on its way")
    assert sender.stop() == 0
    shutil.copytree(sender.state, fast_scratch / "backup")
    sender.start()
    for number in range(3):
        sender.drop(content.write_file(fast_scratch / f"wheel-{number}", 20_000, seed=number), "wheels")
    receiver.wait_delivered("model")
    sender.kill()  # before all copies of its manifest have left
    assert state_of(sender, "model") == (SEALED, 5)
    epoch = receiver.newest_epoch()

    set_back(sender, fast_scratch / "backup")
    sender.start()
    receiver.wait_heard(after=epoch)
    status = receiver.wait_status(lambda status: status["alarms"], "an alarm")
    assert [one["code"] for one in status["alarms"]] == ["chain_rollback"]
    sender.wait_status(lambda status: status["last_sequence"] == 2, "the model has a number again")
    status = wait_settled(receiver, 2)
    assert ranges(status) == [] and status["transfers"]["incomplete"] == []
    drop(both, fast_scratch, "b")
    receiver.wait_delivered("b")
    assert receiver.stop() == 0
    receiver.start()
    status = wait_settled(receiver, 3)
    assert ranges(status) == []
    assert sorted(one.name for one in receiver.deliveries()) == ["a", "b", "model", "wheel-0", "wheel-1", "wheel-2"]
    ticket = status["alarms"][0]["ticket"]
    harness.diodecast("accept-loss", "-c", receiver.config, ticket, "--reason", "restored", check=0)
    receiver.wait_status(lambda status: status["health"] == "ok", "good health again")


def test_a_receiver_set_up_anew_begins_with_the_first_heartbeat_and_misses_nothing_from_before(fast_pair, fast_scratch):
    both = fast_pair()
    sender, receiver = both.sender, both.receiver
    receiver.wait_heard()
    drop(both, fast_scratch, "a", "b", "c")
    receiver.wait_count(3)
    sender.wait_sent(3)
    assert receiver.stop() == 0
    drop(both, fast_scratch, "d", "e")  # which nobody hears
    sender.wait_sent(5)
    for path in (receiver.state, receiver.intake):
        shutil.rmtree(path)
        path.mkdir()
    receiver.start()
    assert receiver.wait_heard()["senders"][0]["baseline_sequence"] == 5

    # From there on each number counts, also one that is lost while it is down; and no other one.
    receiver.kill()
    drop(both, fast_scratch, "f")
    sender.wait_sent(6)
    receiver.start()
    receiver.wait_status(lambda status: ranges(status) == [(6, 6)], "what was lost since")
    # What was before its time comes when somebody asks for it.
    harness.diodecast("replay", "-c", sender.config, "--sequence", "1-6", check=0)
    receiver.wait_count(6)
    receiver.wait_status(lambda status: ranges(status) == [] and status["health"] == "ok", "nothing missing")
