# SPDX-License-Identifier: Apache-2.0
"""A sender that is killed goes on where it was: with a large transfer, with replays, with requests nobody had taken."""

import os

import content
import harness

MIB = 1 << 20


def make_sides(scratch, **sender_options):
    port = harness.free_port()
    sender = harness.Sender(scratch / "low", f"127.0.0.1:{port}", **sender_options)
    receiver = harness.Receiver(scratch / "high", f"127.0.0.1:{port}", [sender.public])
    return sender, receiver


def received_bytes(receiver):
    """Bytes of symbols that have arrived, when no more do."""
    seen = []

    def look():
        seen.append(receiver.status()["link"]["datagrams_total"])
        return len(seen) > 2 and seen[-1] == seen[-2] == seen[-3]

    receiver.wait_status(lambda status: look(), "no more datagrams")
    return seen[-1]


def test_a_killed_sender_sends_less_than_a_twentieth_again(fast_scratch):
    """Counted where it arrives: the status of a killed sender is up to a second old."""
    size = 300 * MIB
    sender, receiver = make_sides(fast_scratch, link={"rate": "200Mbit/s"})
    receiver.start()
    sender.start()
    receiver.wait_heard()
    file = content.write_file(fast_scratch / "model", size)
    expected = content.facts(file)
    sender.drop(file)
    sending = sender.wait_status(lambda status: any(one["bytes_sent"] > size / 2 for one in status["sending"]),
                                 "half of the transfer sent")
    symbol_size = sending["link"]["symbol_size"]
    sender.kill()
    before = received_bytes(receiver) * symbol_size
    sender.start()
    receiver.wait_delivered("model").check(expected, sender.public)
    status = sender.wait_sent(1)
    again = status["link"]["datagrams_sent"] * symbol_size
    whole = size * 144 / 128
    print(f"{100 * (before + again - whole) / whole:.2f} % was sent again")
    assert before + again < 1.05 * whole
    assert len(receiver.deliveries()) == 1


def test_a_mark_does_not_count_for_an_item_that_is_not_what_it_was(scratch):
    """What the high side has of it is old in parts; the manifest tells which, and they come once more."""
    size = 40 * MIB
    sender, receiver = make_sides(scratch, link={"rate": "200Mbit/s"}, replay={"idle_resend": "on"})
    receiver.start()
    sender.start()
    receiver.wait_heard()
    sender.drop(content.write_file(scratch / "model", size))
    sender.wait_status(lambda status: any(one["bytes_sent"] > size / 2 for one in status["sending"]), "half sent")
    sender.kill()
    (item,) = (sender.spool / ".sending").glob("*/model")
    with open(item, "r+b") as file:
        file.write(b"changed")
    expected = content.facts(item)
    sender.start()
    receiver.wait_delivered("model").check(expected, sender.public)


def replays(status):
    return status.get("replays", {})


def test_a_request_that_waits_survives_a_killed_sender(scratch):
    sender, receiver = make_sides(scratch)
    sender.start()
    sender.drop(content.write_file(scratch / "wheel", 100_000))
    sender.wait_sent(1)
    sender.kill()
    asked = harness.diodecast("replay", "-c", sender.config, "--sequence", "1", "--wait", "0s")
    assert asked.returncode == os.EX_TEMPFAIL, asked.stderr
    receiver.start()
    sender.start()
    receiver.wait_delivered("wheel")
    sender.wait_status(lambda status: replays(status).get("done_total") == 1, "the replay done")
    status = sender.wait_status(lambda status: replays(status)["waiting"] == 0, "nothing waiting")
    (request,) = status["replays"]["requests"]
    assert request["done"] == 1 and request["failed"] == 0
    assert list((sender.spool / ".requests").glob("*.request")) == []


def test_a_replay_that_was_taken_up_survives_killed_senders_and_ends(scratch):
    """Killed while it runs, it still is sent once and no more."""
    sender, receiver = make_sides(scratch, link={"rate": "200Mbit/s"})
    sender.start()
    file = content.write_file(scratch / "model", 20 * MIB)
    expected = content.facts(file)
    sender.drop(file)
    sender.wait_sent(1)
    receiver.start()
    receiver.wait_heard()
    harness.diodecast("replay", "-c", sender.config, "--last", "1", check=0)
    sender.wait_status(lambda status: any(one["kind"] == "replay" and one["bytes_sent"] > one["bytes_total"] / 4
                                          for one in status["sending"]), "the replay runs")
    sender.kill()
    sender.start()
    receiver.wait_delivered("model").check(expected, sender.public)
    status = sender.wait_status(lambda status: replays(status)["done_total"] == 1, "the replay done")
    assert replays(status)["waiting"] == 0 and replays(status)["failed_total"] == 0
    sender.stop()
    sender.start()
    sender.wait_status(lambda status: status["link"]["heartbeats_sent"] > 1, "a further run")
    assert not any(one["kind"] == "replay" for one in sender.status()["sending"])


def test_once_sends_the_replays_that_wait_and_ends(scratch):
    sender, receiver = make_sides(scratch)
    assert sender.run_once("--once").returncode == 0
    sender.drop(content.write_file(scratch / "wheel", 100_000))
    assert sender.run_once("--once").returncode == 0
    asked = harness.diodecast("replay", "-c", sender.config, "--last", "1", "--wait", "0s")
    assert asked.returncode == os.EX_TEMPFAIL, asked.stderr
    receiver.start()
    assert sender.run_once("--once").returncode == 0
    receiver.wait_delivered("wheel")
    assert replays(sender.status())["done_total"] == 1
