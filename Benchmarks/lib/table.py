# SPDX-License-Identifier: MIT
"""The figures as text, at most 100 columns for five allocators."""
import math

from measure import NOISY

METRICS = [
    ("cpu", "CPU time, seconds", "{:.3f}"),
    ("wall", "Wall time, seconds", "{:.3f}"),
    ("rss", "Peak RSS, MiB", "{:.1f}"),
    ("rss_ratio", "Resident bytes per live byte", "{:.3f}"),
    ("kept_ratio", "Share of the peak still resident after all but 1/1000 was freed", "{:.3f}"),
]


def value(result, name, key):
    figures = result["heaps"].get(name, {})
    found = figures.get(key)
    return found / 1024 if key == "rss" and found is not None else found


def best_other(result, names, key, ours):
    """(figure, name) of the best of the others; None when none ran."""
    seen = [(value(result, name, key), name) for name in names
            if name != ours and value(result, name, key) is not None]
    return min(seen) if seen else None


def cell(result, name, key, form):
    if "error" in result["heaps"].get(name, {}):
        return "fail "
    found = value(result, name, key)
    if found is None:
        return "- "
    mark = "~" if result["heaps"][name].get(key + "_spread", 0) > NOISY else " "
    return form.format(found) + mark


def geometric(values):
    values = [max(item, 1e-9) for item in values]
    return math.exp(sum(map(math.log, values)) / len(values)) if values else None


def means(results, names, key, ours):
    """Geometric means of each heap's figure over the best one's that is not ours, where all ran."""
    whole = [result for result in results
             if all(value(result, name, key) is not None for name in names)]
    rows = {}
    for name in names:
        rows[name] = geometric([value(result, name, key) / max(base[0], 1e-9)
                                for result in whole
                                if (base := best_other(result, names, key, ours))])
    return rows, len(whole)


NEAR = 1.10


def near_best(results, names, key):
    """In how many cases each heap's figure is at most NEAR times the best of all the others'."""
    return {name: sum(value(result, name, key) is not None
                      and (base := best_other(result, names, key, name)) is not None
                      and value(result, name, key) <= NEAR * base[0] for result in results)
            for name in names}


def outdone(results, names):
    """In how many cases another heap was faster by more than NEAR, with a peak RSS no larger."""
    def beats(result, other, name):
        cpu, rss = (value(result, name, key) for key in ("cpu", "rss"))
        other_cpu, other_rss = (value(result, other, key) for key in ("cpu", "rss"))
        if None in (cpu, rss, other_cpu, other_rss):
            return False
        return cpu > NEAR * other_cpu and rss >= other_rss
    return {name: sum(any(beats(result, other, name) for other in names if other != name)
                      for result in results)
            for name in names}


def outdone_lines(results, names):
    width, counts = 15, outdone(results, names)
    head = "".ljust(width) + "".join(name.rjust(max(10, len(name) + 2) - 1) + " " for name in names)
    line = "outdone".ljust(width)
    line += "".join(f"{counts[name]} ".rjust(max(10, len(name) + 2)) for name in names)
    return (f"{head.rstrip()}\n{line.rstrip()}   of {len(results)} cases: another was faster by "
            f"{NEAR - 1:.0%} and had no larger peak RSS")


def metric_lines(results, names, ours, key, title, form):
    shown = [result for result in results
             if any(value(result, name, key) is not None for name in names)]
    if not shown:
        return []
    width = max([15] + [len(result["label"]) for result in shown])
    columns = [max(10, len(name) + 2) for name in names]
    head = title.ljust(width) if len(title) <= width else title
    lines = [head] if len(title) > width else []
    header = ("" if lines else head).ljust(width)
    header += "".join(name.rjust(size - 1) + " " for name, size in zip(names, columns))
    lines.append(header + ("  ratio  best other" if ours in names else ""))
    for result in shown:
        line = result["label"].ljust(width)
        for name, size in zip(names, columns):
            line += cell(result, name, key, form).rjust(size)
        mine, base = value(result, ours, key), best_other(result, names, key, ours)
        if mine is not None and base:
            line += f"{mine / max(base[0], 1e-9):7.2f}  {base[1]}"
        lines.append(line.rstrip())
    rows, count = means(results, names, key, ours)
    line = "over the best".ljust(width)
    for name, size in zip(names, columns):
        line += (f"{rows[name]:.2f} " if rows[name] else "- ").rjust(size)
    lines.append(line.rstrip() + f"   geometric means of {count} cases")
    near = near_best(shown, names, key)
    line = f"within {NEAR:.2f}".ljust(width)
    line += "".join(f"{near[name]} ".rjust(size) for name, size in zip(names, columns))
    lines.append(line.rstrip() + f"   of {len(shown)} cases, each heap beside the best of the others")
    return lines


def render(results, names, ours, metrics=None):
    blocks = []
    for key, title, form in METRICS:
        if metrics and key not in metrics:
            continue
        lines = metric_lines(results, names, ours, key, title, form)
        if lines:
            blocks.append("\n".join(lines))
    if len(names) > 1 and (not metrics or {"cpu", "rss"} <= set(metrics)):
        blocks.append(outdone_lines(results, names))
    failures = [f"{result['label']}: {name}: {figures['error']}" for result in results
                for name, figures in result["heaps"].items() if "error" in figures]
    if failures:
        blocks.append("failed:\n  " + "\n  ".join(failures))
    return "\n\n".join(blocks)
