# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests on a booted machine (`make check-systemd`)."""

import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1] / "system")]

import harness  # noqa: E402  (found through the line above)
import machine as machines  # noqa: E402

FOLDER = harness.BUILD / "systemd"
_figures = []


@pytest.fixture(scope="session")
def machine():
    """A booted machine without diodecast, for all tests of the run."""
    made = None
    try:
        made = machines.Machine(machines.make_root(FOLDER), FOLDER)
        made.boot()
    except machines.CannotRun as reason:
        if made:
            made.end()
        pytest.skip(str(reason))
    yield made
    made.end()


@pytest.fixture(scope="session")
def figure():
    """figure("...") is a line of the run's summary."""
    return _figures.append


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    made = item.funcargs.get("machine") if hasattr(item, "funcargs") else None
    if report.when == "call" and report.failed and made is not None:
        done = made.run("journalctl", "--no-pager", "-o", "short-monotonic", "-n", "25")
        report.sections.append(("the machine's journal", done.stdout))


def pytest_terminal_summary(terminalreporter):
    for line in _figures:
        terminalreporter.write_line(line)
