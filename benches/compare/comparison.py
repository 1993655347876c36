#!/usr/bin/env python3
"""Draws docs/comparison.svg from the tables of BENCHMARKS.md: CPU time and p99 latency of the peers beside egret's, and
memory. Both kinds of result are drawn, those where a peer is better too. Run it after `benches/compare/run --full --write`.
"""

import math
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]
PEERS = ("nginx", "HAProxy", "Envoy")
# The last stage of the table has another set-up than the rest: two workers, not pinned.
LEFT_OUT = {"ka-2w"}
LEFT, WIDTH, ROW = 268, 250, 24
LOWEST, HIGHEST = 0.4, 5.0

STYLE = """
    .text { fill: #1f2328 } .small { fill: #57606a; font-size: 11px } .head { fill: #1f2328; font-weight: 600 }
    .grid { stroke: #d1d9e0 } .one { stroke: #0969da; stroke-width: 2 }
    .nginx { fill: #1a7f37 } .HAProxy { fill: #9a6700 } .Envoy { fill: #8250df }
    @media (prefers-color-scheme: dark) {
      .text, .head { fill: #e6edf3 } .small { fill: #9198a1 } .grid { stroke: #3d444d } .one { stroke: #4493f8 }
      .nginx { fill: #3fb950 } .HAProxy { fill: #d29922 } .Envoy { fill: #ab7df8 }
    }"""


def tables(text):
    """Each table as a list of rows, a row as a list of cells; the rule below the header is left out."""
    found, rows = [], []
    for line in text.splitlines() + [""]:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
        elif rows:
            found.append([row for row in rows if not set(row[0]) <= set("-: ")])
            rows = []
    return found


def number(text):
    return re.match(r"[\d,.]+", text)[0]


def value(text):
    return float(text.replace(",", ""))


def by_load(table, figure):
    """Load → proxy → value of its cell."""
    header, *rows = table
    result = {}
    for row in rows:
        load = re.match(r"`([^`]+)`", row[0])[1]
        if load not in LEFT_OUT:
            result[load] = {name: figure(row[header.index(name)]) for name in ("egret",) + PEERS}
    return result


def at(ratio, left):
    share = math.log(ratio / LOWEST) / math.log(HIGHEST / LOWEST)
    return left + WIDTH * min(max(share, 0.0), 1.0)


def mark(peer, x, y, title=""):
    """A shape of the peer's own, for those who do not see its colour. The title holds the figures it is made of."""
    title = f"<title>{title}</title>" if title else ""
    if peer == "nginx":
        return f'<circle class="{peer}" cx="{x:.1f}" cy="{y}" r="5">{title}</circle>'
    if peer == "HAProxy":
        return f'<rect class="{peer}" x="{x - 4.5:.1f}" y="{y - 4.5}" width="9" height="9">{title}</rect>'
    return f'<path class="{peer}" d="M{x:.1f} {y - 6}l6 10.5h-12z">{title}</path>'


def panel(title, values, left, top):
    parts = [f'<text class="head" x="{left}" y="{top - 26}">{title}</text>']
    bottom = top + ROW * len(values) - 8
    for ratio in (0.5, 1, 2, 4):
        x, kind = at(ratio, left), "one" if ratio == 1 else "grid"
        parts.append(f'<path class="{kind}" d="M{x:.1f} {top - 14}V{bottom}" fill="none"/>')
        parts.append(f'<text class="small" x="{x:.1f}" y="{bottom + 14}" text-anchor="middle">{ratio:g}×</text>')
    for index, proxies in enumerate(values.values()):
        y = top + ROW * index
        own = proxies["egret"]
        for peer in PEERS:
            ratio = value(proxies[peer]) / value(own)
            parts.append(mark(peer, at(ratio, left), y, f"{peer}: {proxies[peer]}, egret: {own}"))
    return parts


def memory(table, top):
    header, *rows = table
    rows = [row for row in rows if row[0] in ("egret",) + PEERS]
    parts = [f'<text class="head" x="16" y="{top}">Memory (Pss)</text>']
    columns = ("after one request", "for each idle client", "for each pooled upstream connection")
    for place, name in zip((LEFT, LEFT + 170, LEFT + 340), columns):
        parts.append(f'<text class="small" x="{place}" y="{top}">{name}</text>')
    for index, row in enumerate(rows, 1):
        y = top + 20 * index
        parts.append(f'<text class="text" x="16" y="{y}">{row[0]}</text>')
        for place, cell in zip((LEFT, LEFT + 170, LEFT + 340), row[1:]):
            parts.append(f'<text class="text figure" x="{place}" y="{y}">{cell}</text>')
    return parts


def main():
    text = (ROOT / "BENCHMARKS.md").read_text()
    cpu, latency, pss, *_ = tables(text)
    what = {re.match(r"`([^`]+)`", row[0])[1]: row[0].split("`")[2].strip() for row in cpu[1:]}
    costs = by_load(cpu, number)
    tails = by_load(latency, lambda cell: number(cell.split(" · ")[1]))
    top, second = 92, LEFT + WIDTH + 40
    bottom = top + ROW * len(costs)
    parts = panel("CPU time per request, peer : egret", costs, LEFT, top)
    parts += panel("p99 latency, peer : egret", tails, second, top)
    for index, load in enumerate(costs):
        label = what[load] if len(what[load]) < 44 else what[load].split(",")[0]
        parts.append(f'<text class="text" x="16" y="{top + ROW * index + 4}" font-size="12">{label}</text>')
    for index, peer in enumerate(PEERS):
        x = 22 + 80 * index
        parts += [mark(peer, x, 28), f'<text class="text" x="{x + 11}" y="32">{peer}</text>']
    parts.append('<text class="small" x="16" y="54">blue line: egret</text>')
    parts.append('<text class="small" x="16" y="68">right of it: the peer needs more</text>')
    parts += memory(pss, bottom + 40)
    line = re.search(r"^\d{4}-\d\d-\d\d; .*", text, re.M)[0]
    date, host, kernel, *versions = line.split(". 7 rounds" if ". 7 rounds" in line else ". ")[0].split("; ")
    for place, said in ((150, f"{date}; {host}; {kernel}; medians"), (166, "; ".join(versions))):
        parts.append(f'<text class="small" x="16" y="{bottom + place}">{said}</text>')
    height, width = bottom + 178, second + WIDTH + 20
    body = "\n  ".join(parts)
    (ROOT / "docs" / "comparison.svg").write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img"\n'
        f'  aria-label="CPU time per request and p99 latency of nginx, HAProxy and Envoy beside egret, and memory"\n'
        f"  font-family=\"system-ui, -apple-system, 'Segoe UI', sans-serif\" font-size=\"13\">\n  <style>{STYLE}\n  </style>\n  {body}\n</svg>\n"
    )


main()
