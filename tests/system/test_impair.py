# SPDX-License-Identifier: Apache-2.0
"""diodecast-impair does what it is told, the same again for the same seed."""

import json
import signal
import socket
import subprocess

import harness
import pytest

COUNT = 5000
BATCH = 200  # no more are under way than any socket buffer holds
SIZE = 100


class Run:
    """Sends COUNT numbered datagrams through the impairer and collects what comes out."""

    def __init__(self, *options, count=COUNT):
        sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sink.bind(("127.0.0.1", 0))
        sink.setblocking(False)
        process = subprocess.Popen(
            [harness.BUILD / "diodecast-impair", "--listen", "127.0.0.1:0", "--forward",
             f"127.0.0.1:{sink.getsockname()[1]}", *options], stdout=subprocess.PIPE, text=True)
        try:
            host, port = process.stdout.readline().strip().split(":")
            source = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.datagrams = []
            for start in range(0, count, BATCH):
                for number in range(start, start + BATCH):
                    source.sendto(payload(number), (host, int(port)))
                self._collect(process, sink, start + BATCH)
            process.send_signal(signal.SIGTERM)
            self.counters = json.loads(process.stdout.readline())
            assert process.wait(20) == 0
            while self._take(sink):
                pass
            source.close()
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
            sink.close()

    def _take(self, sink):
        try:
            self.datagrams.append(sink.recv(2048))
        except BlockingIOError:
            return False
        return True

    def _collect(self, process, sink, received):
        """Until the impairer has seen `received` datagrams; its own counters say so."""
        while True:
            process.send_signal(signal.SIGUSR1)
            counters = json.loads(process.stdout.readline())
            while self._take(sink):
                pass
            if counters["received"] == received:
                return

    @property
    def numbers(self):
        return [int.from_bytes(bytes_[:4], "little") for bytes_ in self.datagrams]


def payload(number):
    return number.to_bytes(4, "little") * (SIZE // 4)


def test_without_options_everything_passes_in_order():
    run = Run()
    assert run.datagrams == [payload(number) for number in range(COUNT)]
    assert run.counters["forwarded"] == COUNT and run.counters["received_bytes"] == COUNT * SIZE


def test_the_same_seed_loses_the_same_datagrams():
    first, again, other = (Run("--drop", "2%", "--seed", seed) for seed in ("7", "7", "8"))
    assert first.numbers == again.numbers
    assert first.numbers != other.numbers
    assert first.counters["dropped"] == COUNT - len(first.numbers)
    assert 0.01 < first.counters["dropped"] / COUNT < 0.03


def test_an_option_does_not_change_what_another_decides():
    lost = set(range(COUNT)) - set(Run("--drop", "2%").numbers)
    everything = Run("--drop", "2%", "--duplicate", "3%", "--reorder", "3%")
    assert lost == set(range(COUNT)) - set(everything.numbers)
    assert everything.counters["duplicated"] == len(everything.numbers) - len(set(everything.numbers))


def test_late_datagrams_come_within_the_window_and_none_is_lost():
    run = Run("--reorder", "5%", "--reorder-window", "8")
    assert sorted(run.numbers) == list(range(COUNT))
    late = [max(run.numbers[:place], default=0) - number for place, number in enumerate(run.numbers)]
    assert 1 <= max(late) <= 8
    assert run.counters["reordered"] > COUNT * 0.03


def test_a_corrupted_datagram_differs_in_one_bit():
    run = Run("--corrupt", "5%")
    differing = [number for number, bytes_ in enumerate(run.datagrams) if bytes_ != payload(number)]
    assert len(differing) == run.counters["corrupted"] > 0
    for number in differing:
        difference = int.from_bytes(run.datagrams[number]) ^ int.from_bytes(payload(number))
        assert difference.bit_count() == 1


def test_everything_or_nothing():
    assert Run("--drop", "100%", count=1000).numbers == []
    assert Run("--burst-every", "1s", "--burst-length", "1s", count=1000).counters["dropped_in_bursts"] == 1000


def test_the_counters_replace_a_file(tmp_path):
    file = tmp_path / "counters.json"
    process = subprocess.Popen(
        [harness.BUILD / "diodecast-impair", "--listen", "127.0.0.1:0", "--forward", "127.0.0.1:9", "--count-file", file],
        stdout=subprocess.PIPE, text=True)
    process.stdout.readline()
    process.terminate()
    assert process.communicate(timeout=20)[0] == "" and process.returncode == 0
    assert json.loads(file.read_text())["received"] == 0


@pytest.mark.parametrize("options", [
    [], ["--listen", "127.0.0.1:0"], ["--drop", "101%"], ["--drop", "x"], ["--drop", "nan"], ["--burst-every", "1s"],
    ["--burst-every", "1s", "--burst-length", "2s"], ["--reorder-window", "0"], ["--seed", "-1"], ["--nonsense"], ["word"],
])
def test_wrong_options_are_refused(options):
    if options[:1] not in ([], ["--listen"]):
        options = ["--listen", "127.0.0.1:0", "--forward", "127.0.0.1:9", *options]
    finished = subprocess.run([harness.BUILD / "diodecast-impair", *options], capture_output=True, text=True, timeout=20)
    assert finished.returncode == 64 and finished.stderr
