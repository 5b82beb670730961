"""Counts the instructions per element of every vector kernel under valgrind and compares them with a committed table,
which is kept per processor and compiler. Usage: kernel_instructions.py PROGRAM TABLE [--rewrite]
Exits with 77 (skipped) without valgrind or without a table for this compiler."""
import glob
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile

from kernel_table import SKIPPED, judge, stop


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


def main(program, table_path, *options):
    if not shutil.which("valgrind"):
        stop(SKIPPED, "skipped: valgrind is not installed")
    key, measured = measure(program)
    judge(key, measured, table_path, "instructions per element", options)


if __name__ == "__main__":
    main(*sys.argv[1:])
