#!/usr/bin/env python3
"""Draws the rows of the dashboard for the docs, from query results of Prometheus.

    draw.py ANSWERS FOLDER

ANSWERS is the file that the ignored test of tests/integration/dashboard.rs writes: each panel with its position in
Grafana's grid of 24 columns and the series of its queries. `make pictures` runs both.
"""

import json
import pathlib
import re
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

plt.rcParams.update({"font.size": 8, "font.family": "DejaVu Sans", "axes.titlesize": 9, "axes.titleweight": "bold"})


def legend(text, labels):
    if not text or text == "__auto":
        return " ".join(str(value) for key, value in labels.items() if key != "__name__") or "value"
    return re.sub(r"{{\s*(\w+)\s*}}", lambda match: labels.get(match.group(1), ""), text).strip()


def format_value(value, unit):
    if value != value:
        return "–"
    if unit == "s":
        for size, name in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
            if abs(value) >= size:
                return f"{value / size:.1f} {name}"
        return f"{value * 1000:.0f} ms"
    return f"{value:.0f}" if float(value).is_integer() else f"{value:.2f}"


def rows(panel):
    """Yields the name, labels and points of each series."""
    for response in panel["responses"]:
        for series in response["series"]:
            if series["points"]:
                yield legend(response["legend"], series["labels"]), series["labels"], series["points"]


def stat(axes, panel):
    values = [points[-1][1] for _, _, points in rows(panel)]
    axes.axis("off")
    axes.text(0.5, 0.4, format_value(values[0], panel["unit"]) if values else "none", ha="center", va="center", fontsize=20)


def bars(axes, panel):
    named = [(name, points[-1][1]) for name, _, points in rows(panel)][::-1]
    axes.barh([name for name, _ in named], [value for _, value in named], color="#4878a8")
    for at, (_, value) in enumerate(named):
        axes.text(value, at, " " + format_value(value, panel["unit"]), va="center")
    axes.margins(x=0.15)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.set_xticks([])


def table(axes, panel):
    axes.axis("off")
    kept = ("namespace", "name", "reason")
    lines = [[labels[key] for key in kept if key in labels] + [points[-1][1]] for _, labels, points in rows(panel)]
    columns = [key for key in kept if any(key in labels for _, labels, _ in rows(panel))]
    has_time = panel["title"] in ("Next to expire", "Oldest verification")
    if has_time:
        lines.sort(key=lambda line: line[-1] if panel["title"] == "Next to expire" else -line[-1])
        columns = columns + ["expires in" if panel["title"] == "Next to expire" else "since"]
        lines = [line[:-1] + [format_value(line[-1], "s")] for line in lines]
    else:
        lines = [line[:-1] for line in lines]
    if lines:
        made = axes.table(cellText=lines[:9], colLabels=columns, loc="upper left", cellLoc="left", edges="horizontal")
        made.auto_set_font_size(False)
        made.set_fontsize(7)
        made.scale(1, 1.15)


def graph(axes, panel):
    drawn = list(rows(panel))
    first = min((points[0][0] for _, _, points in drawn), default=0)
    for name, _, points in drawn:
        axes.plot([time - first for time, _ in points], [value for _, value in points], linewidth=1.2, label=name)
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    if 0 < len(drawn) <= 9 and any(name for name, _, _ in drawn):
        axes.legend(fontsize=6, frameon=False, loc="best")
    unit = {"s": "seconds", "ops": "per second", "reqps": "per second"}.get(panel["unit"], "")
    axes.set_ylabel(unit)
    axes.set_xlabel("seconds")


KINDS = {"stat": stat, "bargauge": bars, "table": table, "timeseries": graph}


def draw(title, panels, file):
    lines = {}
    for panel in panels:
        # Panels without data are left out.
        if panel["type"] in ("stat", "table") or next(rows(panel), None):
            lines.setdefault(panel["place"]["y"], []).append(panel)
    heights = [max(panel["place"]["h"] for panel in line) for line in lines.values()]
    figure = plt.figure(figsize=(14, 0.36 * sum(heights) + 0.5), layout="constrained")
    parts = figure.subfigures(len(lines), 1, height_ratios=heights, squeeze=False)
    for part, line in zip(parts[:, 0], lines.values()):
        widths = [panel["place"]["w"] for panel in line]
        for axes, panel in zip(part.subplots(1, len(line), width_ratios=widths, squeeze=False)[0], line):
            KINDS[panel["type"]](axes, panel)
            axes.set_title(panel["title"], loc="left")
    figure.suptitle(title, fontsize=12, x=0.01, ha="left")
    figure.savefig(file, dpi=80, metadata={"Software": None})
    plt.close(figure)
    print(file)


def main():
    panels = json.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8"))
    folder = pathlib.Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    groups = []
    for panel in panels:
        if panel["type"] == "row":
            groups.append((panel["title"], []))
        else:
            groups[-1][1].append(panel)
    for title, group in groups:
        if not any(value for panel in group for _, _, points in rows(panel) for _, value in points):
            # The row has no data.
            continue
        name = re.sub(r"[^a-z]+", "-", title.lower()).strip("-")
        draw(title, group, folder / f"dashboard-{name}.png")


main()
