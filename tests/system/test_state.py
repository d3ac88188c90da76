# SPDX-License-Identifier: Apache-2.0
"""The sender's state directory under pressure: said in the status, and nothing is lost."""

import os
import subprocess

import content
import harness
import pytest


@pytest.fixture
def small_directory(scratch):
    """A file system of its own, 1.5 MB large."""
    directory = scratch / "small"
    directory.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1500k,mode=755", "tmpfs", directory], check=False,
                             capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"nothing can be mounted here: {mounted.stderr}")
    yield directory
    for program in list(harness.Program.running):
        program.kill()
    subprocess.run(["umount", directory], check=True)


def fill(file):
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT)
    try:
        while True:
            os.write(descriptor, bytes(4096))
    except OSError:
        pass
    finally:
        os.close(descriptor)


@pytest.mark.root
def test_a_full_state_directory_is_said_and_nothing_is_lost_by_it(small_directory, scratch):
    sender = harness.Sender(scratch / "low", f"127.0.0.1:{harness.free_port()}", sender={"state": small_directory})
    sender.start()
    sender.drop(content.write_file(scratch / "before", 10))
    sender.wait_sent(1)
    fill(small_directory / "filler")
    for number in range(5):
        sender.drop(content.write_file(scratch / f"during-{number}", 10))
    status = sender.wait_status(lambda status: status["health"] == "failed", "the full disk named")
    assert [reason["code"] for reason in status["reasons"]] == ["ledger_stalled"]
    assert "make room" in status["reasons"][0]["action"]
    (small_directory / "filler").unlink()
    sender.wait_sent(6)
    sender.wait_status(lambda status: status["health"] == "ok", "health again")
    assert sender.stop() == 0
