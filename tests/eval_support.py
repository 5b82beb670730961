"""What the tests of kpool-eval's plans share: made-up text, a random-weight model of two layers, and where they lie."""
import argparse
import json
import os
import pathlib
import subprocess
import sys

DEADLINE = 540  # seconds
PYTHON = [sys.executable, "-B"]


def check(condition, sentence):
    if not condition:
        sys.exit(f"{pathlib.Path(sys.argv[0]).stem}: {sentence}")


def lines(path):
    return path.read_text().splitlines() if path.exists() else []


def rows_of(results):
    return [json.loads(line) for line in lines(results)]


def parse_options(*positional):
    parser = argparse.ArgumentParser()
    for name in positional:
        parser.add_argument(name)
    parser.add_argument("--build", type=pathlib.Path, required=True)
    parser.add_argument("--bench", type=pathlib.Path, required=True)
    os.environ["OMP_NUM_THREADS"] = "1"
    return parser.parse_args()


def command_of(options, root, plan, results):
    """kpool-eval on the made-up text in `root`, which is made."""
    subprocess.run([*PYTHON, options.bench / "synthetic.py", root / "data", "5", "800", "1"], check=True)
    subprocess.run([options.build / "tests/tiny_model", root / "tiny.gguf"], check=True)
    files = ["--model", root / "tiny.gguf", "--data", root / "data", "--out", results]
    return [options.build / "kpool-eval", plan, *files]
