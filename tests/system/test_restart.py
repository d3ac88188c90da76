# SPDX-License-Identifier: Apache-2.0
"""Order of start, restarts, kills: what the link carried is not lost, no number used twice, nothing delivered twice."""

import random
import sqlite3
from collections import Counter

import content
import harness
from waiting import wait_until


def make_sides(scratch, port=None, **sender_options):
    port = port or harness.free_port()
    sender = harness.Sender(scratch / "low", f"127.0.0.1:{port}", **sender_options)
    receiver = harness.Receiver(scratch / "high", f"127.0.0.1:{port}", [sender.public])
    return sender, receiver


def test_the_sender_may_start_first_and_both_may_restart(scratch):
    sender, receiver = make_sides(scratch)
    sender.start()
    receiver.start()
    receiver.wait_heard()
    for number in range(1, 5):
        name = f"item-{number}"
        sender.drop(content.write_file(scratch / name, 100_000, seed=number))
        receiver.wait_delivered(name)
        sender.wait_sent(number)
        side = sender if number % 2 else receiver
        assert side.stop() == 0
        side.start()
        receiver.wait_heard()
    assert [one.sequence for one in receiver.deliveries()] == [1, 2, 3, 4]


def test_what_lies_in_the_spool_at_the_start_is_sent(scratch):
    sender, receiver = make_sides(scratch)
    for name in ("one", "two"):
        sender.drop(content.write_file(scratch / name, 50_000))
    receiver.start()
    sender.start()
    for name in ("one", "two"):
        receiver.wait_delivered(name)


def test_two_senders_with_their_own_keys_feed_one_receiver(scratch):
    port = harness.free_port()
    senders = [harness.Sender(scratch / name, f"127.0.0.1:{port}", link={"rate": "100Mbit/s"}) for name in ("a", "b")]
    receiver = harness.Receiver(scratch / "high", f"127.0.0.1:{port}", [one.public for one in senders])
    receiver.start()
    expected = {}
    for number, sender in enumerate(senders):
        sender.start()
        file = content.write_file(scratch / f"from-{number}", 10 << 20, seed=number)
        expected[file.name] = content.facts(file)
        sender.drop(file, "default")
    for number, sender in enumerate(senders):
        delivery = receiver.wait_delivered(f"from-{number}")
        delivery.check(expected[f"from-{number}"], sender.public)
        assert delivery.sequence == 1
    assert len({one.sender_id for one in receiver.deliveries()}) == 2


def test_an_untrusted_sender_is_not_heard(scratch):
    sender, receiver = make_sides(scratch)
    stranger = harness.Sender(scratch / "stranger", sender.sections["link"]["peer"])
    receiver.start()
    stranger.start()
    stranger.drop(content.write_file(scratch / "forged", 1000))
    stranger.wait_sent(1)
    receiver.wait_status(lambda status: status["link"]["drops"]["sender"] > 10, "datagrams of a stranger counted")
    assert receiver.deliveries() == []


def test_a_consumer_that_takes_deliveries_does_not_confuse_a_restarted_receiver(scratch):
    sender, receiver = make_sides(scratch)
    receiver.start()
    sender.start()
    sender.drop(content.write_file(scratch / "taken", 1000))
    delivery = receiver.wait_delivered("taken")
    delivery.path.rename(scratch / "consumed")
    receiver.stop()
    receiver.start()
    sender.drop(content.write_file(scratch / "next", 1000))
    receiver.wait_delivered("next")
    assert len(receiver.deliveries()) == 1


def used_sequences(sender):
    with sqlite3.connect(f"file:{sender.state}/sender.db?mode=ro", uri=True) as database:
        tables = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
            if "sequence" in columns and "signed" in " ".join(columns):
                return [row[0] for row in database.execute(f"SELECT sequence FROM {table} WHERE sequence > 0")]
    raise AssertionError(f"no signed manifests in sender.db: {tables}")


def test_kills_of_the_sender_lose_nothing_and_reuse_no_sequence(scratch):
    chance = random.Random(1)
    sender, receiver = make_sides(scratch)
    receiver.start()
    sender.start()
    receiver.wait_heard()
    names = []
    for number in range(8):
        name = f"item-{number}"
        names.append(name)
        sender.drop(content.write_file(scratch / name, chance.randint(1, 4 << 20), seed=number))
        reached = chance.randint(0, 2)
        if reached == 0:
            wait_until(lambda: not (sender.spool / "default" / name).exists(), 20, "the claim", alive=[sender.program])
        elif reached == 1:
            sender.wait_status(lambda status: status["last_sequence"] > number - 2, "a sealed transfer")
        sender.kill()
        before = receiver.newest_epoch()
        sender.start()
        receiver.wait_heard(after=before)
    for name in names:
        receiver.wait_delivered(name)
    sender.wait_status(lambda status: status["queue"]["depth"] == 0, "an empty queue")
    sequences = [one.sequence for one in receiver.deliveries()]
    assert Counter(one.name for one in receiver.deliveries()) == Counter(names), "each once"
    assert len(set(sequences)) == len(sequences)
    assert sorted(used_sequences(sender)) == list(range(1, len(names) + 1))


def test_kills_of_the_receiver_deliver_nothing_twice_and_nothing_in_part(scratch):
    """What a dead receiver did not hear is lost to it; what it delivered stays delivered once."""
    chance = random.Random(2)
    sender, receiver = make_sides(scratch)
    receiver.start()
    sender.start()
    receiver.wait_heard()
    sizes = {}
    for number in range(8):
        name = f"item-{number}"
        sizes[name] = chance.randint(1, 6 << 20)
        sender.drop(content.write_file(scratch / name, sizes[name], seed=number))
        if chance.random() < 0.5:
            receiver.wait_status(lambda status: status["transfers"]["open"]
                                 or status["transfers"]["delivered_total"] > 0, "a transfer under way")
        receiver.kill()
        receiver.start()
        receiver.wait_heard()
    sender.wait_sent(8)
    sender.drop(content.write_file(scratch / "last", 1000))
    receiver.wait_delivered("last")
    found = receiver.deliveries()
    assert max(Counter(one.name for one in found).values()) == 1
    for one in found:
        if one.name != "last":
            assert one.item.stat().st_size == sizes[one.name]
        one.check_stock_tools(sender.public)
    # All of it is accounted for: delivered, waiting, or known as never seen.
    status = receiver.wait_status(lambda status: accounted(receiver, status) >= set(range(1, 10)), "all accounted for")
    assert status["transfers"]["delivered_total"] == len(found)


def accounted(receiver, status):
    numbers = {one.sequence for one in receiver.deliveries()}
    numbers |= {one["sequence"] for one in status["transfers"]["incomplete"]}
    for lost in status["transfers"]["never_seen"]:
        numbers |= set(range(lost["first"], lost["last"] + 1))
    return numbers
