#!/usr/bin/env python3
"""Draws docs/bench/*.svg from the results in docs/bench/.

    python3 -m venv venv && venv/bin/pip install matplotlib
    venv/bin/python bench/plot.py [--results DIRECTORY]

| picture | from | made by |
|---|---|---|
| route.svg | route.jsonl | bench_route --json |
| train.svg, breakdown.svg | train_avx512_bf16.json | bench/train.py --json |
| encode.svg | encode_amx.jsonl | bench_encode --json |
| layers.svg | layers_step_avx512_bf16.jsonl | bench_layers |
| limits.svg | limits_avx512_bf16.jsonl | bench/limits.py --json |
| pipeline.svg | pipeline.jsonl | bench_pipeline --json |

A picture whose results are absent is left out, with a sentence.
"""
import argparse
import json
import pathlib
import sys

try:
    import matplotlib
    matplotlib.use("svg")
    from matplotlib import pyplot
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter
except ImportError:
    sys.exit("bench/plot.py needs the Python package matplotlib: the first lines of the file have the command that "
             "installs it.")

ROOT = pathlib.Path(__file__).resolve().parent.parent
BLUE, ORANGE, GREEN, PINK, YELLOW, SKY, GREY = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9",
                                                "#777777")
ORDER = (BLUE, ORANGE, GREEN, PINK, YELLOW)  # told apart with any colour vision; lines have markers besides
MARKERS = "osD^v"
PARTS = {"product": "products with the frozen matrices", "lora": "LoRA besides", "attention": "attention",
         "loss": "head and loss", "elementwise": "norms, RoPE, SwiGLU", "signum": "Signum"}
QUANTILES = {"p1": 1, "p10": 10, "p25": 25, "median": 50, "p75": 75, "p90": 90, "p95": 95, "p99": 99, "p999": 99.9}


def style():
    pyplot.rcParams.update({
        "svg.fonttype": "none", "svg.hashsalt": "kpool", "font.family": "sans-serif", "font.size": 10,
        "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#dddddd",
        "axes.axisbelow": True, "axes.titlesize": 10, "axes.titlelocation": "left", "figure.facecolor": "white",
        "legend.frameon": False, "lines.linewidth": 1.6, "lines.markersize": 5})


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


def save(figure, path):
    figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")
    pyplot.close(figure)
    print(f"{path.name}: {path.stat().st_size} bytes")


def plain(axis):
    """A logarithmic axis with 1, 2, 5, 10, 20 and so on written out."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(ScalarFormatter())
    axis.set_minor_formatter(NullFormatter())


def route(path, to):
    rows = lines_of(path)
    widths = sorted({row["width"] for row in rows}, reverse=True)
    figure, axes = pyplot.subplots(1, len(widths), figsize=(4.6 * len(widths), 3.6), sharey=True, squeeze=False)
    batches = sorted({row["batch"] for row in rows})
    for axis, width in zip(axes[0], widths):
        for slots, colour, marker in zip(sorted({row["slots"] for row in rows}), ORDER, MARKERS):
            line = sorted((row["batch"], row["route_us"]) for row in rows
                          if row["width"] == width and row["slots"] == slots)
            axis.plot(*zip(*line), color=colour, marker=marker, label=f"K = {slots}")
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.set_xticks(batches, [str(batch) for batch in batches])
        plain(axis.yaxis)
        axis.set_xlabel("records in a batch")
        axis.set_title(f"embeddings of {width} floats")
    axes[0][0].set_ylabel("routing, µs per record (median)")
    axes[0][-1].legend(loc="center left", bbox_to_anchor=(1, 0.5))
    save(figure, to)


def train(path, to):
    cases = json.loads(path.read_text())["cases"]
    names = {"ours": ("kpoold's step", BLUE), "compiled": ("PEFT, torch.compile", ORANGE),
             "eager": ("PEFT, eager", YELLOW)}
    figure, axis = pyplot.subplots(figsize=(1.2 + 1.9 * len(cases), 3.6))
    for i, (name, (label, colour)) in enumerate(names.items()):
        values = [case["tokens_per_second"].get(name, 0) for case in cases]
        bars = axis.bar([x + 0.27 * (i - 1) for x in range(len(cases))], values, 0.25, color=colour, label=label)
        axis.bar_label(bars, [f"{value:.0f}" for value in values], fontsize=8)
    for x, case in enumerate(cases):
        limit = case["limit_model_shapes_tokens_per_second"]
        axis.plot([x - 0.42, x + 0.42], [limit, limit], color="black", linewidth=1,
                  label="GEMM limit of the same run" if x == 0 else None)
    axis.set_xticks(range(len(cases)), [f"{case['precision']}\n{case['shape']}" for case in cases])
    axis.set_ylabel("training, tokens per second")
    axis.grid(axis="x", visible=False)
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1))
    save(figure, to)


def breakdown(path, to):
    cases = [case for case in json.loads(path.read_text())["cases"] if "breakdown_ms" in case["breakdown"]]
    if not cases:
        return print(f"{to.name} left out: {path.name} has no breakdown_ms.")
    figure, axis = pyplot.subplots(figsize=(7.4, 0.9 + 0.55 * len(cases)))
    for y, case in enumerate(cases):
        parts = case["breakdown"]["breakdown_ms"]
        total, left = sum(parts.values()), 0.0
        for (name, label), colour in zip(PARTS.items(), (BLUE, SKY, ORANGE, GREEN, YELLOW, PINK)):
            share = 100 * parts[name] / total
            axis.barh(y, share, 0.7, left=left, color=colour, label=label if y == 0 else None, edgecolor="white")
            if share > 6:
                axis.text(left + share / 2, y, f"{parts[name]:.0f} ms", ha="center", va="center", fontsize=8,
                          color="white" if colour in (BLUE, ORANGE, GREEN) else "black")
            left += share
        axis.barh(y, 100 - left, 0.7, left=left, color=GREY, label="rest" if y == 0 else None, edgecolor="white")
    axis.set_yticks(range(len(cases)), [f"{case['precision']} {case['shape']}" for case in cases])
    axis.invert_yaxis()
    axis.set_xlabel("share of a step's time, %")
    axis.grid(axis="y", visible=False)
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1))
    save(figure, to)


def pipeline(path, to):
    latency = next(row for row in lines_of(path) if row["what"] == "latency")
    figure, axis = pyplot.subplots(figsize=(6, 3.6))
    shown = {"hop_us": ("one hop: encoder to learner / 2", BLUE, "o"),
             "end_to_end_per_hop_us": ("gateway to acknowledgement, synced / 8", ORANGE, "s")}
    for name, (label, colour, marker) in shown.items():
        values = latency[name]
        keys = [key for key in QUANTILES if key in values]
        axis.plot([values[key] for key in keys], [QUANTILES[key] for key in keys], color=colour, marker=marker,
                  label=label)
    axis.set_xscale("log")
    plain(axis.xaxis)
    axis.set_xlabel("µs per hop, one record in an idle pipeline")
    axis.set_ylabel("records that take at most that, %")
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1))
    save(figure, to)


def encode(path, to):
    rows = [row for row in lines_of(path) if "record_tokens" in row]
    figure, axis = pyplot.subplots(figsize=(5, 3.6))
    kinds = sorted({(row["encoder"], row["threads"]) for row in rows})
    for (encoder, threads), colour, marker in zip(kinds, ORDER, MARKERS):
        line = sorted((row["record_tokens"], 100 * row["share_of_step"]) for row in rows
                      if (row["encoder"], row["threads"]) == (encoder, threads))
        axis.plot(*zip(*line), color=colour, marker=marker, label=f"{encoder}, {threads} threads")
    axis.axhline(10, color="black", linewidth=1, label="wanted: at most 10 %")
    axis.set_xscale("log", base=2)
    plain(axis.xaxis)
    axis.set_ylim(bottom=0)
    axis.set_xlabel("tokens of a record")
    axis.set_ylabel("encoder and router, % of a training step")
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1))
    save(figure, to)


def layers(path, to):
    rows = [row for row in lines_of(path) if row["what"] == "step"]
    figure, axis = pyplot.subplots(figsize=(5, 3.6))
    axis.plot([row["layers"] for row in rows], [row["ratio"] for row in rows], color=BLUE, marker="o")
    axis.set_ylim(bottom=0)
    axis.set_xlabel(f"topmost layers with an adapter, of {rows[0]['of']}")
    axis.set_ylabel("time of a step over that of all layers")
    save(figure, to)


def limits(path, to):
    figure, axis = pyplot.subplots(figsize=(5, 3.6))
    for weights, colour, marker in (("bf16", BLUE, "o"), ("quantised", ORANGE, "s")):
        line = sorted((row["peak_memory_mb"], row.get("limited_over_unlimited", 1)) for row in lines_of(path)
                      if row["weights"] == weights)
        axis.plot(*zip(*line), color=colour, marker=marker, label=f"base in memory: {weights}")
    axis.set_xlabel("peak memory of training, MB")
    axis.set_ylabel("time of a step over that without a limit")
    axis.legend(loc="upper right")
    save(figure, to)


PICTURES = {"route.svg": (route, "route.jsonl"), "train.svg": (train, "train_avx512_bf16.json"),
            "breakdown.svg": (breakdown, "train_avx512_bf16.json"), "pipeline.svg": (pipeline, "pipeline.jsonl"),
            "encode.svg": (encode, "encode_amx.jsonl"), "layers.svg": (layers, "layers_step_avx512_bf16.jsonl"),
            "limits.svg": (limits, "limits_avx512_bf16.jsonl")}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=pathlib.Path, default=ROOT / "docs/bench", help="read and written")
    options = parser.parse_args()
    style()
    for name, (draw, source) in PICTURES.items():
        path = options.results / source
        if path.exists():
            draw(path, options.results / name)
        else:
            print(f"{name} left out: {path} is absent.")


if __name__ == "__main__":
    main()
