# SPDX-License-Identifier: Apache-2.0
"""IPv4, IPv6, and IPv6 link-local addresses with their scope."""

import socket

import content
import harness
import pytest


def test_ipv6_loopback(scratch):
    port = harness.free_port(family=socket.AF_INET6)
    sender = harness.Sender(scratch / "low", f"[::1]:{port}")
    receiver = harness.Receiver(scratch / "high", f"[::1]:{port}", [sender.public])
    deliver_one(sender, receiver, scratch)


def test_a_receiver_on_the_wildcard_address(scratch):
    port = harness.free_port()
    sender = harness.Sender(scratch / "low", f"127.0.0.1:{port}")
    receiver = harness.Receiver(scratch / "high", f"0.0.0.0:{port}", [sender.public])
    deliver_one(sender, receiver, scratch)


@pytest.mark.root
def test_ipv6_link_local_with_scope(link, scratch):
    made = link(ipv6=True)
    sender = harness.Sender(scratch / "low", "[fe80::2%low]:4700", prefix=made.in_low, link={"mtu": "auto"})
    receiver = harness.Receiver(scratch / "high", "[fe80::2%high]:4700", [sender.public], prefix=made.in_high)
    deliver_one(sender, receiver, scratch)


@pytest.mark.root
def test_the_source_address_may_be_rewritten(link, scratch):
    """Real diodes send from an address of their own."""
    made = link()
    made.run(made.low, "nft", "add table ip diodenat; add chain ip diodenat out "
             "{ type filter hook output priority 300; }; add rule ip diodenat out ip saddr set 198.51.100.7")
    sender = harness.Sender(scratch / "low", f"{made.HIGH_ADDRESS}:4700", prefix=made.in_low)
    receiver = harness.Receiver(scratch / "high", f"{made.HIGH_ADDRESS}:4700", [sender.public], prefix=made.in_high)
    made.run(made.high, "ip", "route", "add", "198.51.100.7/32", "dev", "high")
    deliver_one(sender, receiver, scratch)


def deliver_one(sender, receiver, scratch):
    receiver.start()
    sender.start()
    file = content.write_file(scratch / "item", 2 << 20)
    expected = content.facts(file)
    sender.drop(file)
    receiver.wait_delivered("item").check(expected, sender.public)
