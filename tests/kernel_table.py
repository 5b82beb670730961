"""Counts of kernels against a committed table, which is kept per processor and compiler: for kernel_instructions.py and
kernel_code.py."""
import json
import pathlib
import sys

TOLERANCE = 0.10
SKIPPED = 77


def stop(code, sentence):
    print(f"{pathlib.Path(sys.argv[0]).stem}: {sentence}")
    sys.exit(code)


def complaints(expected, measured, unit, slack, rewrite):
    for set_name, kernels in measured.items():
        known = expected.get(set_name, {})
        for kernel in sorted(kernels.keys() | known.keys()):
            if kernel not in known or kernel not in kernels:
                where = "the table" if kernel not in known else "the program"
                yield f"{set_name} {kernel} is missing in {where}; if that is meant, run {rewrite}"
            elif abs(kernels[kernel] - known[kernel]) > max(TOLERANCE * known[kernel], slack):
                yield (f"{set_name} {kernel} takes {kernels[kernel]} {unit}, the table says {known[kernel]} "
                       f"({kernels[kernel] / known[kernel] - 1:+.0%}, {TOLERANCE:.0%} are allowed); "
                       f"if that is meant, run {rewrite}")


def judge(key, measured, table_path, unit, options, slack=0):
    """Ends the program. measured: {set: {kernel: count}}; options: of the command line, after the table; slack: how
    much a count may always be off."""
    table_file = pathlib.Path(table_path)
    table = json.loads(table_file.read_text()) if table_file.exists() else {}
    if options and options[-1] == "--rewrite":
        table[key] = measured
        table_file.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n")
        stop(0, f"wrote {sum(map(len, measured.values()))} counts for {key}")
    if key not in table:
        stop(SKIPPED, f"skipped: {table_path} has no counts for {key}, only for {', '.join(table) or 'nothing'}")
    found = list(complaints(table[key], measured, unit, slack, f"python3 {' '.join(sys.argv)} --rewrite"))
    unseen = ", ".join(table[key].keys() - measured.keys())
    if unseen:
        print(f"this processor does not run {unseen}, which was not compared")
    if found:
        stop(1, "\n".join(found))
    stop(0, f"{sum(map(len, measured.values()))} counts are those of the table for {key}")
