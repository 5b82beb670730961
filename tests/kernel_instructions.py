"""Counts the instructions per element of every vector kernel under valgrind and compares them with a committed table,
which is kept per processor and compiler. Usage: kernel_instructions.py PROGRAM TABLE [--rewrite]
Exits with 77 (skipped) without valgrind or without a table for this compiler."""
import glob
import json
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile

TOLERANCE = 0.10
SKIPPED = 77


def stop(code, sentence):
    print(f"kernel_instructions: {sentence}")
    sys.exit(code)


def run_counted(program):
    """The program's lines, and the instructions of each of its dumps by name."""
    with tempfile.TemporaryDirectory() as directory:
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={directory}/out", program]
        run = subprocess.run(command, capture_output=True, text=True)
        if run.returncode != 0:
            stop(1, f"{program} failed under valgrind: {run.stderr.strip().splitlines()[-1:]}")
        counts = {}
        for path in glob.glob(f"{directory}/out*"):
            text = pathlib.Path(path).read_text()
            name = re.search(r"^desc: Trigger: Client Request: (\S+)$", text, re.MULTILINE)
            total = re.search(r"^(?:totals|summary): (\d+)$", text, re.MULTILINE)
            if name and total:
                counts[name.group(1)] = int(total.group(1))
    return run.stdout.splitlines(), counts


def measure(program):
    """The table's key, and {set: {kernel: instructions per element}}."""
    (compiler, *lines), counts = run_counted(program)
    sets = {}
    for line in lines:
        name, elements = line.split()
        if name not in counts:
            stop(SKIPPED, "skipped: the program was built without valgrind's headers, so nothing was counted")
        set_name, kernel = name.split("/")
        sets.setdefault(set_name, {})[kernel] = round(counts[name] / int(elements), 3)
    return f"{platform.machine()} {compiler}", sets


def complaints(expected, measured, rewrite):
    for set_name, kernels in measured.items():
        known = expected.get(set_name, {})
        for kernel in sorted(kernels.keys() | known.keys()):
            if kernel not in known or kernel not in kernels:
                where = "the table" if kernel not in known else "the program"
                yield f"{set_name} {kernel} is missing in {where}; if that is meant, run {rewrite}"
            elif abs(kernels[kernel] / known[kernel] - 1) > TOLERANCE:
                yield (f"{set_name} {kernel} takes {kernels[kernel]} instructions per element, the table says "
                       f"{known[kernel]} ({kernels[kernel] / known[kernel] - 1:+.0%}, {TOLERANCE:.0%} are allowed); "
                       f"if that is meant, run {rewrite}")


def main(program, table_path, *options):
    if not shutil.which("valgrind"):
        stop(SKIPPED, "skipped: valgrind is not installed")
    table_file = pathlib.Path(table_path)
    table = json.loads(table_file.read_text()) if table_file.exists() else {}
    key, measured = measure(program)
    if options == ("--rewrite",):
        table[key] = measured
        table_file.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n")
        stop(0, f"wrote {sum(map(len, measured.values()))} counts for {key}")
    if key not in table:
        stop(SKIPPED, f"skipped: {table_path} has no counts for {key}, only for {', '.join(table) or 'nothing'}")
    rewrite = f"python3 {sys.argv[0]} {program} {table_path} --rewrite"
    found = list(complaints(table[key], measured, rewrite))
    for complaint in found:
        print(f"kernel_instructions: {complaint}")
    unseen = ", ".join(table[key].keys() - measured.keys())
    if unseen:
        print(f"kernel_instructions: this processor does not run {unseen}, which was not compared")
    if not found:
        print(f"kernel_instructions: {sum(map(len, measured.values()))} counts are those of the table for {key}")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
