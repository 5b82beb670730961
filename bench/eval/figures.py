"""Curves of the mean final loss over the one numeric setting of a grid, as inline SVG. Needs matplotlib."""
import io

import comparisons
import paired


def curves(groups):
    """(setting, {label: [(value, mean, interval or None), ...]}); None where the grid has not exactly one such axis."""
    axes = comparisons.numeric_axes(groups)
    if len(axes) != 1 or any("final_loss" not in one for seeds in groups.values() for one in seeds.values()):
        return None
    lines = {}
    for (cell, method), seeds in groups.items():
        values = [one["final_loss"] for one in seeds.values()]
        rest = [f"{value}" for key, value in cell if key != axes[0]]
        label = ", ".join([method, *rest])
        lines.setdefault(label, []).append((float(dict(cell)[axes[0]]), paired.mean(values), paired.bootstrap(values)))
    return axes[0], {label: sorted(points, key=lambda point: point[0]) for label, points in lines.items()}


def draw(setting, lines):
    """SVG text, the same for the same curves. Raises ImportError without matplotlib."""
    import matplotlib
    matplotlib.use("svg")
    from matplotlib import pyplot
    matplotlib.rcParams.update({"svg.hashsalt": setting, "svg.fonttype": "none"})
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
    out = io.StringIO()
    picture.savefig(out, format="svg", metadata={"Date": None})
    pyplot.close(picture)
    return out.getvalue()[out.getvalue().index("<svg"):]
