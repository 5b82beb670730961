"""A report's pictures as inline SVG: curves over the one numeric setting of a grid or else bars, and heat maps of the
losses after each segment. Drawing needs matplotlib and gives the same text for the same rows.
"""
import io
import math

import comparisons
import paired

PANELS = 8
LOSS = [("final_loss", "final loss (nats per token; the bar begins at the base's)")]
ROUTING = [("routing_accuracy", "held-out records that their domain's own slot answers"), ("nmi", "NMI")]


def label_of(method, cell, without=None):
    """The values alone: their settings stand in a caption or at an axis."""
    return ", ".join([method, *(value for key, value in cell if key != without)])


def curves(groups):
    """(setting, {label: [(value, mean, interval or None), ...]}); None where the grid has not exactly one such axis."""
    axes = comparisons.numeric_axes(groups)
    if len(axes) != 1 or any("final_loss" not in one for seeds in groups.values() for one in seeds.values()):
        return None
    lines = {}
    for (cell, method), seeds in groups.items():
        values = [one["final_loss"] for one in seeds.values()]
        lines.setdefault(label_of(method, cell, axes[0]), []).append(
            (float(dict(cell)[axes[0]]), paired.mean(values), paired.bootstrap(values)))
    return axes[0], {label: sorted(points, key=lambda point: point[0]) for label, points in lines.items()}


def bars(groups):
    """{title: [(label, start, mean, interval or None), ...]}: the final loss, or routing where there are no losses. A
    mean over a run that diverged is no finite number. None where there is a curve."""
    if curves(groups):
        return None
    known = all("final_loss" in one for seeds in groups.values() for one in seeds.values())
    charts = {}
    for key, title in LOSS if known else ROUTING:
        for (cell, method), seeds in groups.items():
            values = [one[key] for one in seeds.values()]
            start = paired.mean([one["base_loss"] for one in seeds.values()]) if known else 0
            charts.setdefault(title, []).append((label_of(method, cell), start, paired.mean(values),
                                                 paired.bootstrap(values)))
    return charts


def panels(losses):
    """losses: [(method, cell, runs, (columns, lines, values)), ...]. Where they are too many: the cell of each method
    that ends lowest."""
    if len(losses) <= PANELS:
        return losses
    best = {}
    for one in losses:
        end = paired.mean(one[3][2][-1])
        if one[0] not in best or end < best[one[0]][0] or math.isnan(best[one[0]][0]):
            best[one[0]] = end, one
    return [one for _, one in best.values()][:PANELS]


def pyplot_for(salt):
    """Raises ImportError without matplotlib."""
    import matplotlib
    matplotlib.use("svg")
    from matplotlib import pyplot
    matplotlib.rcParams.update({"svg.hashsalt": salt, "svg.fonttype": "none"})
    return pyplot


def svg(pyplot, picture):
    out = io.StringIO()
    picture.savefig(out, format="svg", metadata={"Date": None})
    pyplot.close(picture)
    return out.getvalue()[out.getvalue().index("<svg"):]


def draw_curves(setting, lines):
    pyplot = pyplot_for(setting)
    picture, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for label, points in lines.items():
        line, = axes.plot([p[0] for p in points], [p[1] for p in points], marker="o", label=label)
        known = [p for p in points if p[2]]
        axes.fill_between([p[0] for p in known], [p[2][0] for p in known], [p[2][1] for p in known],
                          color=line.get_color(), alpha=0.2)
    if "rate" in setting:
        axes.set_xscale("log")
    elif all(p[0].is_integer() for points in lines.values() for p in points):
        axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel=setting, ylabel="mean final loss (nats per token)")
    axes.legend()
    return svg(pyplot, picture)


def draw_bars(charts):
    pyplot = pyplot_for("bars")
    labels = [bar[0] for bar in next(iter(charts.values()))]
    picture, all_axes = pyplot.subplots(1, len(charts), figsize=(9, 1.1 + 0.3 * len(labels)), layout="constrained",
                                        sharey=True, squeeze=False)
    for axes, (title, chart) in zip(all_axes[0], charts.items()):
        for y, (_, start, value, interval) in enumerate(chart):
            if not math.isfinite(value):
                axes.annotate(" a run diverged", (start, y), va="center", fontsize=8)
                continue
            reach = [[value - interval[0]], [interval[1] - value]] if interval else None
            axes.barh(y, value - start, left=start, xerr=reach, height=0.7, color="#56b4e9", capsize=3)
            text = f"{value:.3f}" + (" [{:.3f}, {:.3f}]".format(*interval) if interval else "")
            axes.annotate(text, ((start + value) / 2, y), ha="center", va="center", fontsize=8)
        axes.set_xlabel(title)
    all_axes[0][0].set_yticks(range(len(labels)), labels, fontsize=8)
    all_axes[0][0].invert_yaxis()
    return svg(pyplot, picture)


def draw_maps(losses):
    """One colour scale for all panels, so that they can be compared. It ends at the base's highest loss: one method
    that diverges would take the colours of all others."""
    pyplot = pyplot_for("maps")
    finite = [x for *_, (_, _, values) in losses for line in values for x in line if math.isfinite(x)] or [0]
    low, high = min(finite), max((x for *_, (_, _, values) in losses for x in values[0] if math.isfinite(x)), default=0)
    columns, lines = (max(len(one[3][i]) for one in losses) for i in (0, 1))
    across = min(len(losses), max(1, min(4, 20 // columns)))
    down = -(-len(losses) // across)
    picture, all_axes = pyplot.subplots(down, across, layout="constrained", squeeze=False,
                                        figsize=(across * (1.3 + 0.42 * columns) + 0.8, down * (1.5 + 0.24 * lines)))
    for axes in all_axes.flat[len(losses):]:
        axes.set_axis_off()
    for axes, (method, cell, runs, (names, after, values)) in zip(all_axes.flat, losses):
        colours = axes.pcolormesh(values, vmin=low, vmax=high, cmap="viridis")
        for i, line in enumerate(values):
            for j, value in enumerate(line):
                dark = value < (low + high) / 2
                axes.annotate(f"{value:.2f}", (j + 0.5, i + 0.5), ha="center", va="center", fontsize=7,
                              color="white" if dark else "black")
        axes.set_title(f"{label_of(method, cell)}, n = {runs}", fontsize=9)
        axes.set_xticks([j + 0.5 for j in range(len(names))], names, rotation=45, ha="right", fontsize=7)
        axes.set_yticks([i + 0.5 for i in range(len(after))], after, fontsize=7)
        axes.invert_yaxis()
    picture.colorbar(colours, ax=all_axes, label="loss (nats per token)",
                     extend="max" if max(finite) > high else "neither")
    return svg(pyplot, picture)
