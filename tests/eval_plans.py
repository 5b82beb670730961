#!/usr/bin/env python3
"""A plan as docs/evaluation.md says: made-up text, a random-weight model of two layers, every run, and the report. The
program is killed once on the way and goes on.

usage: eval_plans.py --build DIR --bench DIR"""
import json
import pathlib
import signal
import subprocess
import tempfile
import time

from eval_support import DEADLINE, PYTHON, check, command_of, lines, parse_options, rows_of

PLAN = "plans/tiny_oracle_defaults.toml"


def kill_on_the_way(command, results):
    program = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    end = time.monotonic() + DEADLINE
    while len(lines(results)) < 7 and program.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
    check(program.poll() is None, f"the program ended with {program.returncode} before it was killed")
    program.send_signal(signal.SIGKILL)
    program.wait()
    return [line for line in results.read_text().splitlines(keepends=True) if line.endswith("\n")]


def main():
    options = parse_options()
    plan = options.bench / PLAN
    with tempfile.TemporaryDirectory() as directory:
        root = pathlib.Path(directory)
        results, verdicts = root / "results.jsonl", root / "verdicts.json"
        command = command_of(options, root, plan, results)
        before = kill_on_the_way(command, results)
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL, timeout=DEADLINE)
        subprocess.run([*PYTHON, options.bench / "report.py", plan, results, "--json", verdicts, "--html",
                        root / "report.html"], check=True)
        check("Final loss" in (root / "report.html").read_text(), "the report has no final losses")
        check(results.read_text().startswith("".join(before)), "the runs before the kill are not those of the end")
        rows = rows_of(results)
        check(len({row["run"] for row in rows}) == len(rows) == 60, f"{len(rows)} runs, or one twice, of 60 planned")
        check(all(len(row["births"]) == 5 for row in rows if row["method"] == "kpool"), "a domain has no slot, or two")
        told, shared = json.loads(verdicts.read_text())["comparisons"]
        check(told["minus"] == "task-id" and told["p_worse_holm"] > 0.05, f"the pool is worse than told slots: {told}")
        check(shared["minus"] == "shared" and shared["p_better_holm"] < 0.05, f"one slot for all is as good: {shared}")
        print(f"eval_plans: told slots {told['mean']:+.4f} nats, one slot for all {shared['mean']:+.4f}")


if __name__ == "__main__":
    main()
