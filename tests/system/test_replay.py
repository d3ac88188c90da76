# SPDX-License-Identifier: Apache-2.0
"""What was lost is named by a ticket, and the ticket brings it: outages, replays, and what a replay can not do."""

import os
import time

import content
import harness
import pytest
import relay
from waiting import holds_for, wait_until

EX_DATAERR, EX_UNAVAILABLE = 65, 69
MTU = 9000
WIRE_SIZE = MTU + 38  # of a full datagram: Ethernet header and FCS, preamble and gap
RATE = 400_000_000
# An outage of 700 ms in 300 MiB; in the same proportion of less where time is short.
LARGE, OUTAGE_MS, BEFORE = (300 << 20, 700, 18_000) if os.environ.get("DIODECAST_LONG") else (120 << 20, 280, 8000)
FOREIGN = "GCRQ-U9SJ-2LEJ-2MJ"  # a right ticket of another chain: the example of proto/README.md


def outage(milliseconds=OUTAGE_MS, rate=RATE):
    """How many datagrams leave in this time at `rate` bit/s."""
    return int(rate * milliseconds / 1000 / 8 / WIRE_SIZE)


@pytest.fixture
def line():
    return relay.Line()


@pytest.fixture
def lossy_pair(fast_pair, line):
    """A factory of pairs that are heard over `line`; `rate` in bit/s."""

    def make(rate=RATE, replay=None, **options):
        both = fast_pair(relay=lambda port: relay.Relay(port, line), replay=replay,
                         link={"rate": f"{rate // 1000}kbit/s", "mtu": MTU}, **options)
        both.receiver.wait_heard()
        return both

    return make


def replay(both, *arguments, **options):
    return harness.diodecast("replay", "-c", both.sender.config, *arguments, **options)


def wait_incomplete(both, condition=lambda one: True, timeout=30):
    """The one incomplete transfer of the receiver's status, once it has a ticket and is as `condition` says."""

    def look(status):
        found = status["transfers"]["incomplete"]
        return len(found) == 1 and found[0]["ticket"] and condition(found[0])

    status = both.receiver.wait_status(look, "an incomplete transfer with its ticket", timeout)
    return status["transfers"]["incomplete"][0]


def wait_healthy(both):
    return both.receiver.wait_status(
        lambda status: status["health"] == "ok" and not status["transfers"]["incomplete"] and
        not status["transfers"]["never_seen"], "nothing missing any more")


def test_after_an_outage_and_a_kill_the_ticket_completes_a_large_transfer(lossy_pair, line, fast_scratch):
    both = lossy_pair()
    file = content.write_file(fast_scratch / "model.bin", LARGE)
    expected = content.facts(file)
    line.lose(outage(), after=BEFORE)
    both.sender.drop(file)
    both.sender.wait_sent(1)
    incomplete = wait_incomplete(both)
    assert line.lost == outage()
    assert incomplete["sequence"] == 1 and incomplete["healing"] is False
    assert 0 < incomplete["missing_bytes"] < LARGE / 4
    assert both.receiver.status()["health"] == "degraded"
    both.receiver.kill()
    both.receiver.start()
    incomplete = wait_incomplete(both)
    before = line.bytes
    done = replay(both, incomplete["ticket"], check=0)
    both.receiver.wait_delivered("model.bin").check(expected, both.sender.public)
    again = line.bytes - before
    assert again < LARGE / 4, "the ticket brings what is missing, not the whole"
    assert "1 transfer" in done.stdout
    wait_healthy(both)
    assert len(both.receiver.deliveries()) == 1
    print(f"outage of {OUTAGE_MS} ms in {LARGE >> 20} MiB: {incomplete['missing_bytes'] >> 20} MiB missing, "
          f"sent again {again >> 20} MiB ({100 * again / LARGE:.1f} %), ticket {incomplete['ticket']}")


def test_after_an_outage_an_idle_link_completes_a_large_transfer_by_itself(lossy_pair, line, fast_scratch):
    both = lossy_pair(replay={"idle_resend": "on"})
    file = content.write_file(fast_scratch / "model.bin", LARGE)
    expected = content.facts(file)
    line.lose(outage(), after=BEFORE)
    both.sender.drop(file)
    both.sender.wait_sent(1)
    seen = []

    def look(status):
        seen.extend(one["healing"] for one in status["transfers"]["incomplete"])
        return status["transfers"]["delivered_total"] == 1 or status["health"] != "ok"

    status = both.receiver.wait_status(look, "the delivery", 60)
    assert status["health"] == "ok", "nothing is to be done by anybody"
    assert all(seen), "what will be sent again by itself is not shown as lost"
    both.receiver.wait_delivered("model.bin").check(expected, both.sender.public)
    assert line.lost == outage()
    wait_healthy(both)
    assert set(line.repeats) == {1}


def test_transfers_that_an_outage_swallows_are_named_when_the_link_returns(lossy_pair, line, fast_scratch):
    both = lossy_pair()
    files = [content.write_file(fast_scratch / f"item-{number}", 1 << 20, seed=number) for number in range(1, 8)]
    expected = {file.name: content.facts(file) for file in files}
    for file in files[:2]:
        both.sender.drop(file)
    both.receiver.wait_count(2)
    both.sender.wait_sent(2)
    line.cut()
    for file in files[2:6]:
        both.sender.drop(file)
    both.sender.wait_sent(6)
    line.mend()
    returned = time.monotonic()
    status = both.receiver.wait_status(lambda status: status["transfers"]["never_seen"], "the gap is named")
    seconds = time.monotonic() - returned
    assert seconds < 3
    assert [(one["first"], one["last"]) for one in status["transfers"]["never_seen"]] == [(3, 6)]
    assert status["transfers"]["incomplete"] == [] and status["health"] == "degraded"
    both.sender.drop(files[6])
    both.receiver.wait_delivered("item-7")
    (gap,) = both.receiver.status()["transfers"]["never_seen"]
    assert (gap["first"], gap["last"], gap["healing"]) == (3, 6, False)
    replay(both, gap["ticket"], check=0)
    for delivery in both.receiver.wait_count(7):
        delivery.check(expected[delivery.name], both.sender.public)
    wait_healthy(both)
    assert sorted(line.repeats) == [3, 4, 5, 6]
    print(f"named {seconds:.2f} s after the link's return; ticket {gap['ticket']}")


def test_replays_merge_over_two_passes_with_loss_in_each(lossy_pair, line, fast_scratch):
    size = 64 << 20
    both = lossy_pair()
    file = content.write_file(fast_scratch / "model.bin", size)
    expected = content.facts(file)
    line.lose(3000, after=1000)
    both.sender.drop(file)
    both.sender.wait_sent(1)
    first = wait_incomplete(both)
    line.lose(1000, after=500)
    replay(both, first["ticket"], check=0)
    second = wait_incomplete(both, lambda one: one["missing_bytes"] < first["missing_bytes"] and not one["healing"])
    # Nothing of the replay is under way any more, so that the ticket is the last word.
    both.sender.wait_status(lambda status: status["replays"]["done_total"] == 1, "the replay is over")
    assert second["ticket"] != first["ticket"]
    both.receiver.kill()
    both.receiver.start()
    second = wait_incomplete(both)
    assert 0 < second["missing_bytes"] < first["missing_bytes"] < size
    replay(both, second["ticket"], check=0)
    both.receiver.wait_delivered("model.bin").check(expected, both.sender.public)
    wait_healthy(both)


def deliver(both, scratch, names, size=200_000):
    for count, name in enumerate(names, 1):
        both.sender.drop(content.write_file(scratch / name, size, seed=name))
        both.receiver.wait_delivered(name)
        both.sender.wait_sent(count)


def test_the_last_two_are_sent_again_and_delivered_once(lossy_pair, line, fast_scratch):
    both = lossy_pair()
    deliver(both, fast_scratch, ["one", "two", "three"])
    assert line.repeats == {}
    done = replay(both, "--last", "2", check=0)
    assert "default/two" in done.stdout and "default/three" in done.stdout and "default/one" not in done.stdout
    wait_until(lambda: all(line.repeats.get(number, 0) >= 200_000 for number in (2, 3)), 30, "both sent again")
    both.sender.drop(content.write_file(fast_scratch / "four", 1000))
    both.receiver.wait_delivered("four")
    assert sorted(line.repeats) == [2, 3]
    assert [one.name for one in both.receiver.deliveries()] == ["one", "two", "three", "four"]


def test_a_dry_run_says_what_it_would_send_and_sends_nothing(lossy_pair, line, fast_scratch):
    both = lossy_pair()
    deliver(both, fast_scratch, ["one"], 1 << 20)
    done = replay(both, "--sequence", "1", "--dry-run", check=0)
    assert "default/one" in done.stdout and "1 MiB" in done.stdout and "would send 1 transfer" in done.stdout
    holds_for(lambda: line.repeats == {}, 1, "nothing is sent again")
    assert list((both.sender.spool / ".requests").iterdir()) == []


def test_what_is_no_longer_retained_or_was_never_sent_is_said(lossy_pair, line, fast_scratch):
    both = lossy_pair(replay={"retain_bytes": "1MiB"})
    deliver(both, fast_scratch, ["one", "two"], 900 << 10)
    # It looks at its start what may go, and later once a minute.
    assert both.sender.stop() == 0
    both.sender.start()
    wait_until(lambda: len(list((both.sender.spool / ".sent").iterdir())) == 1, 30, "the older one is removed",
               watch=[both.sender.spool / ".sent"])
    done = replay(both, "--sequence", "1-2")
    assert done.returncode == EX_UNAVAILABLE
    one, two = (next(text for text in done.stdout.splitlines() if name in text) for name in ("/one", "/two"))
    assert "no longer retained" in one and "will be sent" in two
    done = replay(both, "--sequence", "7")
    assert done.returncode == EX_UNAVAILABLE and "not given out yet" in done.stdout + done.stderr
    wait_until(lambda: line.repeats.get(2, 0) >= 900 << 10, 30, "what can be sent is sent")
    assert 1 not in line.repeats


def test_a_wrong_ticket_is_explained_and_nothing_is_sent(lossy_pair, line, fast_scratch):
    both = lossy_pair()
    deliver(both, fast_scratch, ["one"])
    done = replay(both, FOREIGN)
    assert done.returncode == EX_DATAERR and "another chain" in done.stderr and FOREIGN in done.stderr
    done = replay(both, FOREIGN[:-1] + "Z")
    assert done.returncode == EX_DATAERR and "mistyped" in done.stderr
    holds_for(lambda: line.repeats == {}, 1, "nothing is sent again")


def test_a_replay_that_was_asked_for_while_the_sender_was_down_is_sent_at_its_start(lossy_pair, line, fast_scratch):
    both = lossy_pair()
    line.cut()
    both.sender.drop(content.write_file(fast_scratch / "one", 200_000))
    both.sender.wait_sent(1)
    assert both.sender.stop() == 0
    line.mend()
    done = replay(both, "--sequence", "1", "--wait", "100ms")
    assert done.returncode == 75 and "will be taken up" in done.stderr
    both.sender.start()
    both.receiver.wait_delivered("one")
    assert list((both.sender.spool / ".requests").glob("[0-9a-f]*.request")) == []


def test_what_was_changed_since_it_was_sent_is_not_sent_again(lossy_pair, line, fast_scratch):
    both = lossy_pair()
    line.cut()
    both.sender.drop(content.write_file(fast_scratch / "one", 10 << 20))
    both.sender.wait_sent(1)
    line.mend()
    (kept,) = (both.sender.spool / ".sent").glob("*/one")
    with open(kept, "r+b") as file:
        file.seek(5 << 20)
        file.write(b"changed")
    replay(both, "--last", "1")
    status = both.sender.wait_status(lambda status: status["replays"]["failed_total"] == 1, "the failure")
    assert "no longer what was sent" in status["replays"]["requests"][0]["message"]
    assert both.receiver.deliveries() == []
    assert line.repeats.get(1, 0) < 10 << 20


def test_a_replay_goes_on_where_it_was_when_the_sender_is_killed(lossy_pair, line, fast_scratch):
    size = 64 << 20
    both = lossy_pair(rate=200_000_000)
    file = content.write_file(fast_scratch / "model.bin", size)
    expected = content.facts(file)
    line.cut()
    both.sender.drop(file)
    both.sender.wait_sent(1)
    line.mend()
    replay(both, "--last", "1", check=0)
    wait_until(lambda: line.repeats.get(1, 0) > 0.9 * size, 30, "most of it is sent again")
    both.sender.kill()
    both.sender.start()
    both.receiver.wait_delivered("model.bin").check(expected, both.sender.public)
    # From its beginning it would be twice the size; the mark is behind by what is on its way, and a second.
    assert line.repeats[1] < 1.75 * size
    wait_healthy(both)
