# SPDX-License-Identifier: Apache-2.0
"""Restarts of the receiver without loss: its sockets outlive it, and a run hands its open blocks to the next."""

import shutil
import stat
import sys

import content
import harness
import holder
import pytest

BUFFER = 64 << 20
RESTARTS = 20


@pytest.fixture
def hold():
    """A factory of holder.Holder."""
    made = []

    def make(**options):
        made.append(holder.Holder(**options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def make_sides(scratch, held, receiver=None, **sender_options):
    sender = harness.Sender(scratch / "low", held.listen, **sender_options)
    return sender, holder.HeldReceiver(scratch / "high", held, [sender.public], **(receiver or {}))


def assert_nothing_lost(status):
    assert status["link"]["lost_total"] == 0, status["link"]
    assert status["fec"]["failed_total"] == 0, status["fec"]
    assert status["transfers"]["incomplete"] == [], status["transfers"]
    assert status["transfers"]["never_seen"] == [], status["transfers"]


def wait_datagrams(receiver, count):
    """Until this run has taken so many datagrams."""
    return receiver.wait_status(lambda status: status["link"]["datagrams_total"] >= count, f"{count} datagrams", 60)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_what_arrives_while_nobody_runs_waits_in_the_socket(scratch, hold, host):
    held = hold(host=host, lanes=2, order=[1, 0], buffer=BUFFER)
    sender, receiver = make_sides(scratch, held, link={"lanes": 2}, receiver={"link": {"lanes": 2}})
    receiver.start()
    sender.start()
    receiver.wait_heard()
    for number in range(2):
        assert receiver.stop() == 0
        file = content.write_file(scratch / f"item-{number}", 3_000_000, seed=number)
        facts = content.facts(file)
        sender.drop(file)
        sender.wait_sent(number + 1)
        receiver.start()
        receiver.wait_delivered(file.name).check(facts, sender.public)
    assert receiver.stop() == 0
    for status in receiver.finished:
        assert_nothing_lost(status)
    assert [one.sequence for one in receiver.deliveries()] == [1, 2]


def test_a_stop_hands_open_blocks_over_in_a_private_file_that_is_read_once(scratch, hold):
    held = hold(buffer=BUFFER)
    sender, receiver = make_sides(scratch, held, link={"rate": "20Mbit/s"}, fec={"burst": "200ms"})
    receiver.start()
    sender.start()
    sender.drop(content.write_file(scratch / "item", 20_000_000))
    file = receiver.status_file.parent / "handover"
    sizes = []
    for _ in range(3):
        wait_datagrams(receiver, 500)
        assert receiver.stop() == 0
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        sizes.append(file.stat().st_size)
        receiver.start()
        assert not file.exists()
    assert max(sizes) > 100_000  # blocks are open in all but the last moments of a group
    assert receiver.stop() == 0
    for status in receiver.finished:
        assert_nothing_lost(status)


def test_a_handover_of_another_kind_of_run_is_not_used(scratch, hold):
    held = hold(buffer=BUFFER)
    sender, receiver = make_sides(scratch, held, link={"rate": "20Mbit/s"})
    file = receiver.status_file.parent / "handover"
    receiver.start()
    sender.start()
    receiver.wait_heard()
    assert receiver.stop() == 0
    harness.diodecast("keygen", "--link", scratch / "link.key", check=0)
    receiver.sections["link"]["key"] = scratch / "link.key"
    receiver.start()
    assert not file.exists()
    assert receiver.stop() == 0
    receiver.sections["link"].pop("key")
    file.write_bytes(file.read_bytes()[:-1])
    receiver.start()
    receiver.wait_heard()
    sender.drop(content.write_file(scratch / "item", 100_000))
    receiver.wait_delivered("item")


def test_it_starts_where_it_can_make_no_socket(scratch, hold):
    held = hold()
    sender, receiver = make_sides(scratch, held)
    receiver.prefix = [sys.executable, holder.__file__]
    receiver.start()
    sender.start()
    sender.drop(content.write_file(scratch / "item", 100_000))
    receiver.wait_delivered("item")
    assert receiver.stop() == 0
    # Without passed sockets it has to make one, and can't: so the filter is there.
    receiver.holder.fds = []
    receiver.start(wait=False)
    assert receiver.program.wait(harness.START_S) != 0


@pytest.mark.root
def test_passed_sockets_work_in_a_network_namespace_without_links(scratch, hold):
    if not shutil.which("unshare"):
        pytest.skip("unshare is not installed")
    held = hold(buffer=BUFFER)
    sender, receiver = make_sides(scratch, held)
    receiver.prefix = ["unshare", "--net"]
    receiver.start()
    sender.start()
    sender.drop(content.write_file(scratch / "item", 100_000))
    receiver.wait_delivered("item")
    receiver.restart(wait=True)
    sender.drop(content.write_file(scratch / "second", 100_000))
    receiver.wait_delivered("second")


def test_passed_sockets_that_are_not_the_lanes_are_refused(scratch, hold):
    held = hold(lanes=2)
    _, receiver = make_sides(scratch, held, receiver={"link": {"lanes": 3}})
    receiver.start(wait=False)
    assert receiver.program.wait(harness.START_S) == harness.EX_CONFIG
    receiver.sections["link"]["lanes"] = 1
    receiver.start(wait=False)
    assert receiver.program.wait(harness.START_S) == harness.EX_CONFIG
    receiver.sections["link"]["lanes"] = 2
    receiver.start()
    assert receiver.stop() == 0


def test_a_kill_leaves_nothing_to_take_over_and_the_next_run_starts_clean(scratch, hold):
    held = hold(buffer=BUFFER)
    sender, receiver = make_sides(scratch, held)
    receiver.start()
    sender.start()
    receiver.wait_heard()
    receiver.restart(wait=True)
    receiver.kill()
    assert not (receiver.status_file.parent / "handover").exists()
    receiver.start()
    sender.drop(content.write_file(scratch / "item", 1_000_000))
    receiver.wait_delivered("item")
    assert receiver.stop() == 0
    assert receiver.finished[-1]["link"]["drops"].get("kernel_socket_buffer", 0) == 0


def test_twenty_restarts_in_a_transfer_of_1_gib_lose_no_block(fast_scratch, hold):
    held = hold(buffer=2 * BUFFER)
    sender, receiver = make_sides(fast_scratch, held, link={"rate": "300Mbit/s"})
    file = content.write_file(fast_scratch / "model", 1 << 30)
    facts = content.facts(file)
    receiver.start()
    sender.start()
    receiver.wait_heard()
    sender.drop(file)
    for _ in range(RESTARTS):
        assert_nothing_lost(wait_datagrams(receiver, 5_000))
        receiver.restart()
    assert receiver.deliveries() == []
    receiver.wait_delivered("model", timeout=240).check(facts, sender.public)
    assert receiver.stop() == 0
    for status in receiver.finished:
        assert_nothing_lost(status)
    assert len(receiver.finished) == RESTARTS + 1
    assert [one.sequence for one in receiver.deliveries()] == [1]
    print(f"{RESTARTS} restarts, longest stop {receiver.longest_stop_s * 1000:.0f} ms")
