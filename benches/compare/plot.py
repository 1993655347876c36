"""Charts, each as SVG and as PNG beside it: for each load, each proxy's CPU time relative to the best peer's; and how
figures went over the minutes of a run."""

import subprocess

COLOURS = {"egret": "#1b7f5c", "egret-epoll": "#7fbfa5", "nginx": "#7a8794", "haproxy": "#a9b4be", "envoy": "#d3dae0"}
ROW, BAR, LEFT, WIDTH, TOP = 90, 14, 90, 560, 56
# Longer bars are cut, so that the short ones can be told apart.
MOST = 3.0


def write(path, bars, labels):
    """`bars`: (load, {proxy: µs or None}) in order; `labels`: proxy → name."""
    height = TOP + ROW * len(bars) + 10
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 110}" height="{height}" '
           'font-family="sans-serif" font-size="12">', f'<rect width="100%" height="{height}" fill="white"/>',
           '<text x="10" y="20" font-size="14">CPU time of the proxy per request, relative to the best peer '
           '(shorter is better; figures in µs)</text>']
    out += [f'<rect x="{LEFT + 110 * at}" y="30" width="10" height="10" fill="{COLOURS[name]}"/>'
            f'<text x="{LEFT + 110 * at + 15}" y="40">{label}</text>' for at, (name, label) in enumerate(labels.items())]
    for at, (load, figures) in enumerate(bars):
        out += group(TOP + ROW * at, load, figures)
    one = LEFT + WIDTH / MOST
    out.append(f'<line x1="{one}" x2="{one}" y1="{TOP - 6}" y2="{height - 10}" stroke="#c33" stroke-dasharray="4 3"/>')
    save(path, out)


def save(path, out):
    """Writes the lines of a chart, and draws it as PNG, twice as large as its units so that it can be read."""
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(out) + "\n</svg>\n")
    subprocess.run(["rsvg-convert", "--zoom=2", f"--output={path.removesuffix('.svg')}.png", path], check=True)


def group(top, load, figures):
    """One load's bars."""
    peers = [value for name, value in figures.items() if value and not name.startswith("egret")]
    unit = min(peers, default=max(filter(None, figures.values()), default=1))
    lines = [f'<text x="{LEFT - 8}" y="{top + 2 * BAR + 4}" text-anchor="end">{load}</text>']
    for at, (name, value) in enumerate(figures.items()):
        if value:
            length = WIDTH * min(value / unit, MOST) / MOST
            y = top + at * (BAR + 2)
            lines.append(f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}" fill="{COLOURS[name]}"/>')
            lines.append(f'<text x="{LEFT + length + 5:.1f}" y="{y + 11}" font-size="11">{value:,.1f}</text>')
    return lines


def courses(path, samples, keys):
    """One line chart a key, below each other, over the minutes of a run."""
    high, gap = 120, 40
    height = TOP + (high + gap) * len(keys)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 110}" height="{height}" '
           'font-family="sans-serif" font-size="12">', f'<rect width="100%" height="{height}" fill="white"/>',
           '<text x="10" y="20" font-size="14">Over the minutes of a run; each scale begins at zero</text>']
    longest = max(each["minute"] for each in samples) or 1
    for at, key in enumerate(keys):
        top, most = TOP + (high + gap) * at, max(each[key] for each in samples) or 1
        points = " ".join(f"{LEFT + WIDTH * each['minute'] / longest:.1f},{top + high * (1 - each[key] / most):.1f}"
                          for each in samples)
        out += [f'<text x="{LEFT}" y="{top - 6}">{key} (most: {most:,.1f})</text>',
                f'<rect x="{LEFT}" y="{top}" width="{WIDTH}" height="{high}" fill="none" stroke="#ccc"/>',
                f'<polyline points="{points}" fill="none" stroke="{COLOURS["egret"]}" stroke-width="1.5"/>']
    save(path, out)
