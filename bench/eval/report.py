#!/usr/bin/env python3
"""Tables and figures of an experiment: report.py PLAN.toml RESULTS.jsonl [--html FILE] [--markdown FILE] [--json FILE]

Without a file the tables go to standard output. Pictures, which only the HTML has, need matplotlib; without it the
report has tables alone.
--json writes the comparisons. Needs Python 3.11.
"""
import argparse
import collections
import hashlib
import json
import math
import pathlib
import sys
import tomllib

import comparisons
import figures
import metrics
import paired
import rendering

COLUMNS = [("final_loss", "final loss", 4), ("prequential", "prequential", 4), ("forgetting", "forgetting", 4),
           ("backward_transfer", "BWT", 4), ("forward_transfer", "FWT", 4), ("routing_accuracy", "routing", 3),
           ("worst_domain", "worst domain", 3), ("nmi", "NMI", 3),
           ("conditional_entropy", "H(slot given domain)", 3), ("births", "births", 1),
           ("extra_births", "beyond one a domain", 1), ("extra_birth_rate", "per 1,000 batches", 2),
           ("birth_delay", "birth delay", 2), ("evictions", "evictions", 1),
           ("effective_slots", "effective slots", 2), ("domains_without_own_slot", "domains without own slot", 2),
           ("regret_routing", "regret: routing", 4), ("regret_interference", "interference", 4),
           ("regret_eviction", "eviction", 4), ("max_share", "largest share", 3), ("cv2", "CV²", 2),
           ("normalised_entropy", "entropy / ln slots", 3), ("dead_slots", "dead slots", 2),
           ("collapsed_lines", "collapsed lines", 2), ("ece", "ECE", 3)]
ROUTING = {"routing_accuracy", "worst_domain", "nmi", "conditional_entropy", "births", "extra_births",
           "extra_birth_rate", "birth_delay", "evictions", "effective_slots", "domains_without_own_slot", "max_share",
           "cv2", "normalised_entropy", "dead_slots", "collapsed_lines", "ece"}


def read_plan(path):
    try:
        text = pathlib.Path(path).read_bytes()
        return tomllib.loads(text.decode()), hashlib.sha256(text).hexdigest()
    except OSError as error:
        sys.exit(f"{path} cannot be read: {error.strerror}")
    except ValueError as error:
        sys.exit(f"{path} is no plan: {error}")


def read_rows(path, plan_path, digest):
    """A last line that a kill cut short is left out, as kpool-eval does. A loss of null is NaN here."""
    try:
        lines = pathlib.Path(path).read_text("utf-8").split("\n")[:-1]
    except (OSError, ValueError) as error:
        sys.exit(f"{path} cannot be read: {error}")
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            of_plan = row["plan"]
        except (ValueError, KeyError, TypeError):
            sys.exit(f"{path}:{number} is no result of kpool-eval")
        if of_plan != digest:
            sys.exit(f"{path}:{number} is of another plan than {plan_path} (SHA-256 {digest[:16]}...)")
        for name in ("losses", "own_losses"):
            if name in row:
                row[name] = [[math.nan if loss is None else loss for loss in line] for line in row[name]]
        rows.append(row)
    if not rows:
        sys.exit(f"{path} holds no results")
    return rows


def cell_of(row):
    return tuple(row.get("cell", {}).items())


def grouped(rows):
    """(cell, method) -> {seed: metrics}, in the order of the rows."""
    groups = {}
    for row in rows:
        groups.setdefault((cell_of(row), row["method"]), {})[row["seed"]] = metrics.of_row(row)
    return groups


def planned(plan):
    """How many runs the plan asks for."""
    return math.prod([len(plan["methods"]), len(plan.get("seeds", [1]))] +
                     [len(values) if isinstance(values, list) else 1 for values in plan.get("grid", {}).values()])


def number(values, digits):
    undefined = sum(not math.isfinite(value) for value in values)
    if undefined:
        return "–" if undefined == len(values) else f"none in {undefined} of {len(values)} runs"
    text = f"{paired.mean(values):.{digits}f}"
    interval = paired.bootstrap(values) if digits > 1 and max(values) > min(values) else None
    return f"{text} [{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]" if interval else text


def summary(groups, columns):
    known = {key for seeds in groups.values() for one in seeds.values() for key in one}
    shown = [column for column in columns if column[0] in known]
    table = [["cell", "method", "n"] + [title for _, title, _ in shown]] if shown else []
    for (cell, method), seeds in groups.items() if shown else ():
        table.append([comparisons.cell_text(cell), method, str(len(seeds))] +
                     [number([one.get(key, math.nan) for one in seeds.values()], digits) for key, _, digits in shown])
    return table


def by_position(row):
    """The row's domains in the order in which they were first learned; those without a segment of their own last."""
    order = list(dict.fromkeys(domain for domain in row["segments"] if domain >= 0))
    return order + [domain for domain in range(len(row["domains"])) if domain not in order]


def mean_losses(members):
    """(columns, lines, values): mean losses after each segment. Columns are domains, or, where the order differs from
    seed to seed, the domain that was learned first, second and so on. None where not even that makes the rows alike."""
    same = len({tuple(row["segments"]) for row in members}) == 1
    orders = [list(range(len(row["domains"]))) if same else by_position(row) for row in members]
    segments = {tuple(order.index(domain) if domain >= 0 else -1 for domain in row["segments"])
                for row, order in zip(members, orders)}
    if len(segments) > 1:
        return None
    names = members[0]["domains"] if same else [f"learned {i + 1}." for i in range(len(orders[0]))]
    lines = ["(base)"] + [names[domain] if domain >= 0 else "(mixed)" for domain in segments.pop()[1:]]
    return names, lines, [[paired.mean([row["losses"][i][order[j]] for row, order in zip(members, orders)])
                           for j in range(len(names))] for i in range(len(lines))]


def losses_by_segment(rows):
    """[(method, cell, runs, mean losses), ...]"""
    sets = collections.OrderedDict()
    for row in rows:
        if "losses" in row:
            sets.setdefault((row["method"], cell_of(row)), []).append(row)
    found = [(method, cell, len(members), mean_losses(members)) for (method, cell), members in sets.items()]
    return [one for one in found if one[3]]


def matrix(names, lines, values):
    return [["after"] + names] + [[line] + [f"{value:.3f}" for value in numbers]
                                  for line, numbers in zip(lines, values)]


def pictures(groups, losses):
    """([(caption, SVG), ...], a sentence or empty)"""
    curves, bars, panels = figures.curves(groups), figures.bars(groups), figures.panels(losses)
    by = "by " + ", ".join(["method", *comparisons.values_of_axes(groups)])
    best = ", each method's cell that ends lowest" if len(panels) < len(losses) else ""
    found = []
    try:
        if curves:
            found.append((f"Mean final loss over {curves[0]} [95 % bootstrap interval]", figures.draw_curves(*curves)))
        if bars:
            found.append((f"Means over seeds [95 % bootstrap interval] {by}", figures.draw_bars(bars)))
        if panels:
            found.append((f"Mean losses after each segment {by}{best}", figures.draw_maps(panels)))
    except ImportError:
        return [], "The pictures are missing: Python here has no matplotlib."
    return found, ""


def duration(seconds):
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{seconds:.0f} s"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan")
    parser.add_argument("results")
    for option in ("--html", "--markdown", "--json"):
        parser.add_argument(option)
    arguments = parser.parse_args()
    plan, digest = read_plan(arguments.plan)
    rows = read_rows(arguments.results, arguments.plan, digest)
    groups, margin = grouped(rows), plan.get("margin", 0.02)
    methods, choices = comparisons.of_methods(groups, margin), comparisons.of_choices(groups, margin)
    by_segment = losses_by_segment(rows)
    loss, routing = [c for c in COLUMNS if c[0] not in ROUTING], [c for c in COLUMNS if c[0] in ROUTING]
    tables = [("Loss: means over seeds [95 % bootstrap interval]", summary(groups, loss)),
              ("Routing and collapse: means over seeds [95 % bootstrap interval]", summary(groups, routing)),
              ("Final loss, kpool against the others", comparisons.table(methods)),
              ("Final loss, each choice against the first", comparisons.table(choices)),
              *((f"Losses after each segment: {method}, {comparisons.cell_text(cell)}, n = {runs}", matrix(*means))
                for method, cell, runs, means in by_segment)]
    tables = [(title, table) for title, table in tables if len(table) > 1]
    state = (f"{len(rows)} of {planned(plan)} planned runs, {duration(sum(row['seconds'] for row in rows))} in all; "
             f"margin {margin} nats per token")
    if arguments.json:
        found = {"plan": digest, "comparisons": methods + choices}
        pathlib.Path(arguments.json).write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    if arguments.html:
        drawn, missing = pictures(groups, by_segment)
        paragraphs = [plan.get("question", ""), f"Plan {digest}; {state}.", missing]
        pathlib.Path(arguments.html).write_text(
            rendering.page(plan["name"], paragraphs, tables, drawn, methods + choices), "utf-8")
    text = f"Plan `{digest[:16]}`: {plan.get('question', '')} ({state})\n\n" + \
        "\n".join(rendering.markdown(*each) for each in tables)
    if arguments.markdown:
        pathlib.Path(arguments.markdown).write_text(text, "utf-8")
    if not (arguments.markdown or arguments.html or arguments.json):
        print(text)


if __name__ == "__main__":
    main()
