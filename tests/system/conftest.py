# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the system tests. The programs are taken from $DIODECAST_BUILD (default build/)."""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import harness  # noqa: E402  (found through the line above)
import namespaces  # noqa: E402


def pytest_configure(config):
    config.addinivalue_line("markers", "root: needs root; skipped with a reason otherwise")
    config.addinivalue_line("markers", "long: only with DIODECAST_LONG=1 (make check-long)")


def pytest_collection_modifyitems(items):
    for item in items:
        if item.get_closest_marker("root") and os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="needs root (namespaces, uids)"))
        if item.get_closest_marker("long") and not os.environ.get("DIODECAST_LONG"):
            item.add_marker(pytest.mark.skip(reason="takes long; set DIODECAST_LONG=1"))


def pytest_sessionstart(session):
    missing = [name for name in ("diodecast-sender", "diodecast-receiver", "diodecast", "diodecast-impair")
               if not (harness.BUILD / name).exists()]
    if missing:
        pytest.exit(f"not built in {harness.BUILD}: {', '.join(missing)}; run make first", returncode=1)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    setattr(item, f"report_{report.when}", report)


def _scratch(request, base):
    path = Path(tempfile.mkdtemp(prefix="diodecast-test-", dir=base))
    path.chmod(0o755)
    yield path
    for program in list(harness.Program.running):
        program.kill()
    report = getattr(request.node, "report_call", None)
    if report is not None and report.failed:
        for log in sorted(path.rglob("*.log")):
            lines = log.read_text(errors="replace").splitlines()[-60:]
            sys.stderr.write(f"--- {log.relative_to(path)}\n" + "\n".join(lines) + "\n")
        if os.environ.get("DIODECAST_KEEP"):
            sys.stderr.write(f"kept: {path}\n")
            return
    shutil.rmtree(os.fsencode(path), ignore_errors=True)


@pytest.fixture
def scratch(request):
    """A directory of this test, mode 0755. Programs that still run at the end are killed; logs are shown on failure."""
    yield from _scratch(request, None)


@pytest.fixture
def fast_scratch(request):
    """As scratch, but in memory where the machine has the room: for tests that move gigabytes."""
    memory = "/dev/shm"
    roomy = os.path.isdir(memory) and shutil.disk_usage(memory).free > 12 << 30
    yield from _scratch(request, memory if roomy else None)


def _pairs(directory):
    made = []

    def make(**options):
        made.append(harness.Pair(directory, **options))
        return made[-1].start()

    yield make
    for one in made:
        if one.relay:
            one.relay.stop()


@pytest.fixture
def pair(scratch):
    """A factory: pair(damage={...}, ...) starts a pair over loopback (harness.Pair)."""
    yield from _pairs(scratch)


@pytest.fixture
def fast_pair(fast_scratch):
    """As pair, in fast_scratch."""
    yield from _pairs(fast_scratch)


@pytest.fixture
def link(scratch):
    """A factory: link(mtu=..., ...) makes two namespaces joined by a veth (namespaces.Link)."""
    made = []

    def make(**options):
        made.append(namespaces.Link(scratch, **options))
        return made[-1]

    yield make
    for program in list(harness.Program.running):
        program.kill()
    for one in made:
        one.remove()
