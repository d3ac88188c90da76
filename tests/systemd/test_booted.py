# SPDX-License-Identifier: Apache-2.0
"""
Both services under a real systemd, installed as the README says, over a one-way link between two network namespaces.
The tests run in their order on one machine; each leaves both services running, the last one stops them.
"""

import json
import os
import re
import subprocess
import time
from pathlib import Path

import content
import harness
import pytest
from waiting import wait_until

RECEIVER, SENDER, SOCKET = "diodecast-receiver.service", "diodecast-sender.service", "diodecast-receiver.socket"
SENDER_SOCKET = "diodecast-sender.socket"
LINK_HIGH, LINK_LOW = "diodecast-link-high@high.service", "diodecast-link-low@low.service"
LOW, HIGH, HIGH_MAC = "192.0.2.1", "192.0.2.2", "02:00:00:00:00:02"
SPOOL, INTAKE = "/var/spool/diodecast/wheels", "/srv/mirror/intake/wheels"
RATE_BITS = 100_000_000
RESTARTS = 3
UNITS = "/usr/local/lib/systemd/system"
LINK_TOOL = [harness.ROOT / "tools/diodecast-link.sh"]
BIG = 60_000_000  # crosses in about six seconds

# No idle repeats: what is lost stays lost until somebody carries a ticket.
SENDER_CONF = f"""[sender]
spool       = /var/spool/diodecast
state       = /var/lib/diodecast-sender
status      = /run/diodecast-sender/status.json
signing_key = /etc/diodecast/sender.key
settle      = 200ms
[link]
peer = {HIGH}:4700
rate = {RATE_BITS // 1_000_000}Mbit/s
[replay]
idle_resend = off
group       = diodecast-replay
"""
RECEIVER_CONF = f"""[receiver]
intake       = /srv/mirror/intake
state        = /var/lib/diodecast-receiver
status       = /run/diodecast-receiver/status.json
trusted_keys = /etc/diodecast/trusted.d
[link]
listen = {HIGH}:4700
"""
# A call that the filter denies ends the daemon instead of being answered with EPERM, so that none can pass unseen; but
# for those that the daemons try at the start, when their own filter must deny them.
DROP_IN = "[Service]\nSystemCallErrorNumber=kill\nSystemCallFilter=capset chroot mount setuid\n"
# In this machine the low side's network is a namespace.
IN_LOW = "NetworkNamespacePath=/run/netns/low\n"
LINK_CONF = f"PEER={HIGH}\nPEER_MAC={HIGH_MAC}\n"

# What may be warned about here: the watchdog's kill, by systemd, what it lost, by the receiver, and the carrier, by the
# sender.
EXPECTED_WARNINGS = (r"Watchdog timeout \(limit \d+s\)!", r"Killing process \d+ \(diodecast-recei\) with signal SIGABRT",
                     r"Main process exited, code=(killed|dumped), status=6/ABRT", r"Failed with result 'watchdog'",
                     r"^wheels/stopped \(sequence \d+ of sender \w+\) is incomplete",
                     r"^low has no carrier; sending is paused$")


def make_link(machine):
    """A veth between the machine's network (high) and its namespace "low"; still down."""
    machine.do("ip", "netns", "add", "low")
    machine.do("ip", "link", "add", "high", "address", HIGH_MAC, "type", "veth", "peer", "name", "low", "netns", "low")
    for namespace, end, address in (("", "high", HIGH), ("low", "low", LOW)):
        machine.in_network(namespace, "ip", "address", "add", f"{address}/24", "dev", end)
    machine.in_network("low", "ethtool", "-K", "low", "tx-udp-segmentation", "off")


def prepare_link(machine):
    """The units for the ends. A machine without udev has no device units, so they lose the lines about them."""
    for template in ("diodecast-link-high@.service", "diodecast-link-low@.service"):
        lines = machine.path(f"{UNITS}/{template}").read_text().splitlines()
        kept = [line.replace("sys-subsystem-net-devices-%i.device ", "") for line in lines
                if line not in ("BindsTo=sys-subsystem-net-devices-%i.device",
                                "WantedBy=sys-subsystem-net-devices-%i.device")]
        assert len(kept) == len(lines) - 2
        write(machine, f"/etc/systemd/system/{template}", "\n".join(kept) + "\n")
    write(machine, "/etc/diodecast/link-low.conf", LINK_CONF)
    write(machine, f"/etc/systemd/system/{LINK_LOW}.d/machine.conf", "[Service]\n" + IN_LOW)
    machine.do("systemctl", "daemon-reload")
    for unit in ("nftables", LINK_HIGH, LINK_LOW):
        machine.do("systemctl", "enable", "--now", unit)


def make_install(machine):
    build = os.path.relpath(harness.BUILD, harness.ROOT)
    subprocess.run(["make", "-s", "-o", "all", "install", f"BUILD={build}", f"DESTDIR={machine.path('/')}"],
                   cwd=harness.ROOT, check=True, stdout=subprocess.DEVNULL)
    for command in ("systemd-sysusers", "systemd-tmpfiles --create", "systemctl daemon-reload"):
        machine.do(*command.split())


def write(machine, path, text):
    machine.path(path).parent.mkdir(parents=True, exist_ok=True)
    machine.path(path).write_text(text)


def make_people(machine):
    """As the README tells to: a group of droppers and one of consumers, and what the services' users need of them."""
    for group in ("droppers", "takers"):
        machine.do("groupadd", group)
    for user, group in (("operator", "droppers"), ("consumer", "takers"), ("asker", "diodecast-replay"),
                        ("monitor", "diodecast-monitor"), ("stranger", "users")):
        machine.do("useradd", "--no-create-home", "-g", "users", "-G", group, user)
    machine.do("install", "-d", "-m", "2770", "-o", "diodecast-send", "-g", "droppers", SPOOL)
    machine.do("usermod", "-aG", "takers", "diodecast-recv")
    machine.do("install", "-d", "-m", "2770", "-o", "diodecast-recv", "-g", "takers", INTAKE)


def make_configuration(machine):
    machine.do("diodecast", "keygen", "-s", "/etc/diodecast/sender.key", "-p", "/root/sender.pub")
    machine.do("chown", "diodecast-send:", "/etc/diodecast/sender.key")
    machine.do("install", "-m", "644", "/root/sender.pub", "/etc/diodecast/trusted.d/")
    write(machine, "/etc/diodecast/sender.conf", SENDER_CONF)
    write(machine, "/etc/diodecast/receiver.conf", RECEIVER_CONF)
    write(machine, f"/etc/systemd/system/{SENDER}.d/machine.conf", DROP_IN)
    write(machine, f"/etc/systemd/system/{SENDER_SOCKET}.d/machine.conf", "[Socket]\n" + IN_LOW)
    write(machine, f"/etc/systemd/system/{RECEIVER}.d/machine.conf", DROP_IN)
    machine.do("systemctl", "daemon-reload")


@pytest.fixture(scope="module")
def pair(machine):
    """The machine with diodecast installed and configured, and both services enabled and started."""
    make_link(machine)
    make_install(machine)
    make_people(machine)
    make_configuration(machine)
    prepare_link(machine)
    for user, side in (("diodecast-send", "sender"), ("diodecast-recv", "receiver")):
        machine.do(f"diodecast-{side}", "-c", f"/etc/diodecast/{side}.conf", "-n", user=user)
    machine.do("systemctl", "enable", "--now", "diodecast-sender")
    machine.do("systemctl", "enable", "--now", "diodecast-receiver")
    machine.wait_status("receiver", lambda status: status.get("senders"), "a heartbeat")
    return machine


def may_raise_limits():
    effective = re.search(r"^CapEff:\s+(\w+)$", Path("/proc/self/status").read_text(), re.MULTILINE).group(1)
    return bool(int(effective, 16) >> 24 & 1)  # CAP_SYS_RESOURCE


def main_pid(machine, unit):
    return int(machine.properties(unit)["MainPID"])


def drop(machine, name, size):
    """An operator puts a file into the channel; its facts for the comparison."""
    file = content.write_file(machine.path(f"/tmp/{name}"), size, seed=name)
    facts = content.facts(file)
    machine.do("diodecast", "put", f"/tmp/{name}", "wheels", "-c", "/etc/diodecast/sender.conf", user="operator")
    file.unlink()
    return facts


def deliveries(machine):
    return [harness.Delivery(path) for path in sorted(machine.path(INTAKE).iterdir()) if path.name[0] != "."]


def wait_delivered(machine, name, timeout=120):
    return wait_until(lambda: next((one for one in deliveries(machine) if one.name == name), None), timeout,
                      lambda: f"delivery of {name}; status {json.dumps(machine.status('receiver'), indent=1)}",
                      watch=[machine.path(INTAKE)])


def wait_datagrams(machine, count):
    """Until the running receiver has had so many datagrams since its start."""
    pid = main_pid(machine, RECEIVER)
    return machine.wait_status("receiver", lambda status: status["pid"] == pid and
                               status["link"]["datagrams_total"] >= count, f"{count} datagrams")


def assert_intact(machine, name, facts):
    wait_delivered(machine, name).check(facts, machine.path("/root/sender.pub"))


def messages(machine, *options):
    """What the daemons wrote, and systemd about their units: (who, text)."""
    units = [word for unit in (SENDER, RECEIVER, SOCKET) for word in ("-u", unit)]
    return [(one["SYSLOG_IDENTIFIER"], one["MESSAGE"]) for one in machine.journal(*units, *options)]


def test_users_groups_and_directories_are_made(pair):
    users = {line.split(":")[0] for line in pair.path("/etc/passwd").read_text().splitlines()}
    groups = {line.split(":")[0]: line.split(":")[3] for line in pair.path("/etc/group").read_text().splitlines()}
    assert {"diodecast-send", "diodecast-recv"} <= users
    assert {"diodecast-replay", "diodecast-monitor"} <= set(groups)
    assert "diodecast-send" in groups["diodecast-replay"].split(",")
    expected = {"/etc/diodecast": "755 root root", "/etc/diodecast/trusted.d": "755 root root",
                "/var/spool/diodecast": "755 diodecast-send diodecast-send",
                "/var/spool/diodecast/.requests": "3770 diodecast-send diodecast-replay",
                "/var/lib/diodecast-sender": "700 diodecast-send diodecast-send",
                "/run/diodecast-sender": "755 diodecast-send diodecast-send",
                "/srv/mirror/intake": "755 diodecast-recv diodecast-recv",
                "/var/lib/diodecast-receiver": "710 diodecast-recv diodecast-recv",
                "/var/lib/diodecast-receiver/requests": "770 diodecast-recv diodecast-recv",
                "/run/diodecast-receiver": "755 diodecast-recv diodecast-recv"}
    found = {path: pair.do("stat", "-c", "%a %U %G", path).strip() for path in expected}
    assert found == expected
    # What is there stays as it is when systemd-tmpfiles runs again beside the daemons.
    pair.do("systemd-tmpfiles", "--create")
    assert {path: pair.do("stat", "-c", "%a %U %G", path).strip() for path in expected} == expected


def test_the_kernel_has_the_settings_that_the_sysctl_file_names(pair):
    """They are not applied: the kernel shares them with the machine that this runs on."""
    text = pair.do("systemd-analyze", "cat-config", "sysctl.d/diodecast-receiver.conf", "--no-pager")
    settings = dict(re.findall(r"^([a-z][\w.]+) = (\d+)$", text, re.MULTILINE))
    assert set(settings) == {"net.core.rmem_max", "net.core.netdev_max_backlog"}
    for key in settings:
        assert os.path.exists(f"/proc/sys/{key.replace('.', '/')}")


def test_both_services_and_the_socket_run(pair):
    for unit in (SENDER, RECEIVER, SOCKET):
        properties = pair.properties(unit)
        assert (properties["ActiveState"], properties["UnitFileState"]) == ("active", "enabled"), unit
    for unit, user in ((SENDER, "diodecast-send"), (RECEIVER, "diodecast-recv")):
        assert pair.do("stat", "-c", "%U", f"/proc/{main_pid(pair, unit)}").strip() == user
    status = pair.properties(RECEIVER)["StatusText"]
    assert HIGH in status
    assert "watching" in pair.properties(SENDER)["StatusText"] or "sent" in pair.properties(SENDER)["StatusText"]
    assert pair.failed_units() == []


def test_the_receiver_has_no_network_but_the_socket(pair):
    pid = main_pid(pair, RECEIVER)
    assert os.readlink(pair.path(f"/proc/{pid}/ns/net")) != os.readlink(pair.path("/proc/1/ns/net"))
    state = dict(re.findall(r"^(\w+):\s+(\S+)$", pair.path(f"/proc/{pid}/status").read_text(), re.MULTILINE))
    assert int(state["CapBnd"], 16) == int(state["CapEff"], 16) == 0
    assert (state["NoNewPrivs"], state["Seccomp"]) == ("1", "2")


def test_the_sender_has_no_network_but_its_sockets(pair):
    pid = main_pid(pair, SENDER)
    assert os.readlink(pair.path(f"/proc/{pid}/ns/net")) != os.readlink(pair.path("/proc/1/ns/net"))
    assert pair.properties(SENDER_SOCKET)["ActiveState"] == "active"
    state = dict(re.findall(r"^(\w+):\s+(\S+)$", pair.path(f"/proc/{pid}/status").read_text(), re.MULTILINE))
    assert int(state["CapBnd"], 16) == int(state["CapEff"], 16) == 1 << 28 | 1 << 1  # CAP_LEASE, CAP_DAC_OVERRIDE
    status = pair.status("sender")
    assert (status["link"]["interface"], status["link"]["queue_overflows"]) == ("low", 0)


@pytest.mark.skipif(not may_raise_limits(), reason="root lacks CAP_SYS_RESOURCE here, so LimitNICE= has no effect")
@pytest.mark.parametrize("unit, expected", [(SENDER, {"send": -20}), (RECEIVER, {"receive 0": -10, "hash": -5})])
def test_the_threads_that_others_wait_for_come_first(pair, unit, expected):
    """The unit lets the daemon give them a nice value, without a capability."""
    nice = {}
    for task in pair.path(f"/proc/{main_pid(pair, unit)}/task").iterdir():
        name, rest = re.fullmatch(r"\d+ \((.*)\) (.*)\n?", (task / "stat").read_text()).groups()
        nice[name] = int(rest.split()[16])
    assert {name: value for name, value in nice.items() if value < 0 and not name.startswith("iou-")} == expected


def test_the_carrier_is_seen_through_a_passed_socket(pair):
    pair.do("ip", "link", "set", "high", "down")
    pair.wait_status("sender", lambda status: status["state"] == "paused", "a pause")
    pair.do("ip", "link", "set", "high", "up")
    pair.wait_status("sender", lambda status: status["state"] != "paused", "the end of the pause")
    pair.wait_status("receiver", lambda status: status["health"] == "ok", "good health")


def test_the_socket_has_the_buffer_of_the_unit(pair):
    """Beyond net.core.rmem_max of this machine, which only systemd may go."""
    listed = pair.do("ss", "-u", "-a", "-n", "-m", "sport", "=", ":4700")
    assert int(re.search(r"\brb(\d+)", listed).group(1)) == 2 * (128 << 20)


def test_an_operators_file_is_delivered_and_a_consumer_takes_it(pair):
    facts = drop(pair, "wheel.whl", 300_000)
    assert_intact(pair, "wheel.whl", facts)
    delivery = wait_delivered(pair, "wheel.whl")
    assert delivery.manifest["origin_user"] == "operator"
    inside = f"{INTAKE}/{delivery.path.name}"
    modes = pair.do("find", inside, "-printf", "%y %m %u:%g\n").splitlines()
    assert set(modes) == {"d 2770 diodecast-recv:takers", "f 660 diodecast-recv:takers"}
    assert pair.run("ls", inside, user="stranger").returncode != 0
    pair.do("mv", inside, f"{INTAKE}/.taken", user="consumer")
    pair.do("rm", "-r", f"{INTAKE}/.taken", user="consumer")
    assert deliveries(pair) == []


def test_monitoring_reads_both_status_files_and_strangers_do_not(pair):
    for side in ("sender", "receiver"):
        path = f"/run/diodecast-{side}/status.json"
        pair.wait_status(side, lambda status: status["health"] == "ok", "good health")
        assert pair.run("diodecast", "status", path, user="monitor").returncode == 0
        assert pair.run("cat", path, user="stranger").returncode != 0
        assert pair.run("touch", f"/run/diodecast-{side}/x", user="monitor").returncode != 0


def test_members_of_the_replay_group_ask_for_replays_and_others_do_not(pair):
    ask = ["diodecast", "replay", "-c", "/etc/diodecast/sender.conf", "--last", "1"]
    assert pair.run(*ask, user="stranger").returncode != 0
    assert pair.run(*ask, user="operator").returncode != 0
    pair.do(*ask, user="asker")
    status = pair.wait_status("sender", lambda status: status["replays"]["requests"], "the request taken up")
    assert [one["requester"] for one in status["replays"]["requests"]] == ["asker"]


def test_restarts_of_the_receiver_in_a_transfer_lose_no_block(pair):
    opened = pair.properties(SOCKET)["ActiveEnterTimestampMonotonic"]
    facts = drop(pair, "restarted", 2 * BIG)
    for _ in range(RESTARTS):
        before = main_pid(pair, RECEIVER)
        wait_datagrams(pair, 6_000)
        assert deliveries(pair) == []
        pair.do("systemctl", "restart", "diodecast-receiver")
        assert main_pid(pair, RECEIVER) != before
    assert_intact(pair, "restarted", facts)
    assert pair.properties(SOCKET)["ActiveEnterTimestampMonotonic"] == opened
    status = pair.status("receiver")
    assert status["link"]["lost_total"] == 0 and status["fec"]["failed_total"] == 0
    assert not pair.path("/run/diodecast-receiver/handover").exists()


def test_a_restart_of_the_sender_in_a_transfer_goes_on_where_it_was(pair):
    facts = drop(pair, "resumed", BIG)
    wait_datagrams(pair, pair.status("receiver")["link"]["datagrams_total"] + 15_000)
    pair.do("systemctl", "restart", "diodecast-sender")
    assert_intact(pair, "resumed", facts)


def carry_tickets(machine):
    """Until "stopped" is delivered, asks for what the receiver's status names, as often as it names another ticket."""
    asked = set()

    def look():
        if any(one.name == "stopped" for one in deliveries(machine)):
            return True
        named = machine.status("receiver").get("transfers", {})
        tickets = {one["ticket"] for kind in ("incomplete", "never_seen") for one in named.get(kind, [])} - asked
        for ticket in tickets - {None}:
            machine.do("diodecast", "replay", "-c", "/etc/diodecast/sender.conf", "--now", ticket, user="asker")
        asked.update(tickets)
        return False

    wait_until(look, 120, lambda: f"the transfer after its replay; {machine.status('receiver')}",
               watch=[machine.path(INTAKE)])
    return asked


def test_a_receiver_that_hangs_is_killed_by_the_watchdog_and_its_transfer_arrives(pair, figure):
    before = pair.properties(RECEIVER)
    facts = drop(pair, "stopped", BIG)
    wait_datagrams(pair, pair.status("receiver")["link"]["datagrams_total"] + 15_000)
    begun = time.monotonic()
    pair.do("systemctl", "kill", "--kill-who=main", "--signal=STOP", RECEIVER)
    after = pair.wait_properties(RECEIVER, lambda now: int(now["NRestarts"]) > int(before["NRestarts"]) and
                                 now["ActiveState"] == "active", "another run", 120)
    figure(f"a hanging receiver is replaced after {time.monotonic() - begun:.0f} s")
    assert after["MainPID"] != before["MainPID"]
    asked = carry_tickets(pair)
    figure(f"what the watchdog's kill lost came again with {len(asked)} ticket(s)")
    assert_intact(pair, "stopped", facts)
    assert any("Watchdog timeout" in text for who, text in messages(pair) if who == "systemd")


@pytest.mark.parametrize("thread", ["receive 0", "store"])
def test_a_thread_that_hangs_starves_the_watchdog(pair, figure, thread):
    """The process lives, its control thread too; but nothing moves on in it."""
    write(pair, f"/etc/systemd/system/{RECEIVER}.d/watchdog.conf", "[Service]\nWatchdogSec=5\n")
    pair.do("systemctl", "daemon-reload")
    pair.do("systemctl", "restart", RECEIVER)
    before = pair.properties(RECEIVER)
    begun = time.monotonic()
    with pair.hang(int(before["MainPID"]), thread):
        after = pair.wait_properties(RECEIVER, lambda now: int(now["NRestarts"]) > int(before["NRestarts"]) and
                                     now["ActiveState"] == "active", "another run", 150)
    figure(f"a receiver whose thread '{thread}' hangs is replaced after {time.monotonic() - begun:.0f} s")
    assert after["MainPID"] != before["MainPID"]
    pair.path(f"/etc/systemd/system/{RECEIVER}.d/watchdog.conf").unlink()
    pair.do("systemctl", "daemon-reload")
    pair.do("systemctl", "restart", RECEIVER)
    name = f"after-{thread.split()[0]}"
    assert_intact(pair, name, drop(pair, name, 300_000))


def test_a_signing_key_that_only_root_can_read_comes_as_a_credential(pair):
    pair.do("install", "-m", "600", "-o", "root", "/etc/diodecast/sender.key", "/etc/diodecast/root.key")
    pair.do("rm", "/etc/diodecast/sender.key")
    write(pair, f"/etc/systemd/system/{SENDER}.d/key.conf",
          "[Service]\nLoadCredential=signing.key:/etc/diodecast/root.key\n")
    write(pair, "/etc/diodecast/sender.conf",
          SENDER_CONF.replace("/etc/diodecast/sender.key", f"/run/credentials/{SENDER}/signing.key"))
    pair.do("systemctl", "daemon-reload")
    pair.do("systemctl", "restart", SENDER)
    assert_intact(pair, "credential", drop(pair, "credential", 300_000))


def test_an_upgrade_is_another_install_and_a_restart(pair):
    programs = {unit: pair.path(f"/usr/local/bin/{unit.removesuffix('.service')}") for unit in (SENDER, RECEIVER)}
    facts = drop(pair, "upgraded", BIG)
    wait_datagrams(pair, pair.status("receiver")["link"]["datagrams_total"] + 10_000)
    old = {unit: path.stat().st_ino for unit, path in programs.items()}
    make_install(pair)
    for unit, path in programs.items():
        assert path.stat().st_ino != old[unit]
        assert os.stat(f"{pair.path('/proc')}/{main_pid(pair, unit)}/exe").st_ino == old[unit]
    pair.do("systemctl", "restart", RECEIVER, SENDER)
    for unit, path in programs.items():
        assert os.stat(f"{pair.path('/proc')}/{main_pid(pair, unit)}/exe").st_ino == path.stat().st_ino
    assert_intact(pair, "upgraded", facts)


def test_a_datagram_starts_a_receiver_that_was_stopped(pair):
    pair.do("systemctl", "stop", RECEIVER)
    pair.wait_properties(RECEIVER, lambda now: now["ActiveState"] == "active", "started by its socket", 20)


def test_the_exposure_is_low(pair, figure):
    for unit in (SENDER, RECEIVER):
        text = harness.run(["systemd-analyze", "security", "--offline=true", "--no-pager",
                            pair.path(f"{UNITS}/{unit}")]).stdout
        exposure = float(re.search(r"Overall exposure level for \S+: (\S+)", text).group(1))
        figure(f"exposure of {unit}: {exposure}")
        assert exposure <= 1.0


def without_counts(rules):
    return re.sub(r"packets \d+ bytes \d+", "", rules).strip()


def test_nothing_came_back_over_the_link(pair, figure):
    for unit in (LINK_HIGH, LINK_LOW):
        assert pair.properties(unit)["ActiveState"] == "active"
    assert "nothing came back" in pair.in_network("low", *LINK_TOOL, "low", "status", "low")
    text = pair.in_network("", *LINK_TOOL, "high", "status", "high")
    figure(f"high end: {text.strip()}")
    assert "none left" in text


@pytest.mark.parametrize("action", ["reload", "restart"])
def test_the_high_end_is_silent_again_after_the_firewall_was_loaded_anew(pair, action):
    """Its rules begin with "flush ruleset"."""
    own = pair.in_network("", "nft", "list", "table", "netdev", "diodecast_high")
    pair.in_network("", "nft", "add table netdev witness")
    pair.do("systemctl", action, "nftables")

    def is_silent():
        tables = pair.in_network("", "nft", "list", "ruleset")
        return "witness" not in tables and without_counts(own) in without_counts(tables)

    wait_until(is_silent, 30, "the table of the link after those of the firewall were flushed")
    assert_intact(pair, action, drop(pair, action, 300_000))


def test_a_stop_is_clean_and_leaves_nothing_failed(pair):
    pair.do("systemctl", "stop", SOCKET, RECEIVER, SENDER)
    assert pair.properties(SENDER_SOCKET)["ActiveState"] == "inactive"
    for unit in (SENDER, RECEIVER):
        properties = pair.properties(unit)
        assert (properties["ActiveState"], properties["Result"]) == ("inactive", "success"), unit
        assert (properties["ExecMainCode"], properties["ExecMainStatus"]) == ("1", "0"), unit  # CLD_EXITED
    assert ":4700" not in pair.do("ss", "-u", "-a", "-n")
    assert pair.failed_units() == []
    assert pair.status("receiver")["state"] == pair.status("sender")["state"] == "stopping"


def test_a_link_that_is_stopped_is_down(pair):
    pair.do("systemctl", "stop", LINK_HIGH, LINK_LOW)
    for namespace, end in (("", "high"), ("low", "low")):
        (found,) = json.loads(pair.in_network(namespace, "ip", "-j", "link", "show", "dev", end))
        assert "UP" not in found["flags"]
        assert "diodecast" not in pair.in_network(namespace, "nft", "list", "tables")
    assert pair.failed_units() == []


def test_the_journal_tells_what_happened_and_of_nothing_denied(pair):
    for who, pattern in (("diodecast-sender", r"takes up 1 transfer"),
                         ("diodecast-sender", r"asker asks for a replay"),
                         ("diodecast-sender", r"stops at the next block boundary"),
                         ("diodecast-receiver", rf"listening on {HIGH}:4700"),
                         ("diodecast-receiver", r"open blocks handed over to the next run"),
                         ("diodecast-receiver", r"open blocks taken over from the run before"),
                         ("diodecast-receiver", rf"delivered {INTAKE}/")):
        assert any(name == who and re.search(pattern, text) for name, text in messages(pair)), pattern
    # A call that the filter denies ends a daemon with SIGSYS here, of which systemd would tell.
    warnings = messages(pair, "-p", "warning")
    assert [one for one in warnings if not any(re.search(pattern, one[1]) for pattern in EXPECTED_WARNINGS)] == []
