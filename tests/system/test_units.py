# SPDX-License-Identifier: Apache-2.0
"""The systemd units as they are installed."""

import configparser
import os
import re
import shutil
import subprocess

import harness
import pytest


class Unit(configparser.RawConfigParser):
    """A unit file; keys may come more than once, so values are lists."""

    class Multi(dict):
        def __setitem__(self, key, value):
            if isinstance(value, list) and isinstance(self.get(key), list):
                self[key].extend(value)
            else:
                super().__setitem__(key, value)

    def __init__(self, path):
        super().__init__(strict=False, dict_type=self.Multi, delimiters=("=",), comment_prefixes=("#",),
                         empty_lines_in_values=False)
        self.optionxform = str
        self.read(path)

    def values(self, section, key):
        return [word for line in self[section][key].splitlines() for word in [line.strip()] if word]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder of the units after `make install`, which builds nothing here."""
    root = tmp_path_factory.mktemp("root")
    build = os.path.relpath(harness.BUILD, harness.ROOT)
    subprocess.run(["make", "-s", "-o", "all", "install", f"BUILD={build}", f"DESTDIR={root}", "PREFIX=/usr"],
                   cwd=harness.ROOT, check=True, stdout=subprocess.DEVNULL)
    return root


def units(root):
    return sorted((root / "usr/lib/systemd/system").glob("diodecast-*"))


def test_systemd_accepts_the_units(installed, tmp_path):
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    assert {one.name for one in units(installed)} >= {"diodecast-receiver.socket", "diodecast-receiver.service",
                                                      "diodecast-sender.service"}
    for unit in units(installed):
        text = unit.read_text()
        assert "@BINDIR@" not in text
        # What systemd-analyze looks for is below the root of this machine.
        (tmp_path / unit.name).write_text(text.replace("/usr/bin/", f"{installed}/usr/bin/"))
    done = harness.run(["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *tmp_path.iterdir()],
                       env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:/lib/systemd/system"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_sockets_stay_open_whatever_the_service_does(installed):
    folder = installed / "usr/lib/systemd/system"
    sockets = Unit(folder / "diodecast-receiver.socket")
    service = Unit(folder / "diodecast-receiver.service")
    assert sockets.values("Socket", "FlushPending") == ["no"]
    assert sockets.values("Socket", "TriggerLimitIntervalSec") == ["0"]
    assert service.values("Unit", "StartLimitIntervalSec") == ["0"]
    for key in ("Requires", "After"):
        assert "diodecast-receiver.socket" in service.values("Unit", key)[0].split()
    assert service.values("Service", "Sockets") == ["diodecast-receiver.socket"]
    assert service.values("Service", "RuntimeDirectoryPreserve") == ["yes"]  # where the handover lies
    for unit in (sockets, service):
        for key in ("BindsTo", "PartOf", "Conflicts", "StopWhenUnneeded"):
            assert key not in unit["Unit"]


@pytest.mark.parametrize("side, capabilities", [("receiver", []), ("sender", ["CAP_LEASE CAP_DAC_OVERRIDE"])])
def test_the_services_have_no_network_of_their_own(installed, side, capabilities):
    service = Unit(installed / f"usr/lib/systemd/system/diodecast-{side}.service")
    assert service.values("Service", "PrivateNetwork") == ["yes"]
    assert service.values("Service", "IPAddressDeny") == ["any"]
    assert service.values("Service", "RestrictAddressFamilies") == ["AF_UNIX"]
    assert service.values("Service", "CapabilityBoundingSet") == capabilities


@pytest.mark.parametrize("side", ["receiver", "sender"])
def test_the_exposure_is_low(installed, side):
    """As in: systemd-analyze security --offline=true /usr/local/lib/systemd/system/diodecast-sender.service"""
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    unit = installed / f"usr/lib/systemd/system/diodecast-{side}.service"
    # The threshold is in tenths; above it the command fails.
    text = harness.run(["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=10", unit],
                       check=0).stdout
    exposure = float(re.search(r"Overall exposure level for \S+: (\S+)", text).group(1))
    print(f"exposure of diodecast-{side}.service: {exposure}")
    assert exposure <= 1.0


def test_the_sockets_of_the_sender_live_with_its_service(installed):
    folder = installed / "usr/lib/systemd/system"
    service, sockets = Unit(folder / "diodecast-sender.service"), Unit(folder / "diodecast-sender.socket")
    assert sockets.values("Unit", "PartOf") == ["diodecast-sender.service"]
    assert service.values("Unit", "Requires") == service.values("Service", "Sockets") == ["diodecast-sender.socket"]
    assert "diodecast-sender.socket" in service.values("Unit", "After")[0].split()
    # Of each family one, for questions one, and for events that of the control thread and that of one lane.
    assert len(sockets.values("Socket", "ListenDatagram")) == 2
    assert sockets.values("Socket", "ListenNetlink") == ["route", "route 1", "route 1"]


@pytest.mark.parametrize("side", ["high", "low"])
def test_the_units_of_the_ends_follow_their_interface_and_the_firewall(installed, side):
    unit = Unit(installed / f"usr/lib/systemd/system/diodecast-link-{side}@.service")
    device = "sys-subsystem-net-devices-%i.device"
    assert unit.values("Unit", "BindsTo") == [device]
    assert device in unit.values("Install", "WantedBy")
    assert unit.values("Unit", "ReloadPropagatedFrom") == unit.values("Unit", "PartOf") == ["nftables.service"]
    assert "network-pre.target" in " ".join(unit.values("Unit", "Before")).split()
    for key, action in (("ExecStart", "up"), ("ExecReload", "up"), ("ExecStop", "down")):
        program, *words = unit.values("Service", key)[0].split()
        assert words == [side, action, "%I"]
        assert os.access(f"{installed}{program}", os.X_OK)


def test_the_socket_unit_listens_where_the_example_configuration_says(installed):
    sockets = Unit(installed / "usr/lib/systemd/system/diodecast-receiver.socket")
    example = (installed / "usr/share/doc/diodecast/examples/receiver.conf").read_text()
    (listen,) = re.findall(r"^listen\s*=\s*(\S+)", example, re.MULTILINE)
    assert sockets.values("Socket", "ListenDatagram") == [listen]
