# SPDX-License-Identifier: MIT
"""A dot plot as SVG: one row a case, one dot an allocator, a log scale of ratios to the best."""
import math
from xml.sax.saxutils import escape

import table

COLORS = ["#7f7f7f", "#d95f02", "#7570b3", "#1b9e77", "#e7298a", "#66a61e", "#a6761d", "#1f78b4"]
OURS_COLOR = "#c00000"
ROW, LEFT, PANEL, GAP, TOP = 17, 150, 330, 60, 74
LIMITS = (0.5, 8.0)


def across(ratio):
    """Position in a panel; what lies outside the limits sits on the edge."""
    low, high = map(math.log2, LIMITS)
    place = (math.log2(min(max(ratio, LIMITS[0]), LIMITS[1])) - low) / (high - low)
    return place * PANEL


def color(name, names, ours):
    if name == ours:
        return OURS_COLOR
    others = [other for other in names if other != ours]
    return COLORS[others.index(name) % len(COLORS)]


def dot(x, y, name, names, ours, title):
    shape = (f'<path d="M{x - 5:.1f} {y} L{x:.1f} {y - 5} L{x + 5:.1f} {y} L{x:.1f} {y + 5} Z"'
             if name == ours else f'<circle cx="{x:.1f}" cy="{y}" r="3.6"')
    return (f'{shape} fill="{color(name, names, ours)}" fill-opacity="0.85">'
            f"<title>{escape(title)}</title></{'path' if name == ours else 'circle'}>")


def panel(results, names, ours, key, title, left):
    parts = [f'<text x="{left + PANEL / 2}" y="{TOP - 26}" text-anchor="middle" '
             f'font-weight="bold">{title}</text>']
    bottom = TOP + ROW * len(results)
    for ratio in (0.5, 1, 2, 4, 8):
        x = left + across(ratio)
        strong = ' stroke-width="1.5" stroke="#888"' if ratio == 1 else ' stroke="#ddd"'
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 6}" y2="{bottom}"{strong}/>')
        label = f"{ratio:g}x" if ratio < 8 else "8x+"
        parts.append(f'<text x="{x:.1f}" y="{TOP - 10}" text-anchor="middle" '
                     f'fill="#555">{label}</text>')
    for row, result in enumerate(results):
        base = table.best_other(result, names, key, ours)
        if not base:
            continue
        y = TOP + ROW * row + ROW // 2
        # Ours last, so that it lies on top.
        for name in sorted(names, key=lambda item: item == ours):
            found = table.value(result, name, key)
            if found is None:
                continue
            ratio = found / max(base[0], 1e-9)
            told = f"{result['label']}, {name}: {ratio:.2f}"
            parts.append(dot(left + across(ratio), y, name, names, ours, told))
    return parts


def draw(results, names, ours):
    width = LEFT + 2 * PANEL + GAP + 24
    height = TOP + ROW * len(results) + 40
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
             f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11">',
             '<rect width="100%" height="100%" fill="white"/>']
    x = LEFT
    for name in names:
        parts.append(dot(x, 16, name, names, ours, name))
        parts.append(f'<text x="{x + 9}" y="20">{escape(name)}</text>')
        x += 24 + 7 * len(name)
    for row, result in enumerate(results):
        y = TOP + ROW * row
        if row % 2 == 0:
            parts.append(f'<rect x="4" y="{y}" width="{width - 8}" height="{ROW}" '
                         'fill="#f6f6f6"/>')
        parts.append(f'<text x="{LEFT - 12}" y="{y + 12}" text-anchor="end">'
                     f'{escape(result["label"])}</text>')
    parts += panel(results, names, ours, "cpu", "CPU time over the best other", LEFT)
    parts += panel(results, names, ours, "rss", "peak RSS over the best other", LEFT + PANEL + GAP)
    parts.append(f'<text x="{LEFT}" y="{height - 14}" fill="#555">left is better; 1x is the best '
                 f"of the allocators other than {escape(ours)}</text>")
    parts.append("</svg>\n")
    return "\n".join(parts)
