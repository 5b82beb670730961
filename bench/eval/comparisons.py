"""Which differences of the mean final loss an experiment shows, paired by seed: kpool against the other methods, and
the choices of a grid (policies, say) against the first one listed. Questions and corrections: docs/evaluation.md.

groups: (cell, method) -> {seed: metrics}; a cell is a tuple of (setting, value) pairs.
"""
import math

import paired

ALPHA = 0.05


def cell_text(cell):
    return ", ".join(f"{key} = {value}" for key, value in cell) or "all"


def is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


def values_of_axes(groups):
    """setting -> its values, in the order of the rows."""
    axes = {}
    for cell, _ in groups:
        for key, value in cell:
            axes.setdefault(key, {})[value] = None
    return {key: list(values) for key, values in axes.items()}


def numeric_axes(groups):
    return [key for key, values in values_of_axes(groups).items() if len(values) > 1 and all(map(is_number, values))]


def compare(cell, subject, reference, ours, theirs, margin):
    """None where the two have no seed in common."""
    common = [seed for seed in ours if seed in theirs and "final_loss" in ours[seed]]
    if not common:
        return None
    differences = [ours[seed]["final_loss"] - theirs[seed]["final_loss"] for seed in common]
    if not all(map(math.isfinite, differences)):
        return {"cell": cell_text(cell), "of": subject, "minus": reference, "margin": margin, "n": len(common),
                "verdict": "a run diverged"}
    return {"cell": cell_text(cell), "of": subject, "minus": reference, **paired.tost(differences, margin, ALPHA),
            "sign_flip_p": paired.sign_flip(differences)}


def of_methods(groups, margin):
    found = [compare(cell, "kpool", method, groups[cell, "kpool"], seeds, margin)
             for (cell, method), seeds in groups.items() if method != "kpool" and (cell, "kpool") in groups]
    return judge([one for one in found if one], margin)


def of_choices(groups, margin):
    """Along each axis of the grid whose values are no numbers: every value against the first, all else equal."""
    found = []
    for key, values in values_of_axes(groups).items():
        if all(map(is_number, values)):
            continue
        for (cell, method), seeds in groups.items():
            value = dict(cell)[key]
            first = tuple((k, values[0] if k == key else v) for k, v in cell)
            if value != values[0] and (first, method) in groups:
                rest = (("method", method), *((k, v) for k, v in cell if k != key))
                found.append(compare(rest, value, values[0], seeds, groups[first, method], margin))
    return judge([one for one in found if one], margin)


def judge(found, margin):
    """Adds p values that Holm adjusted over the list, each question by itself, and what they show."""
    tested = [one for one in found if "p_lower" in one]
    questions = {"p_equivalent_holm": lambda one: max(one["p_lower"], one["p_upper"]),
                 "p_not_worse_holm": lambda one: one["p_upper"],
                 "p_better_holm": lambda one: 1 - one["p_lower"],
                 "p_worse_holm": lambda one: 1 - one["p_upper"]}
    for name, question in questions.items():
        for one, p in zip(tested, paired.holm([question(one) for one in tested])):
            one[name] = p
    for one in tested:
        one["verdict"] = verdict(one, margin)
    return found


def verdict(one, margin):
    if one["p_equivalent_holm"] < ALPHA:
        return f"equivalent within {margin}"
    text = f"not shown to be equivalent within {margin}"
    if one["p_better_holm"] < ALPHA:
        return f"{text}: better by more than that"
    if one["p_worse_holm"] < ALPHA:
        return f"{text}: worse by more than that"
    return f"{text}, but not worse by that" if one["p_not_worse_holm"] < ALPHA else text


def table(found):
    lines = [["cell", "of", "minus", "n", "mean", "sd", "90 % interval", "p lower", "p upper", "p equivalent (Holm)",
              "p not worse (Holm)", "p of sign flips", "verdict"]]
    for one in found:
        line = [one["cell"], one["of"], one["minus"], str(one["n"])]
        if "mean" in one:
            flips = one["sign_flip_p"]
            line += [f"{one['mean']:+.4f}", f"{one['sd']:.4f}", "[{:+.4f}, {:+.4f}]".format(*one["ci90"])]
            line += [f"{one[key]:.2g}" for key in ("p_lower", "p_upper", "p_equivalent_holm", "p_not_worse_holm")]
            line += ["" if flips is None else f"{flips:.3g}"]
        else:
            line += [""] * 8
        lines.append(line + [one["verdict"]])
    return lines
