"""From figures to what people read: tables, JSON, a plot, BENCHMARKS.md. Measures nothing."""

import json
import os
import platform
import time
from dataclasses import asdict, dataclass
from statistics import median

import loads
import plot
from lab import HERE

# load → ratio to the best peer that egret aims for
TARGETS = {"ka": 0.75, "close": 0.80, "1": 0.65, "64k": 0.65, "1m": 0.60, "up-64k": 0.65, "up-1m": 0.65, "tls-ka": 0.90,
           "tls-1m": 0.90, "full": 0.60, "resumed": 0.60}
# The same of the median latency.
P50_TARGETS = {"1": 0.80}
# MiB at the start, KiB per idle client, KiB per warm upstream connection
MEMORY_TARGETS = (6, 2, 20)
# Handshakes are set against nginx, whose TLS library is the usual one; everything else against the best of all.
AGAINST_NGINX = ("full", "resumed")
LABELS = {"egret": "egret", "egret-epoll": "egret on epoll", "nginx": "nginx", "haproxy": "HAProxy", "envoy": "Envoy"}
EVERY = [*loads.LOADS, loads.WORKERS]


@dataclass
class Result:
    """One run: its cells as `measure.Cell` has them, its memory rows as `loads.memory` has them."""

    cells: list
    memory: list
    versions: dict
    dropped: int
    rounds: int
    seconds: int
    quiet: float
    began: float
    took: float


def write(result, folder, benchmarks):
    """Writes table, JSON and plot into a folder, and BENCHMARKS.md if a path for it is given."""
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "result.json"), "w", encoding="utf-8") as file:
        json.dump(asdict(result), file, indent=1)
    with open(os.path.join(folder, "table.md"), "w", encoding="utf-8") as file:
        file.write(tables(result))
    bars = [(load.name, {name: figure(result, name, load.name, "cpu_us") for name in result.versions})
            for load in loads.LOADS if of(result, "egret", load.name)]
    plot.write(os.path.join(folder, "cpu.svg"), bars, LABELS)
    if benchmarks:
        with open(os.path.join(HERE, "benchmarks.md"), encoding="utf-8") as file:
            text = file.read()
        with open(benchmarks, "w", encoding="utf-8") as file:
            file.write(text.replace("@tables@", tables(result).strip()).replace("@machine@", machine(result)))


def of(result, proxy, load):
    return [cell for cell in result.cells if cell["proxy"] == proxy and cell["load"] == load]


def figure(result, proxy, load, what):
    """The median of a figure, or None where there is no quiet cell or one had errors."""
    cells = of(result, proxy, load)
    if not cells or any(cell["errors"] for cell in cells):
        return None
    return median(cell[what] for cell in cells)


def void(result):
    """Rows with errors: (proxy, load) pairs."""
    return sorted({(cell["proxy"], cell["load"]) for cell in result.cells if cell["errors"]})


def best_peer(result, load, what):
    """The least figure of a peer that counts, or None."""
    peers = ["nginx"] if load in AGAINST_NGINX else [name for name in result.versions if not name.startswith("egret")]
    figures = [figure(result, name, load, what) for name in peers]
    return min((value for value in figures if value), default=None)


def ratio(result, load, what):
    mine, best = figure(result, "egret", load, what), best_peer(result, load, what)
    return mine / best if mine and best else None


def tables(result):
    """All tables, as Markdown."""
    parts = [cost_table(result), latency_table(result), memory_table(result), idle_table(result),
             policy_table(result)]
    parts += [f"Void, since there were errors: {', '.join(f'{p} on {l}' for p, l in void(result))}."] * bool(void(result))
    return "\n\n".join(part for part in parts if part) + "\n"


def markdown(title, head, rows):
    lines = [f"**{title}**", "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) if rows else ""


def number(value):
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def spread(result, proxy, load):
    """Median and, where there are several cells, least and most."""
    value = figure(result, proxy, load, "cpu_us")
    if value is None:
        return "void" if of(result, proxy, load) else "–"
    costs = [cell["cpu_us"] for cell in of(result, proxy, load)]
    return number(value) + (f" ({number(min(costs))}–{number(max(costs))})" if len(costs) > 1 else "")


def cost_table(result):
    rows = []
    for load in EVERY:
        if not any(of(result, name, load.name) for name in result.versions):
            continue
        share, median_share = (ratio(result, load.name, what) for what in ("cpu_us", "p50_us"))
        mine = figure(result, "egret", load.name, "cpu_us")
        gigabyte = f"{mine * 1e9 / load.body / 1e6:.2f}" if mine and load.body else ""
        verdict = judge(share, TARGETS.get(load.name))
        if p50 := judge(median_share, P50_TARGETS.get(load.name)):
            verdict += f"; p50 {median_share:.2f}, {p50}"
        rows.append([f"`{load.name}` {load.label}", *(spread(result, name, load.name) for name in result.versions),
                     "–" if share is None else f"{share:.2f}", verdict, gigabyte])
    head = ["load", *(LABELS[name] for name in result.versions), "egret : best peer (handshakes: nginx)", "aim", "egret, s per GB"]
    return markdown("CPU time of the proxy per request, µs: median (least–most)", head, rows)


def judge(share, target):
    """Whether an aim is reached; nothing where there is no aim or no figure."""
    return "" if not target or share is None else f"≤ {target:.2f} " + ("reached" if share <= target else "missed")


def latency_table(result):
    rows = []
    for load in EVERY:
        cells = [tuple(figure(result, name, load.name, what) for what in ("p50_us", "p99_us", "rate"))
                 for name in result.versions]
        if any(p50 is not None for p50, _, _ in cells):
            rows.append([f"`{load.name}`", *(" · ".join(map(number, cell)) for cell in cells)])
    return markdown("Latency p50 · p99, µs, and requests per second", ["load", *map(LABELS.get, result.versions)], rows)


def memory_table(result):
    rows = [[LABELS[row["proxy"]], f"{row['start'] / 1024:.1f} MiB", f"{row['per_client']:.1f} KiB",
             f"{row['per_upstream']:.1f} KiB"] for row in result.memory]
    start, client, upstream = MEMORY_TARGETS
    rows += [["aim for egret", f"≤ {start} MiB", f"≤ {client} KiB", f"≤ {upstream} KiB"]] * bool(rows)
    return markdown(f"Memory (Pss): after one request, per idle client of {loads.MEMORY_CLIENTS:,}, per warm upstream "
                    "connection", ["proxy", "start", "idle client", "warm upstream"], rows)


def idle_table(result):
    rows = []
    for name in result.versions:
        costs = [figure(result, name, load.name, "cpu_us") for load in loads.IDLE.values()]
        if costs[0]:
            shares = [f"{cost / costs[0]:.2f}" if cost else "–" for cost in costs[1:]]
            rows.append([LABELS[name], *map(number, costs), *shares])
    counts = [f"{count:,}" for count in loads.IDLE]
    head = ["proxy", *(f"{count} idle" for count in counts), *(f"{count} : 0" for count in counts[1:])]
    return markdown("`ka` beside idle connections, µs per request", head, rows)


def policy_table(result):
    few, many = (figure(result, name, load.name, "cpu_us")
                 for name, load in (("egret", loads.FEW_HOSTS), ("egret10k", loads.MANY_HOSTS)))
    rows = [[number(few), number(many), f"{many / few:.2f}"]] if few and many else []
    return markdown("egret's cost by size of its policy (`ka`), µs per request", ["5 hosts", "10,000 hosts", "ratio"], rows)


def machine(result):
    """Where and when a run was, and with what."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        models = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    when = time.strftime("%Y-%m-%d", time.gmtime(result.began))
    return (f"{when}; {len(models)} × {models[0] if models else platform.machine()}; Linux {platform.release().split('-')[0]}; "
            f"{'; '.join(dict.fromkeys(result.versions.values()))}. {result.rounds} rounds of {result.seconds} s a cell; "
            f"{result.dropped} cells dropped and repeated because other processes took more than "
            f"{result.quiet:.0%} of a core.")
