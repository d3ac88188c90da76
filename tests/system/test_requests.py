# SPDX-License-Identifier: Apache-2.0
"""The commands that ask a daemon for something, and those about tickets; the test itself is the daemon."""

import json
import os
import re
import threading
import time

import harness
import pytest
from waiting import wait_until

EX_USAGE, EX_DATAERR, EX_UNAVAILABLE, EX_TEMPFAIL, EX_NOPERM, EX_CONFIG = 64, 65, 69, 75, 77, 78

# The examples of proto/README.md.
WHOLE, SEQUENCES, MANIFEST, CHUNKS = ("GCRQ-U9SJ-2LEJ-2MJ", "FCRQ-U9SJ-2ZMW-7GSF", "2CRQ-U9SJ-2NTY-557",
                                      "TCRQ-U9SJ-2RQV-R33X-QZ2L-DNF")


class Side:
    """A configuration, the directory of requests that belongs to it, and who answers there."""

    def __init__(self, directory, section="sender", key="spool", requests=".requests"):
        self.directory = directory
        self.place = directory / "base" / requests
        self.place.mkdir(parents=True)
        self.config = directory / f"{section}.conf"
        self.config.write_text(f"[{section}]\n{key} = {directory / 'base'}\n")
        self.received = None

    def answer(self, text=None, **members):
        """Answers the next request; the thread ends when that was done, and `received` is what was asked."""
        thread = threading.Thread(target=self._answer, args=(text or json.dumps(members),), daemon=True)
        thread.start()
        return thread

    def _answer(self, text):
        path = wait_until(lambda: next(self.place.glob("[0-9a-f]*.request"), None), 30, "a request", watch=[self.place])
        self.received = json.loads(path.read_text())
        hidden = self.place / f".{path.stem}.answer.tmp"
        hidden.write_text(text)
        hidden.rename(self.place / f"{path.stem}.answer")
        path.unlink()

    def files(self):
        return os.listdir(self.place)

    def replay(self, *arguments, **options):
        return harness.diodecast("replay", "-c", self.config, *arguments, **options)


@pytest.fixture
def low(scratch):
    return Side(scratch)


@pytest.fixture
def high(scratch):
    return Side(scratch, "receiver", "state", "requests")


def test_tickets_are_explained_in_words():
    done = harness.diodecast("ticket", "explain", WHOLE, SEQUENCES.lower(), MANIFEST.replace("-", ""), CHUNKS, check=0)
    assert done.stdout.split("\n")[:-1] == [
        WHOLE,
        "  names    the whole of transfer 42, of the chain c0c1c2c...",
        "  carries  40 bits",
        SEQUENCES,
        "  names    the whole of the transfers 42 to 45 (4 of them), of the chain c0c1c2c...",
        "  carries  45 bits",
        MANIFEST,
        "  names    the manifest of transfer 42, of the chain c0c1c2c...",
        "  carries  40 bits",
        CHUNKS,
        "  names    chunks 3, 17 to 20 and 300 (6 chunks, at most 24 MiB) of transfer 42, and its manifest, of the chain "
        "c0c1c2c...",
        "  carries  80 bits",
    ]


def test_each_mistyped_ticket_is_named_with_what_is_wrong(low):
    wrong = [WHOLE[:-1] + "Z", WHOLE.replace("U", "1"), WHOLE[:9]]
    for done in (harness.diodecast("ticket", "explain", WHOLE, *wrong), low.replay(WHOLE, *wrong)):
        assert done.returncode == EX_DATAERR
        lines = done.stderr.splitlines()
        assert len(lines) == 3
        for number, (line, ticket, what) in enumerate(zip(lines, wrong, ("mistyped", "does not belong", "too short"))):
            assert f"ticket {number + 2} of 4, '{ticket}'" in line and what in line
    assert low.files() == [], "nothing was asked"


@pytest.mark.parametrize("arguments, expected", [
    ((WHOLE, CHUNKS), {"tickets": [WHOLE, CHUNKS]}),
    ((WHOLE, "--now"), {"tickets": [WHOLE], "now": True}),
    (("--sequence", "7"), {"first_sequence": 7, "last_sequence": 7}),
    (("--sequence", "7-9", "--dry-run"), {"first_sequence": 7, "last_sequence": 9, "dry_run": True}),
    (("--last", "3"), {"last": 3}),
    (("--since", "2026-01-02T03:04:05Z"), {"since_ns": 1767323045 * 10**9}),
    (("--since", "2026-01-02T03:04:05.5+01:30"), {"since_ns": 1767323045 * 10**9 - 5400 * 10**9 + 5 * 10**8}),
])
def test_replay_asks_for_what_it_was_told(low, arguments, expected):
    answering = low.answer(accepted=True, message="fine", transfers=1, bytes=1 << 20, seconds=2.0, items=[])
    low.replay(*arguments, check=0)
    answering.join()
    assert low.received == {"kind": "replay", "now": False, "dry_run": False, **expected}
    assert low.files() == [], "the answer was taken away"


def test_an_age_counts_back_from_now(low):
    answering = low.answer(accepted=True, message="fine", transfers=0, bytes=0, seconds=0, items=[])
    before = time.time_ns()
    low.replay("--since", "2h", check=0)
    answering.join()
    assert 0 <= low.received["since_ns"] - (before - 7200 * 10**9) < 60 * 10**9


@pytest.mark.parametrize("arguments", [
    (), (WHOLE, "--last", "1"), ("--last", "1", "--sequence", "1"), ("--last", "0"), ("--last", "1x"), ("--last", "-1"),
    ("--sequence", "0"), ("--sequence", "2-1"), ("--sequence", "1-"), ("--sequence", "1-10000000000000000"),
    ("--since", "soon"), ("--since", "2126-01-02T03:04:05Z"), ("--since", "2026-01-02"),
    ("--since", "2026-01-02T03:04:05+1:30"), ("--unknown",), ("--last", "1", "--wait", "2h"),
])
def test_what_can_not_be_asked_is_wrong_usage(low, arguments):
    done = low.replay(*arguments)
    assert done.returncode == EX_USAGE and "usage: diodecast replay" in done.stderr
    assert low.files() == []


def test_the_answer_is_told_to_a_person(low):
    low.answer(accepted=True, message="3 transfers asked for", transfers=2, bytes=3 << 20, seconds=4.0, items=[
        {"sequence": 7, "name": "wheels/torch\x1b[2J.whl", "bytes": 2 << 20, "state": "queued", "message": ""},
        {"sequence": 8, "name": "wheels/b.whl", "bytes": 1 << 20, "state": "in_flight"},
        {"sequence": 9, "state": "not_retained", "message": "was removed by somebody"},
        {"sequence": 10, "state": "not_retained", "message": ""},
    ], left_out=5)
    done = low.replay("--sequence", "7-15")
    assert done.returncode == EX_UNAVAILABLE, "not all of it can be sent"
    assert done.stdout.splitlines() == [
        "3 transfers asked for",
        "  7  wheels/torch\\x1b[2J.whl  2 MiB  will be sent",
        "  8  wheels/b.whl  1 MiB  is on its way already",
        "  9  was removed by somebody",
        "  10  is no longer retained, so it can't be sent",
        "  and 5 more",
        "sends 2 transfers, 3 MiB, which takes about 4 s at the configured rate",
    ]
    low.answer(accepted=True, message="", transfers=0, bytes=0, seconds=0, items=[])
    assert low.replay("--last", "1", "--dry-run", check=0).stdout == "would send nothing\n"


def test_a_refusal_is_told_and_fails(low):
    low.answer(accepted=False, message="ticket 1 is of another chain")
    done = low.replay(WHOLE)
    assert done.returncode == EX_DATAERR
    assert "the sender refuses: ticket 1 is of another chain" in done.stderr and done.stdout == ""


def test_without_a_sender_a_request_waits_and_a_dry_run_does_not(low):
    done = low.replay("--last", "1", "--dry-run", "--wait", "100ms")
    assert done.returncode == EX_UNAVAILABLE and "does not run" in done.stderr
    assert low.files() == []
    done = low.replay("--last", "1", "--wait", "100ms")
    assert done.returncode == EX_TEMPFAIL and "will be taken up" in done.stderr
    (name,) = low.files()
    assert re.fullmatch("[0-9a-f]{32}[.]request", name) and name.split(".")[0] in done.stderr


def test_what_is_no_answer_is_said(low):
    low.answer()
    assert low.replay("--last", "1").returncode == EX_DATAERR
    low.answer("no")
    done = low.replay("--last", "1")
    assert done.returncode not in (0, EX_TEMPFAIL) and "answer" in done.stderr


def test_a_configuration_without_a_spool_or_a_sender_that_never_ran_is_said(scratch, low):
    done = harness.diodecast("replay", "-c", scratch / "absent.conf", "--last", "1")
    assert done.returncode == EX_CONFIG and "absent.conf" in done.stderr
    low.config.write_text("[sender]\nstate = /tmp\n")
    done = low.replay("--last", "1")
    assert done.returncode == EX_CONFIG and "'spool'" in done.stderr
    low.config.write_text(f"[sender]\nspool = {scratch}\n")
    done = low.replay("--last", "1")
    assert done.returncode == EX_UNAVAILABLE and "when it starts" in done.stderr


@pytest.mark.root
def test_who_may_not_ask_learns_which_group_may(low):
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]
    command = [*nobody, harness.BUILD / "diodecast", "replay", "-c", low.config, "--last", "1", "--wait", "0s"]
    os.chown(low.place, 0, 4)
    low.place.chmod(0o3770)
    done = harness.run(command)
    assert done.returncode == EX_NOPERM and "member of the group adm" in done.stderr
    low.place.chmod(0o700)
    done = harness.run(command)
    assert done.returncode == EX_NOPERM and "only root" in done.stderr and "'group' of section [replay]" in done.stderr
    os.chown(low.place, 0, 65534)
    low.place.chmod(0o3770)
    assert harness.run(command).returncode == EX_TEMPFAIL
    (name,) = low.files()
    assert os.stat(low.place / name).st_uid == 65534


def test_a_loss_is_accepted_with_a_reason(high):
    high.answer(accepted=True, message="4 transfers are written off",
                items=[{"ticket": SEQUENCES, "accepted": True, "message": "4 transfers are written off"}])
    done = harness.diodecast("accept-loss", "-c", high.config, SEQUENCES, "--reason", "superseded by 46", check=0)
    assert high.received == {"kind": "accept-loss", "tickets": [SEQUENCES], "reason": "superseded by 46"}
    assert done.stdout.splitlines() == ["4 transfers are written off", f"  {SEQUENCES}  4 transfers are written off"]
    high.answer(accepted=False, message="nothing was written off", items=[
        {"ticket": WHOLE, "accepted": False, "message": "nothing of it is missing"},
        {"ticket": MANIFEST, "accepted": True, "message": ""},
    ])
    done = harness.diodecast("accept-loss", "-c", high.config, WHOLE, MANIFEST, "--reason", "x")
    assert done.returncode == EX_DATAERR and "the receiver refuses: nothing was written off" in done.stderr
    assert f"ticket {WHOLE}: nothing of it is missing" in done.stderr and MANIFEST not in done.stderr


@pytest.mark.parametrize("arguments, code", [
    ((WHOLE,), EX_USAGE), (("--reason", "x"), EX_USAGE), ((WHOLE, "--reason", ""), EX_USAGE),
    ((WHOLE, "--reason", "a\nb"), EX_USAGE), ((WHOLE, "--reason", "x" * 600), EX_USAGE),
    ((WHOLE[:-1] + "Z", "--reason", "x"), EX_DATAERR),
])
def test_a_loss_is_not_accepted_without_its_ticket_and_reason(high, arguments, code):
    assert harness.diodecast("accept-loss", "-c", high.config, *arguments).returncode == code
    assert high.files() == []
