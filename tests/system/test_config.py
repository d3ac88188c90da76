# SPDX-License-Identifier: Apache-2.0
"""A wrong configuration is one clear message with file and line, and exit 78; -n says so without starting anything."""

import grp
import os
import re

import harness
import pytest

MISSING = object()

# (section, key, value, words of the message). MISSING takes the key out; its message belongs to the whole file.
SENDER = [
    ("sender", "spool", "/nonexistent/spool", "does not exist"),
    ("sender", "spool", "/etc/passwd", "not a directory"),
    ("sender", "spool", MISSING, "missing"),
    ("sender", "state", "relative/path", "absolute"),
    ("sender", "status", "/nonexistent/status.json", "does not exist"),
    ("sender", "signing_key", "/nonexistent.key", "signing_key"),
    ("sender", "signing_key", "/etc/passwd", "signing_key"),
    ("sender", "settle", "5", "time"),
    ("sender", "settle", "5 parsecs", "time"),
    ("sender", "settle_tree", "-1s", "time"),
    ("sender", "max_size", "many", "size"),
    ("sender", "max_size", "9TiB", "8TiB"),
    ("sender", "colour", "blue", "unknown key"),
    ("link", "peer", MISSING, "missing"),
    ("link", "peer", "example.org:4700", "numeric"),
    ("sender", "next_key", "/etc/passwd", "next_key: .*not a minisign public key"),
    ("link", "peer", "192.0.2.2", "numeric"),
    ("link", "peer", "192.0.2.2:99999", "numeric"),
    ("link", "peer", "[fe80::1%nosuchinterface]:4700", "interface"),
    ("link", "rate", "1GB", "rate"),
    ("link", "rate", "0bit/s", "rate"),
    ("link", "rate", "fast", "rate"),
    ("link", "mtu", "100", "mtu"),
    ("link", "mtu", "sixteen", "mtu"),
    ("link", "lanes", "0", "lanes"),
    ("link", "lanes", "17", "lanes"),
    ("link", "carrier", "maybe", "carrier"),
    ("link", "key", "/nonexistent.key", "key"),
    ("fec", "source_symbols", "201", "source_symbols"),
    ("fec", "repair_symbols", "3", "repair_symbols"),
    ("fec", "repair_symbols", "56", "repair_symbols"),
    ("fec", "burst", "5", "time"),
    ("fec", "burst", "61s", "burst"),
    ("replay", "idle_resend", "perhaps", "on"),
    ("channel models", "priority", "urgent", "priority"),
    ("channel models", "complete", "whenever", "complete"),
    ("channel models", "symlinks", "follow", "symlinks"),
    ("channel models", "approvals", "17", "16"),
    ("channel models", "approvals", "many", "approvals"),
    ("channel .hidden", "priority", "low", "channel"),
    ("chanel models", "priority", "low", "unknown section"),
]

RECEIVER = [
    ("receiver", "intake", "/nonexistent/intake", "does not exist|No such file"),
    ("receiver", "intake", MISSING, "missing"),
    ("receiver", "state", "/etc/passwd", "not a directory"),
    ("receiver", "trusted_keys", "/nonexistent/trusted.d", "trusted_keys"),
    ("receiver", "trusted_keys", "/proc/self/attr", "trusted_keys"),
    ("receiver", "memory", "64", "memory"),
    ("receiver", "memory", "plenty", "size"),
    ("receiver", "peer", "192.0.2.2:4700", "unknown key"),
    ("link", "listen", MISSING, "missing"),
    ("link", "listen", "localhost:4700", "numeric"),
    ("link", "lanes", "many", "lanes"),
    ("link", "key", "/etc/passwd", "key"),
    ("link", "rate", "1Gbit/s", "unknown key"),
]


def identify(case):
    if not isinstance(case, tuple):
        return None
    return f"{case[0]}.{case[1]}={'(missing)' if case[2] is MISSING else case[2]}"


def assert_refused(daemon, section, key, value, words):
    daemon.sections.setdefault(section, {})[key] = None if value is MISSING else value
    checked = daemon.run_once("-n")
    started = daemon.run_once()
    lines = daemon.config.read_text().splitlines()
    number = 0 if value is MISSING else lines.index(f"{key} = {value}") + 1
    for done in (checked, started):
        assert done.returncode == harness.EX_CONFIG, done.stderr
        problems = [line for line in done.stderr.splitlines() if re.search(words, line)]
        assert problems, done.stderr
        if value is MISSING:
            assert any(f"{daemon.config}" in line and key in line for line in problems), done.stderr
        else:
            assert any(f"{daemon.config}:{number}: " in line or f"{daemon.config}:{number - 1}: " in line
                       for line in problems), done.stderr
    assert not daemon.status_file.exists(), "a refused configuration starts nothing"


@pytest.mark.parametrize("case", SENDER, ids=identify)
def test_a_wrong_sender_configuration_is_refused(scratch, case):
    assert_refused(harness.Sender(scratch, "127.0.0.1:9"), *case)


@pytest.mark.parametrize("case", RECEIVER, ids=identify)
def test_a_wrong_receiver_configuration_is_refused(scratch, case):
    _, public = harness.make_key(scratch)
    assert_refused(harness.Receiver(scratch, "127.0.0.1:9", [public]), *case)


def test_all_problems_are_told_at_once(scratch):
    sender = harness.Sender(scratch, "127.0.0.1:9")
    sender.sections["link"]["rate"] = "fast"
    sender.sections["fec"]["burst"] = "long"
    sender.sections["sender"]["colour"] = "blue"
    done = sender.run_once("-n")
    assert done.returncode == harness.EX_CONFIG
    assert len([line for line in done.stderr.splitlines() if f"{sender.config}:" in line]) == 3


def test_a_good_configuration_passes_and_starts_nothing(scratch):
    sender = harness.Sender(scratch / "low", "127.0.0.1:9")
    receiver = harness.Receiver(scratch / "high", f"127.0.0.1:{harness.free_port()}", [sender.public])
    for daemon in (sender, receiver):
        assert daemon.run_once("-n").returncode == 0
        assert not daemon.status_file.exists()
        assert list(daemon.state.iterdir()) == []


@pytest.mark.parametrize("everything", [False, True], ids=["as it is", "with what is switched off"])
def test_the_sample_configurations_are_good(scratch, everything):
    secret, public = harness.make_key(scratch)
    for name in ("link.key", "link-new.key"):
        harness.diodecast("keygen", "--link", scratch / name, check=0)
    for name in ("spool", "state", "run", "intake", "trusted.d", "approval.d"):
        (scratch / name).mkdir()
    (scratch / "trusted.d" / "sender.pub").write_bytes(public.read_bytes())
    for name in ("alice", "bob", "carol"):
        (scratch / "approval.d" / f"{name}.pub").write_bytes(harness.make_key(scratch, name)[1].read_bytes())
    places = {"/etc/diodecast/sender.key": secret, "/etc/diodecast/link.key": scratch / "link.key",
              "/etc/diodecast/link-new.key": scratch / "link-new.key",
              "/etc/diodecast/trusted.d": scratch / "trusted.d", "/srv/mirror/intake": scratch / "intake",
              "/etc/diodecast/approval.d": scratch / "approval.d", "/etc/diodecast/next.pub": scratch / "alice.pub",
              "/var/spool/diodecast": scratch / "spool", "192.0.2.2": "127.0.0.1",
              "diodecast-replay": grp.getgrgid(os.getegid()).gr_name}
    for side in ("sender", "receiver"):
        text = (harness.ROOT / side / f"{side}.conf.example").read_text()
        for place, here in {**places, f"/var/lib/diodecast-{side}": scratch / "state",
                            f"/run/diodecast-{side}": scratch / "run"}.items():
            text = text.replace(place, str(here))
        if everything:
            text = re.sub(r"^;(?=[a-z_]+ *=)", "", text, flags=re.MULTILINE)
        config = scratch / f"{side}.conf"
        config.write_text(text)
        done = harness.run([harness.BUILD / f"diodecast-{side}", "-c", config, "-n"])
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("text", ["", "[sender]\nspool\n", "spool = /tmp\n", "[sender\n", "[sender]\n\x00\n",
                                  "[sender]\nspool = /tmp\nspool = /tmp\n"],
                         ids=["empty", "no value", "no section", "open section", "NUL", "twice"])
def test_a_file_that_is_no_configuration_is_refused(scratch, text):
    config = scratch / "broken.conf"
    config.write_text(text)
    for program in ("diodecast-sender", "diodecast-receiver"):
        done = harness.run([harness.BUILD / program, "-c", config, "-n"])
        assert done.returncode == harness.EX_CONFIG
        assert str(config) in done.stderr


def test_a_configuration_file_that_is_not_there_is_named(scratch):
    for program in ("diodecast-sender", "diodecast-receiver"):
        done = harness.run([harness.BUILD / program, "-c", scratch / "absent.conf", "-n"])
        assert done.returncode == harness.EX_CONFIG
        assert "absent.conf" in done.stderr


def test_a_wrong_command_line_is_a_usage_error():
    for program in ("diodecast-sender", "diodecast-receiver"):
        assert harness.run([harness.BUILD / program, "--no-such-option"]).returncode == 64
        assert harness.run([harness.BUILD / program]).returncode == 64


def test_an_address_that_is_taken_is_said_and_the_receiver_ends(scratch):
    _, public = harness.make_key(scratch)
    port = harness.free_port()
    first = harness.Receiver(scratch / "first", f"127.0.0.1:{port}", [public]).start()
    second = harness.Receiver(scratch / "second", f"127.0.0.1:{port}", [public])
    done = second.run_once()
    assert done.returncode != 0
    assert str(port) in done.stderr
    assert first.program.is_running()
