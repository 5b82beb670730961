#!/usr/bin/env python3
"""Tables and figures of an experiment: report.py PLAN.toml RESULTS.jsonl [--html FILE] [--markdown FILE]

Without a file the tables go to standard output. Figures need matplotlib; without it the report has tables alone.
Needs Python 3.11.
"""
import argparse
import collections
import hashlib
import html
import io
import json
import pathlib
import sys
import tomllib

import metrics
import paired

COLUMNS = [("final_loss", "final loss", 4), ("prequential", "prequential", 4), ("forgetting", "forgetting", 4),
           ("backward_transfer", "BWT", 4),
           ("forward_transfer", "FWT", 4), ("routing_accuracy", "routing", 3), ("worst_domain", "worst domain", 3),
           ("nmi", "NMI", 3), ("births", "births", 1), ("extra_births", "beyond one a domain", 1),
           ("evictions", "evictions", 1), ("effective_slots", "effective slots", 2),
           ("domains_without_own_slot", "domains without own slot", 2), ("regret_routing", "regret: routing", 4),
           ("regret_interference", "interference", 4), ("regret_eviction", "eviction", 4)]


def read(plan_path, results_path):
    text = pathlib.Path(plan_path).read_bytes()
    plan = tomllib.loads(text.decode())
    digest = hashlib.sha256(text).hexdigest()
    rows = []
    for number, line in enumerate(pathlib.Path(results_path).read_text().splitlines(), 1):
        row = json.loads(line)
        if row["plan"] != digest:
            sys.exit(f"{results_path}:{number} is of another plan than {plan_path} (SHA-256 {digest[:16]}...)")
        rows.append(row)
    if not rows:
        sys.exit(f"{results_path} holds no results")
    return plan, digest, rows


def cell_of(row):
    return ", ".join(f"{key} = {value}" for key, value in row.get("cell", {}).items()) or "all"


def grouped(rows):
    """(cell, method) -> {seed: metrics}, in the order of the rows."""
    groups = collections.OrderedDict()
    for row in rows:
        groups.setdefault((cell_of(row), row["method"]), {})[row["seed"]] = metrics.of_row(row)
    return groups


def number(values, digits):
    text = f"{paired.mean(values):.{digits}f}"
    interval = paired.bootstrap(values)
    if interval and digits > 1 and max(values) > min(values):
        text += f" [{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]"
    return text


def summary(groups):
    known = {key for seeds in groups.values() for one in seeds.values() for key in one}
    shown = [column for column in COLUMNS if column[0] in known]
    table = [["cell", "method", "n"] + [title for _, title, _ in shown]]
    for (cell, method), seeds in groups.items():
        table.append([cell, method, str(len(seeds))] +
                     [number([one[key] for one in seeds.values()], digits) for key, _, digits in shown])
    return table


def comparisons(groups, margin):
    """kpool minus each other method in final loss, by seed; p values adjusted over all cells (Holm)."""
    found = []
    for (cell, method), seeds in groups.items():
        ours = groups.get((cell, "kpool"), {})
        common = [seed for seed in seeds if seed in ours and "final_loss" in seeds[seed]]
        if method == "kpool" or not common:
            continue
        differences = [ours[seed]["final_loss"] - seeds[seed]["final_loss"] for seed in common]
        found.append((cell, method, paired.tost(differences, margin), paired.sign_flip(differences)))
    adjusted = paired.holm([max(test.get("p_lower", 1), test.get("p_upper", 1)) for _, _, test, _ in found])
    table = [["cell", "kpool minus", "n", "mean", "90 % interval", "p of TOST (Holm)", "sign flips p", "verdict"]]
    for (cell, method, test, flips), p in zip(found, adjusted):
        if "mean" not in test:
            table.append([cell, method, str(test["n"]), "", "", "", "", test["verdict"]])
            continue
        verdict = "equivalent" if p < 0.05 else "not shown to be equivalent"
        table.append([cell, method, str(test["n"]), f"{test['mean']:+.4f}",
                      "[{:+.4f}, {:+.4f}]".format(*test["ci90"]), f"{p:.2g}", "" if flips is None else f"{flips:.3g}",
                      f"{verdict} within {margin}"])
    return table


def matrices(rows):
    """Mean losses after each segment, per cell and method, where every run had the same segments."""
    sets, runs = collections.OrderedDict(), collections.Counter((cell_of(row), row["method"]) for row in rows)
    for row in rows:
        if "losses" in row:
            sets.setdefault((cell_of(row), row["method"], tuple(row["segments"])), []).append(row)
    tables = []
    for (cell, method, segments), members in sets.items():
        if len(members) < runs[cell, method]:
            continue
        domains = members[0]["domains"]
        table = [["after"] + domains]
        for i, domain in enumerate(segments):
            name = "(base)" if i == 0 else domains[domain] if domain >= 0 else "(mixed)"
            table.append([name] + [f"{paired.mean([m['losses'][i][d] for m in members]):.3f}"
                                   for d in range(len(domains))])
        tables.append((f"{method}, {cell}, n = {len(members)}", table))
    return tables[:12]


def figure(groups):
    """Final loss over the grid's one numeric axis, as SVG; None where there is none or no matplotlib."""
    curves = collections.OrderedDict()
    for (cell, method), seeds in groups.items():
        key, _, value = cell.partition(" = ")
        try:
            values = [one["final_loss"] for one in seeds.values()]
            curves.setdefault(method, []).append((float(value), paired.mean(values), paired.bootstrap(values)))
        except (ValueError, KeyError):
            return None
    try:
        import matplotlib
        matplotlib.use("svg")
        from matplotlib import pyplot
    except ImportError:
        return None
    picture, axes = pyplot.subplots(figsize=(7, 4))
    for method, points in curves.items():
        points.sort()
        axes.plot([p[0] for p in points], [p[1] for p in points], marker="o", label=method)
        if all(p[2] for p in points):
            axes.fill_between([p[0] for p in points], [p[2][0] for p in points], [p[2][1] for p in points], alpha=0.2)
    if "rate" in key:
        axes.set_xscale("log")
    axes.set(xlabel=key, ylabel="mean final loss (nats per token)")
    axes.legend()
    out = io.StringIO()
    picture.savefig(out, format="svg")
    return out.getvalue()[out.getvalue().index("<svg"):]


def markdown(title, table):
    lines = ["| " + " | ".join(line) + " |" for line in table]
    return "\n".join([f"### {title}", "", lines[0], "|" + "---|" * len(table[0]), *lines[1:], ""])


def page(plan, digest, tables, picture):
    def cells(tag, line):
        return "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in line)
    body = "".join(f"<h2>{html.escape(title)}</h2><table><tr>{cells('th', table[0])}</tr>" +
                   "".join(f"<tr>{cells('td', line)}</tr>" for line in table[1:]) + "</table>"
                   for title, table in tables)
    return (f"<!doctype html><meta charset=utf-8><title>{html.escape(plan['name'])}</title><style>"
            ":root{color-scheme:light dark}body{font:15px system-ui;margin:2em;max-width:80em}"
            "table{border-collapse:collapse}td,th{padding:.2em .7em;border-bottom:1px solid #8886;text-align:left}"
            "svg{background:#fff}</style>"
            f"<h1>{html.escape(plan['name'])}</h1><p>{html.escape(plan.get('question', ''))}<p>Plan "
            f"<code>{digest}</code>, margin {plan.get('margin', 0.02)} nats per token.{picture or ''}{body}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan")
    parser.add_argument("results")
    parser.add_argument("--html")
    parser.add_argument("--markdown")
    arguments = parser.parse_args()
    plan, digest, rows = read(arguments.plan, arguments.results)
    groups = grouped(rows)
    tables = [("Means over seeds [95 % bootstrap interval]", summary(groups)),
              ("Final loss, kpool against the others", comparisons(groups, plan.get("margin", 0.02))), *matrices(rows)]
    tables = [(title, table) for title, table in tables if len(table) > 1]
    text = f"Plan `{digest[:16]}`: {plan.get('question', '')}\n\n" + "\n".join(markdown(*each) for each in tables)
    if arguments.markdown:
        pathlib.Path(arguments.markdown).write_text(text)
    if arguments.html:
        pathlib.Path(arguments.html).write_text(page(plan, digest, tables, figure(groups)))
    if not arguments.markdown and not arguments.html:
        print(text)


if __name__ == "__main__":
    main()
