# SPDX-License-Identifier: Apache-2.0
"""diodecast-link(8): what it sets on an interface, what it refuses, and that it takes all of it back."""

import json

import frames
import harness
import pytest

pytestmark = pytest.mark.root

EX_USAGE, EX_UNAVAILABLE, EX_CONFIG = 64, 69, 78
SETTINGS = [f"ipv6/conf/high/{name}" for name in ("disable_ipv6", "addr_gen_mode", "accept_ra", "autoconf",
                                                  "router_solicitations", "dad_transmits", "accept_dad",
                                                  "ndisc_notify")]


class Ends:
    """Both ends of a link, and the tool run in their namespaces."""

    def __init__(self, wire, directory):
        self.wire, self.directory = wire, directory

    def tool(self, side, action, interface=None, **environment):
        namespace = self.wire.in_high if side == "high" else self.wire.in_low
        directory = self.directory / side
        words = [f"{name}={value}" for name, value in {"RUNTIME_DIRECTORY": directory, **environment}.items()]
        return harness.run([*namespace, "env", *words, harness.ROOT / "tools/diodecast-link.sh", side, action,
                            interface or side])

    def do(self, *arguments, **environment):
        done = self.tool(*arguments, **environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def flags(self, side):
        namespace = self.wire.high if side == "high" else self.wire.low
        (found,) = json.loads(self.wire.run(namespace, "ip", "-j", "link", "show", "dev", side))
        return set(found["flags"])

    def settings(self):
        return [self.wire.run(self.wire.high, "cat", f"/proc/sys/net/{name}").strip() for name in SETTINGS]

    def tables(self, side):
        return self.wire.run(self.wire.high if side == "high" else self.wire.low, "nft", "list", "tables")


@pytest.fixture
def ends(link, scratch):
    return Ends(link(ipv6=True), scratch)


def test_the_high_end_is_silent_and_set_back_by_down(ends):
    before = ends.flags("high"), ends.settings()
    assert ends.tool("high", "status").returncode == 1
    ends.do("high", "up", IPV6="yes")
    assert {"NOARP", "UP"} <= ends.flags("high")
    assert ends.settings()[0] == "0" and ends.settings()[2] == "0"
    assert "diodecast_high" in ends.tables("high")
    held = ends.do("high", "status")
    assert "none left" in held
    # A second time, with another choice: "down" still knows what there was before the first.
    ends.do("high", "up")
    assert ends.settings()[0] == "1"
    ends.do("high", "down")
    assert "UP" not in ends.flags("high")
    assert ends.tables("high") == ""
    ends.wire.far_end_up()
    assert (ends.flags("high"), ends.settings()) == before


def test_the_low_end_knows_its_neighbour_and_counts_what_comes_back(link, scratch):
    ends = Ends(link(), scratch)  # with IPv6, the kernel of the high end would report its multicast groups by itself
    wire = ends.wire
    wire.run(wire.low, "nft", "delete table netdev diode")  # the test's own, which would drop before
    ends.do("low", "up", PEER=wire.HIGH_ADDRESS, PEER_MAC="02:00:00:00:00:77", IPV6="yes")
    (entry,) = json.loads(wire.run(wire.low, "ip", "-j", "neigh", "show", wire.HIGH_ADDRESS))
    assert (entry["lladdr"], entry["state"]) == ("02:00:00:00:00:77", ["PERMANENT"])
    assert "nothing came back" in ends.do("low", "status")
    with frames.packet_socket(wire.high, "high") as back:
        back.send(frames.Neighbour("02:00:00:00:00:02", "02:00:00:00:00:01", wire.HIGH_ADDRESS, wire.LOW_ADDRESS,
                                   "fe80::2", "fe80::1").udp(9))
    assert "1 frames came back" in ends.do("low", "status")
    ends.do("low", "down")
    assert "UP" not in ends.flags("low")


def test_the_low_end_needs_a_peer(ends):
    done = ends.tool("low", "up", PEER=ends.wire.HIGH_ADDRESS)
    assert done.returncode == EX_CONFIG
    assert "PEER_MAC" in done.stderr
    assert "NOARP" not in ends.flags("low")


@pytest.mark.parametrize("route", [["-4", "default", "via", "192.0.2.1"], ["-6", "default", "via", "fe80::1"]])
def test_the_interface_of_the_default_route_is_refused_and_left_as_it_is(ends, route):
    family, *words = route
    ends.wire.run(ends.wire.high, "ip", family, "route", "add", *words, "dev", "high")
    before = ends.flags("high"), ends.settings()
    done = ends.tool("high", "up")
    assert done.returncode == EX_CONFIG
    assert "default route" in done.stderr
    assert (ends.flags("high"), ends.settings()) == before
    assert ends.tables("high") == ""


def test_what_is_no_link_is_refused(ends):
    assert ends.tool("high", "up", "lo").returncode == EX_CONFIG
    assert ends.tool("high", "up", "nosuch").returncode == EX_UNAVAILABLE
    assert ends.tool("high", "up", "a b").returncode == EX_USAGE
    assert ends.tool("high", "sideways").returncode == EX_USAGE


def test_an_end_that_cannot_be_made_silent_is_set_down(ends):
    programs = ends.directory / "programs"
    programs.mkdir()
    (programs / "nft").write_text("#!/bin/sh\nexit 1\n")
    (programs / "nft").chmod(0o755)
    done = ends.tool("high", "up", PATH=f"{programs}:/usr/sbin:/usr/bin:/sbin:/bin")
    assert done.returncode != 0
    assert "was set down" in done.stderr
    assert "UP" not in ends.flags("high")
