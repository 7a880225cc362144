# SPDX-License-Identifier: BSD-3-Clause
"""The figures as one SVG picture: cycles a packet by flows, and requests/s by balancer."""

import html
import math

import wrk
from pipeline import RATIOS, count_text

WIDTH, LEFT, RIGHT = 720, 150, 30
INK, FAINT = "#333", "#ddd"
COLOURS = {4: "#1f77b4", 6: "#d2691e"}
CLOSE_COLOUR = "#9ecae1"


def _text(x, y, text, anchor="start", size=12, colour=INK, weight="normal"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" '
            f'font-weight="{weight}" fill="{colour}">{html.escape(text)}</text>')


def _line(x1, y1, x2, y2, colour=FAINT, style=""):
    return (f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
            f'{style}/>')


def _step(highest):
    """A round distance for about five lines up to `highest`."""
    power = 10 ** math.floor(math.log10(highest / 5))
    return next(power * factor for factor in (1, 2, 5, 10) if highest / (power * factor) <= 6)


def _packet_path(rows, macswap, top):
    """Ratios to macswap as lines, what is to be reached as dashes."""
    height, bottom = 260, top + 300
    counts = sorted({row["flows"] for row in rows})
    limits = [limit for family in RATIOS.values() for limit in family.values()]
    highest = max([row["ratio"] for row in rows] + limits) * 1.05

    def x(flows):
        steps = (math.log2(flows) - math.log2(counts[0])) / math.log2(counts[-1] / counts[0]) \
            if len(counts) > 1 else 0.5
        return LEFT + steps * (WIDTH - LEFT - RIGHT)

    def y(ratio):
        return bottom - ratio / highest * height

    parts = [_text(20, top + 20, "pipeline_run: cycles a packet of established flows, in units of "
                   f"testpmd macswap ({macswap:.1f} cycles)", size=14, weight="bold")]
    for index in range(int(highest / _step(highest)) + 1):
        ratio = index * _step(highest)
        parts += [_line(LEFT, y(ratio), WIDTH - RIGHT, y(ratio)),
                  _text(LEFT - 8, y(ratio) + 4, f"{ratio:g}", "end")]
    for flows in counts:
        parts.append(_text(x(flows), bottom + 18, count_text(flows) + " flows", "middle"))
    for family, colour in COLOURS.items():
        own = sorted((row["flows"], row["ratio"]) for row in rows if row["family"] == family)
        for style, points in (("", own), ('stroke-dasharray="3 4"', RATIOS[family].items())):
            path = " ".join(f"{x(flows):.1f},{y(ratio):.1f}" for flows, ratio in points
                            if flows in counts)
            parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" '
                         f'stroke-width="{1 if style else 2}" {style}/>')
        parts += [f'<circle cx="{x(flows):.1f}" cy="{y(ratio):.1f}" r="3.5" fill="{colour}"/>'
                  for flows, ratio in own]
        parts.append(_text(LEFT + 10, y(highest) + (20 if family == 4 else 38),
                           f"IPv{family} (dashed: to reach)", colour=colour))
    return parts, bottom + 40


def _end_to_end(rows, top):
    """Two bars a balancer."""
    highest = max(max(row["keepalive_rps"], row["close_rps"]) for row in rows)
    parts = [_text(20, top + 20, f"End to end: requests/s, {wrk.CONNECTIONS} connections",
                   size=14, weight="bold")]
    y = top + 36
    for row in rows:
        parts.append(_text(LEFT - 8, y + 20, row["name"], "end"))
        for key, colour in (("keepalive_rps", COLOURS[4]), ("close_rps", CLOSE_COLOUR)):
            width = row[key] / highest * (WIDTH - LEFT - RIGHT - 60)
            parts += [f'<rect x="{LEFT}" y="{y:.1f}" width="{width:.1f}" height="13" '
                      f'fill="{colour}"/>', _text(LEFT + width + 6, y + 11, f"{row[key]:,.0f}",
                                                  size=11)]
            y += 15
        y += 10
    parts += [_text(LEFT, y + 8, "kept alive", colour=COLOURS[4]),
              _text(LEFT + 90, y + 8, "a connection a request", colour=CLOSE_COLOUR)]
    return parts, y + 24


def write(path, result, machine):
    """What `result` has of it; nothing if it has neither. Returns whether there is a picture."""
    parts, bottom = [], 0
    if result.get("packet_path"):
        parts, bottom = _packet_path(result["packet_path"], result["macswap_cycles"], bottom)
    if result.get("end_to_end"):
        more, bottom = _end_to_end(result["end_to_end"], bottom)
        parts += more
    if not parts:
        return False
    for line in machine.splitlines():
        bottom += 16
        parts.append(_text(20, bottom, line, size=11, colour="#777"))
    height = bottom + 14
    with open(path, "w") as file:
        file.write(f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0f}" '
                   f'viewBox="0 0 {WIDTH} {height:.0f}" font-family="sans-serif">\n'
                   f'<rect width="100%" height="100%" fill="white"/>\n' + "\n".join(parts)
                   + "\n</svg>\n")
    return True
