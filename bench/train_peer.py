"""The peer's side of bench/train.py, one process: PEFT's LoRA on transformers' Llama, eager or compiled.

Answers one line of JSON to every line "step" that it reads. A step: forward, loss, backward, Signum by torch's
_foreach operators (the cheapest optimiser that still learns what ours learns; under 1 % of the step), zero_grad.
"""
import json
import pathlib
import resource
import sys
import time

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file

sys.path.insert(0, str(pathlib.Path(__file__).parent / "parity"))
from model import LINEARS, transformers_llama  # noqa: E402

LEARNING_RATE, MOMENTUM, TOKENS = 1e-3, 0.9, 512


def adapted_model(gguf, precision, attention, adapter, adapter_precision):
    """Dequantised weights, the same initial A and B as ours. The adapter in the base's precision is the faster way
    for the peer in bfloat16 (PEFT's default is float32)."""
    base = transformers_llama(gguf).to(getattr(torch, precision))
    base.set_attn_implementation(attention)
    base.config.use_cache = False
    lora = LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0, target_modules=LINEARS, task_type="CAUSAL_LM")
    model = get_peft_model(base, lora, autocast_adapter_dtype=adapter_precision == "float32")
    values = load_file(adapter)
    parameters = {name.replace(".default", ""): p for name, p in model.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(values[name])
    return model.train(), list(parameters.values())


class Trainer:
    def __init__(self, model, parameters, compiled, rows):
        self.model = torch.compile(model, dynamic=False) if compiled else model
        self.parameters = parameters
        self.momenta = [torch.zeros_like(p) for p in parameters]
        self.rows = rows  # (batches, segments, length)
        self.steps = 0

    def step(self):
        ids = self.rows[self.steps % len(self.rows)]
        self.steps += 1
        loss = self.model(input_ids=ids, labels=ids).loss
        loss.backward()
        with torch.no_grad():
            torch._foreach_lerp_(self.momenta, [p.grad for p in self.parameters], 1 - MOMENTUM)
            torch._foreach_add_(self.parameters, torch._foreach_sign(self.momenta), alpha=-LEARNING_RATE)
        for parameter in self.parameters:
            parameter.grad = None
        return loss.item()


def memory_mb(field):
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field + ":"))


def processor_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main():
    gguf, kind, precision, threads, segments, ids, adapter, attention, adapter_precision = sys.argv[1:]
    torch.set_num_threads(int(threads))
    ids = json.loads(pathlib.Path(ids).read_text())["ids"]
    rows = torch.tensor(ids[:len(ids) // TOKENS * TOKENS]).view(-1, int(segments), TOKENS // int(segments))
    trainer = Trainer(*adapted_model(gguf, precision, attention, adapter, adapter_precision), kind == "compiled", rows)
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak while training, not while loading
    print(json.dumps({"ready": True}), flush=True)
    for _ in sys.stdin:
        start, processor = time.perf_counter(), processor_seconds()
        loss = trainer.step()
        print(json.dumps({"seconds": time.perf_counter() - start, "cpu_seconds": processor_seconds() - processor,
                          "loss": loss, "peak_memory_mb": memory_mb("VmHWM")}), flush=True)


if __name__ == "__main__":
    main()
