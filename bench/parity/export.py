#!/usr/bin/env python3
"""Loads a slot that `kpoolctl export` wrote with PEFT, and compares what both sides make of the same texts.

    python bench/parity/export.py --kpoolctl build/kpoolctl --gguf MODEL.gguf --adapter DIRECTORY --texts FILE.jsonl

Needs what model.py needs. Exits with 1 where the nats of a text differ by more than 1e-3 of them (float32), or
where the adapter changes nothing, which would make the comparison empty, or where PEFT has other LoRA matrices than
the file: an adapter on the top layers alone (lora.layers) must stay there.
"""
import argparse
import json
import os
import subprocess
import sys

import torch
from peft import PeftModel
from safetensors import safe_open

from model import transformers_llama


def ours(options, texts, *arguments):
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    command = [options.kpoolctl, "model", *arguments, "--model", options.gguf]
    output = subprocess.run(command, input=lines, capture_output=True, text=True, check=True).stdout
    return [json.loads(line) for line in output.splitlines()]


def nats(model, ids):
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, :-1].double()
    return torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:]), reduction="sum").item()


def strangers(adapted, directory):
    """LoRA matrices that only one of PEFT's model and the file has."""
    with safe_open(os.path.join(directory, "adapter_model.safetensors"), "pt") as file:
        written = set(file.keys())
    return written ^ {name.replace(".default", "") for name, _ in adapted.named_parameters() if ".lora_" in name}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--kpoolctl", "--gguf", "--adapter", "--texts"):
        parser.add_argument(name, required=True)
    parser.add_argument("--count", type=int, default=8)
    options = parser.parse_args()
    with open(options.texts, encoding="utf-8") as lines:
        texts = [json.loads(next(lines))["text"] for _ in range(options.count)]
    ids = [row["ids"] for row in ours(options, texts, "tokenize")]
    scored = ours(options, texts, "score", "--under", options.adapter, "--precision", "float32")
    base = transformers_llama(options.gguf)
    plain = [nats(base, row) for row in ids]
    adapted = PeftModel.from_pretrained(base, options.adapter).float().eval()
    theirs = [nats(adapted, row) for row in ids]
    strange = strangers(adapted, options.adapter)
    layers = adapted.peft_config["default"].layers_to_transform
    worst = max(abs(row["nats"] - value) / value for row, value in zip(scored, theirs))
    change = abs(sum(theirs) - sum(plain)) / sum(plain)
    print(f"{len(ids)} texts, {sum(map(len, ids))} tokens: base {sum(plain):.3f} nats, under the adapter "
          f"{sum(theirs):.3f} by PEFT and {sum(row['nats'] for row in scored):.3f} by kpoolctl; "
          f"worst relative difference of a text {worst:.1e}; layers {layers or 'all'}, "
          f"{len(strange)} matrices on one side only")
    sys.exit(0 if worst < 1e-3 and change > 1e-2 and not strange else 1)


if __name__ == "__main__":
    main()
