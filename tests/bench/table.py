# SPDX-License-Identifier: Apache-2.0
"""Results for people: text tables in which the columns line up."""


def number(value, digits=2):
    """A plain figure, or the median of a spread; "-" for none."""
    if isinstance(value, dict):
        value = value["median"]
    return "-" if value is None else f"{value:.{digits}f}"


def with_range(value, digits=2):
    """Median with the least and the most."""
    if value is None:
        return "-"
    return f"{value['median']:.{digits}f} ({value['min']:.{digits}f}-{value['max']:.{digits}f})"


def both(line, key, digits=2):
    if line.get(f"low_{key}") is None:
        return "-"
    return f"{number(line[f'low_{key}'], digits)} + {number(line[f'high_{key}'], digits)}"


def render(head, lines):
    """The first column to the left, the others to the right."""
    widths = [max(len(line[i]) for line in [head, *lines]) for i in range(len(head))]
    text = []
    for line in [head, *lines]:
        cells = [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:]))]
        text.append("  ".join(cells).rstrip())
    return "\n".join(text)


THROUGHPUT = ["what", "rate", "runs", "goodput Gbit/s", "of pair", "of udpcast", "of bulk", "CPU s/GiB", "of pair", "peak MiB",
              "wire/byte", "most lost", "transfers/s"]


def throughput(summary):
    """The rows of one link."""
    lines = []
    for line in summary:
        is_diodecast = "threads" in line
        lines.append([line["what"], number(line["rate_gbit"]), f"{line['lossless_runs']}/{line['runs']}",
                      with_range(line.get("gbit")), number(line["of_pair"]), number(line["of_udpcast"]),
                      number(line["of_bulk"]) if is_diodecast else "-", both(line, "cpu_s_per_gib"), number(line["cpu_of_pair"]),
                      both(line, "peak_mib", 0), number(line.get("wire_bytes_per_byte"), 3), str(max(line["datagrams_lost"], default="-")),
                      number(line.get("per_second"), 0) if is_diodecast and line["what"] == "loose" else "-"])
    return render(THROUGHPUT, lines)


def threads(summary, names):
    """CPU seconds of each thread for one run of each row in `names`."""
    text = []
    for line in summary:
        if line["what"] not in names or "threads" not in line:
            continue
        for side in ("low", "high"):
            shares = ", ".join(f"{name} {seconds:.2f}" for name, seconds in line["threads"][side].items() if seconds >= 0.005)
            text.append(f"CPU seconds of a run, {line['what']}, {side} side: {shares}")
    return "\n".join(text)


def latency(rows):
    lines = [[f"{row['link']}, MTU {row['mtu']}", number(row["rate_gbit"]), number(row["own_ms"], 0), with_range(row["idle_ms"], 0),
              with_range(row["beside_ms"], 0), number(row["beside_ms"]["median"] - row["own_ms"], 0), both(row, "peak_mib", 0)] for row in rows]
    return render(["5 MB wheel, drop to visible", "rate", "own time ms", "idle ms", "beside 10 GiB ms", "overhead ms",
                   "peak MiB, memory = 64MiB"], lines)


def pacing(rows):
    lines = [[f"{row['link']}, MTU {row['mtu']}", number(row["rate_gbit"]), number(row["mean_of_rate"], 4),
              number(row["over_in_100_ms_of_train"])] for row in rows]
    return render(["the rate on the wire", "rate", "mean of 10 s / rate", "most in 100 ms, trains over the rate"], lines)


def hold(rows):
    lines = [[f"{row['link']}, MTU {row['mtu']}", number(row["rate_gbit"]), f"{row['size_gib']:.2f}", with_range(row["gbit"]),
              " ".join("failed" if lost is None else str(lost) for lost in row["lost"])] for row in rows]
    return render(["held at 80 % of what is carried at most", "rate", "GiB", "goodput Gbit/s", "datagrams lost in each run"], lines)


def stages(rows):
    lines = [[row["stage"], row["side"], str(row["mtu"]), with_range(row["gb_per_s"])] for row in rows]
    return render(["stage", "side", "MTU", "GB/s per core"], lines)
