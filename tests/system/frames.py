# SPDX-License-Identifier: Apache-2.0
"""Raw Ethernet frames: a capture of one end of a link, and what a curious or hostile neighbour sends to the other."""

import ctypes
import errno
import ipaddress
import os
import select
import socket
import struct
import threading

_libc = ctypes.CDLL(None, use_errno=True)
_ETH_P_ALL = 3
_BROADCAST = b"\xff" * 6
IPV4, IPV6, ARP = 0x0800, 0x86DD, 0x0806
ICMP, IGMP, TCP, UDP, ICMPV6 = 1, 2, 6, 17, 58


def packet_socket(namespace, interface):
    """An AF_PACKET socket of another network namespace; made by a thread, for it is a thread that has a namespace."""
    made = []

    def make():
        try:
            with open(f"/run/netns/{namespace}", "rb") as file:
                if _libc.setns(file.fileno(), 0) != 0:
                    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            one = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
            one.bind((interface, _ETH_P_ALL))
            made.append(one)
        except OSError as error:
            made.append(error)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    if isinstance(made[0], OSError):
        raise made[0]
    return made[0]


def kind_of(frame):
    """What a frame is, in a word."""
    (kind,) = struct.unpack_from("!H", frame, 12)
    if kind == ARP:
        return "ARP"
    if kind == IPV4 and len(frame) > 23:
        return {ICMP: "ICMP", IGMP: "IGMP", TCP: "TCP", UDP: "UDP"}.get(frame[23], f"IPv4 protocol {frame[23]}")
    if kind == IPV6 and len(frame) > 54:
        protocol, payload = frame[20], frame[54:]
        if protocol == 0 and len(payload) > 8:  # hop-by-hop options, with which MLD comes
            protocol, payload = payload[0], payload[(payload[1] + 1) * 8:]
        if protocol != ICMPV6 or not payload:
            return {TCP: "TCP", UDP: "UDP"}.get(protocol, f"IPv6 protocol {protocol}")
        if payload[0] in (131, 132, 143):
            return "MLD"
        return {133: "router solicitation", 135: "neighbour solicitation",
                136: "neighbour advertisement"}.get(payload[0], "ICMPv6")
    return f"type {kind:#06x}"


class Capture:
    """Counts, by kind, the frames that arrive at an interface, from start() to stop()."""

    def __init__(self, namespace, interface):
        self.socket = packet_socket(namespace, interface)
        self.seen = {}
        self._end, self._stop = os.pipe()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while True:
            ready = select.select([self.socket, self._end], [], [])[0]
            if self.socket not in ready:
                return
            try:
                frame, address = self.socket.recvfrom(65536)
            except OSError as error:
                if error.errno != errno.ENETDOWN:  # told once when the interface goes down; it may come again
                    raise
                continue
            if address[2] != socket.PACKET_OUTGOING:
                self.seen[kind_of(frame)] = self.seen.get(kind_of(frame), 0) + 1

    def stop(self):
        """What was seen, {kind: frames}; the frames that had arrived are counted."""
        os.close(self._stop)
        self._thread.join()
        self.socket.close()
        os.close(self._end)
        return self.seen


def _checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class Neighbour:
    """Makes frames from one host to another: hardware addresses as text, and IPv4 and IPv6 addresses."""

    def __init__(self, own_mac, mac, own_ipv4, ipv4, own_ipv6, ipv6):
        self.own_mac, self.mac = (bytes.fromhex(one.replace(":", "")) for one in (own_mac, mac))
        self.own_ipv4, self.ipv4, self.own_ipv6, self.ipv6 = (
            ipaddress.ip_address(one).packed for one in (own_ipv4, ipv4, own_ipv6, ipv6))

    def _ethernet(self, to, kind, payload):
        return to + self.own_mac + struct.pack("!H", kind) + payload

    def _over_ipv4(self, protocol, payload, to=None, mac=None, ttl=64):
        head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 7, 0, ttl, protocol, 0, self.own_ipv4,
                           to or self.ipv4)
        head = head[:10] + struct.pack("!H", _checksum(head)) + head[12:]
        return self._ethernet(mac or self.mac, IPV4, head + payload)

    def _over_ipv6(self, protocol, payload, to=None, mac=None, options=b""):
        first = 0 if options else protocol
        head = struct.pack("!IHBB16s16s", 6 << 28, len(options) + len(payload), first, 255 if not options else 1,
                           self.own_ipv6, to or self.ipv6)
        return self._ethernet(mac or self.mac, IPV6, head + options + payload)

    def _sum6(self, protocol, payload, place, to=None):
        pseudo = self.own_ipv6 + (to or self.ipv6) + struct.pack("!II", len(payload), protocol)
        value = struct.pack("!H", _checksum(pseudo + payload))
        return payload[:place] + value + payload[place + 2:]

    def _sum4(self, protocol, payload, place):
        pseudo = self.own_ipv4 + self.ipv4 + struct.pack("!HH", protocol, len(payload))
        value = struct.pack("!H", _checksum(pseudo + payload))
        return payload[:place] + value + payload[place + 2:]

    def arp_request(self):
        return self._ethernet(_BROADCAST, ARP, struct.pack("!HHBBH6s4s6s4s", 1, IPV4, 6, 4, 1, self.own_mac,
                                                           self.own_ipv4, b"\0" * 6, self.ipv4))

    def icmp(self, kind):
        text = struct.pack("!BBHHH", kind, 0, 0, 7, 7) + b"\0" * 12
        return self._over_ipv4(ICMP, text[:2] + struct.pack("!H", _checksum(text)) + text[4:])

    def udp(self, port, payload=b"knock"):
        return self._over_ipv4(UDP, struct.pack("!HHHH", 40000, port, 8 + len(payload), 0) + payload)

    def _syn(self, port):
        return struct.pack("!HHIIBBHHH", 40000, port, 7, 0, 5 << 4, 2, 65535, 0, 0)

    def tcp_syn(self, port):
        return self._over_ipv4(TCP, self._sum4(TCP, self._syn(port), 16))

    def unknown_protocol(self, number):
        return self._over_ipv4(number, b"what is this")

    def igmp_query(self):
        text = struct.pack("!BBH4s", 0x11, 10, 0, b"\0" * 4)
        text = text[:2] + struct.pack("!H", _checksum(text)) + text[4:]
        return self._over_ipv4(IGMP, text, to=ipaddress.ip_address("224.0.0.1").packed,
                               mac=bytes.fromhex("01005e000001"), ttl=1)

    def multicast(self):
        text = struct.pack("!HHHH", 5353, 5353, 8 + 12, 0) + b"\0" * 12
        return self._over_ipv4(UDP, text, to=ipaddress.ip_address("224.0.0.251").packed,
                               mac=bytes.fromhex("01005e0000fb"), ttl=255)

    def icmpv6(self, kind, body, multicast=False):
        to = ipaddress.ip_address("ff02::1").packed if multicast else None
        text = self._sum6(ICMPV6, struct.pack("!BBH", kind, 0, 0) + body, 2, to)
        return self._over_ipv6(ICMPV6, text, to, bytes.fromhex("333300000001") if multicast else None)

    def echo6(self):
        return self.icmpv6(128, struct.pack("!HH", 7, 7))

    def neighbour_solicitation(self):
        return self.icmpv6(135, b"\0" * 4 + self.ipv6 + b"\x01\x01" + self.own_mac)

    def router_advertisement(self):
        """With a prefix for autoconfiguration."""
        prefix = struct.pack("!BBBBIII16s", 3, 4, 64, 0xC0, 3600, 3600, 0,
                             ipaddress.ip_address("2001:db8::").packed)
        return self.icmpv6(134, struct.pack("!BBHII", 64, 0, 1800, 0, 0) + prefix, multicast=True)

    def mld_query(self):
        to = ipaddress.ip_address("ff02::1").packed
        text = self._sum6(ICMPV6, struct.pack("!BBHHH16s", 130, 0, 0, 10, 0, b"\0" * 16), 2, to)
        options = struct.pack("!BBBBHBB", ICMPV6, 0, 5, 2, 0, 1, 0)  # a router alert, without which it is ignored
        return self._over_ipv6(ICMPV6, text, to, bytes.fromhex("333300000001"), options)

    def udp6(self, port):
        text = struct.pack("!HHHH", 40000, port, 13, 0) + b"knock"
        return self._over_ipv6(UDP, self._sum6(UDP, text, 6))

    def tcp_syn6(self, port):
        return self._over_ipv6(TCP, self._sum6(TCP, self._syn(port), 16))

    def knocks(self, port):
        return [self.udp(port), self.tcp_syn(port), self.udp6(port), self.tcp_syn6(port)]

    def questions(self):
        """One of each kind that has no port."""
        return [self.arp_request(), self.icmp(8), self.icmp(13), self.unknown_protocol(200), self.igmp_query(),
                self.multicast(), self.echo6(), self.neighbour_solicitation(), self.router_advertisement(),
                self.mld_query()]


class Flood:
    """Knocks at port after port of `ports`, and asks all questions again and again, until stop()."""

    PORTS_AT_A_TIME, PAUSE_S = 8, 0.002

    def __init__(self, namespace, interface, neighbour, ports):
        self.socket = packet_socket(namespace, interface)
        self.frames = self.scans = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(neighbour, ports), daemon=True)
        self._thread.start()

    def _run(self, neighbour, ports):
        questions = neighbour.questions()
        while not self._stop.is_set():
            for first in range(0, len(ports), self.PORTS_AT_A_TIME):
                self._send(questions)
                for port in ports[first:first + self.PORTS_AT_A_TIME]:
                    self._send(neighbour.knocks(port))
                if self._stop.wait(self.PAUSE_S):
                    return
            self.scans += 1

    def _send(self, frames):
        for frame in frames:
            try:
                self.socket.send(frame)
                self.frames += 1
            except OSError:
                pass  # a queue is full, or the link is down

    def stop(self):
        self._stop.set()
        self._thread.join()
        self.socket.close()
        return self.frames
