#!/usr/bin/env python3
"""The cheap studies of docs/results.md, from their plans: what each found is found again. With a margin, for processors
round differently.

usage: eval_studies.py {slots,rate,optimiser,collapse} --build DIR --bench DIR"""
import collections
import pathlib
import re
import statistics
import subprocess
import tempfile

from eval_support import DEADLINE, check, command_of, parse_options, rows_of


def means(rows, value):
    """By method and cell: the mean over seeds."""
    groups = collections.defaultdict(list)
    for row in rows:
        groups[row["method"], *row["cell"].values()].append(value(row))
    return {key: statistics.mean(values) for key, values in groups.items()}


def final_loss(row):
    return statistics.mean(row["losses"][-1])


def slots(rows):
    """K against D = 5: what fewer slots cost is eviction, not routing."""
    loss = means(rows, final_loss)
    pool = [loss["kpool", "score", str(k)] for k in (2, 3, 4, 5, 6)]
    check(all(fewer > more + 0.15 for fewer, more in zip(pool[:3], pool[1:])), f"fewer slots cost nothing: {pool}")
    check(abs(pool[3] - loss["task-id", "score", "5"]) < 0.06, f"K = D is not like told slots: {loss}")
    regret = {part: means(rows, lambda row: row["ledger"][part])["kpool", "score", "4"] for part in
              ("routing", "eviction")}
    check(regret["eviction"] > 0.15 and regret["routing"] < 0.02, f"K = D - 1 does not lose by eviction: {regret}")
    return f"final loss at K = 2 to 6: {', '.join(f'{value:.3f}' for value in pool)}; at K = 4 lost to {regret}"


def rate(rows):
    """The guard ends alike from any start, where fixed rates do not."""
    loss = means(rows, final_loss)
    spread = {guard: max(of) - min(of) for guard in ("auto", "warn")
              if (of := [value for key, value in loss.items() if guard in key])}
    check(spread["auto"] < 0.1 and spread["warn"] > 1, f"spread over nine rates: {spread}")
    return f"spread over nine rates: {spread['auto']:.3f} guarded, {spread['warn']:.3f} fixed"


def optimiser(rows):
    """Signum and AdamW, each at its best rate, end alike; AdamW's is five times Signum's."""
    loss = means(rows, final_loss)
    best = {name: min((value, key) for key, value in loss.items() if name in key) for name in ("signum", "adamw")}
    check(abs(best["signum"][0] - best["adamw"][0]) < 0.05, f"they differ: {loss}")
    check("0.001" in best["signum"][1] and "0.005" in best["adamw"][1], f"other rates are best: {loss}")
    return f"Signum {best['signum'][0]:.3f}, AdamW {best['adamw'][0]:.3f}"


def collapse(rows):
    """A softmax gate gives one slot to several domains; the router does not."""
    loss = means(rows, final_loss)
    check(loss["kpool", "4"] < loss["softmax", "4"] - 0.5, f"the gate is as good as the router: {loss}")
    check(all(len(row["births"]) == 4 for row in rows if row["method"] == "kpool"), "a domain has no slot, or two")
    return f"router {loss['kpool', '4']:.3f}, softmax gate {loss['softmax', '4']:.3f}"


OF_THEN = ("--set", "lora.alpha=16")  # the default when its plan was fixed
STUDIES = {"slots": ("tiny_slots_again", slots), "rate": ("tiny_rate", rate),
           "optimiser": ("tiny_optimiser_again", optimiser, *OF_THEN), "collapse": ("tiny_collapse", collapse)}


def main():
    options = parse_options("study")
    name, judge, *settings = STUDIES[options.study]
    with tempfile.TemporaryDirectory() as directory:
        root = pathlib.Path(directory)
        plan, results = root / "plan.toml", root / "results.jsonl"
        text = (options.bench / "plans" / f"{name}.toml").read_text()
        seeds = r"seeds = \[(\d+), (\d+), (\d+).*\]"  # the first three: a check, not a study
        plan.write_text(re.sub(seeds, r"seeds = [\1, \2, \3]", text))
        command = command_of(options, root, plan, results)
        subprocess.run([*command, *settings], check=True, stderr=subprocess.DEVNULL, timeout=DEADLINE)
        print(f"eval_studies {options.study}: {judge(rows_of(results))}")


if __name__ == "__main__":
    main()
