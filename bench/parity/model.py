#!/usr/bin/env python3
"""Compares our model with transformers and PEFT on the same dequantised weights.

    python bench/parity/model.py --program build/bench/bench_parity --gguf MODEL.gguf --minilm DIRECTORY
                                 --texts FILE.jsonl [--precision float32|bfloat16] [--json OUT]

Needs torch, transformers, peft, gguf, safetensors. Exits with 1 where a figure misses its limit (the limits on
logits and embeddings hold for float32; bfloat16 is reported). With --golden FILE in place of --texts, the texts
are those of FILE, and what transformers and PEFT compute on them is written into it again, for the default tests.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy
import torch
from gguf import GGUFReader, dequantize
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer, LlamaConfig, LlamaForCausalLM

LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
NAMES = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}


def unpermute(rows, heads):
    """GGUF's interleaved rows of q and k back to half after half."""
    return rows.reshape(heads, rows.shape[0] // heads // 2, 2, -1).swapaxes(1, 2).reshape(rows.shape)


def transformers_llama(path):
    reader = GGUFReader(path)
    field = lambda key: reader.fields["llama." + key].contents()
    tensors = {t.name: torch.from_numpy(numpy.array(dequantize(t.data, t.tensor_type), dtype=numpy.float32))
               for t in reader.tensors}
    heads, kv = field("attention.head_count"), field("attention.head_count_kv")
    state = {"model.embed_tokens.weight": tensors["token_embd.weight"],
             "model.norm.weight": tensors["output_norm.weight"]}
    for name, tensor in tensors.items():
        if not name.startswith("blk."):
            continue
        _, layer, part, _ = name.split(".")
        if part in ("attn_q", "attn_k"):
            tensor = unpermute(tensor, heads if part == "attn_q" else kv)
        state[f"model.layers.{layer}.{NAMES[part]}.weight"] = tensor
    state["lm_head.weight"] = tensors.get("output.weight", tensors["token_embd.weight"])
    config = LlamaConfig(
        vocab_size=len(tensors["token_embd.weight"]), hidden_size=field("embedding_length"),
        intermediate_size=field("feed_forward_length"), num_hidden_layers=field("block_count"),
        num_attention_heads=heads, num_key_value_heads=kv, max_position_embeddings=field("context_length"),
        rms_norm_eps=field("attention.layer_norm_rms_epsilon"), rope_theta=field("rope.freq_base"),
        tie_word_embeddings="output.weight" not in tensors)
    config.rope_parameters = {"rope_type": "default", "rope_theta": field("rope.freq_base")}
    model = LlamaForCausalLM(config).float().eval()
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and all("inv_freq" in name for name in missing), (missing, unexpected)
    return model


def compare_logits(theirs, reply):
    worst, same, total = 0.0, 0, 0
    for i, expected in enumerate(theirs):
        ours = reply[f"logits.{i}"]
        worst = max(worst, (ours - expected).abs().max().item())
        same += (ours.argmax(-1) == expected.argmax(-1)).sum().item()
        total += len(expected)
    return {"logits_worst": worst, "argmax_same": same / total, "positions": total}


def worst_cosine(ours, theirs):
    return (1 - torch.nn.functional.cosine_similarity(ours.double(), theirs.double(), dim=-1)).max().item()


def base_embeddings(model, count, layers, reply):
    embeddings = []
    for i in range(count):
        ids = reply[f"tokens.{i}"].long()[None, :512]
        with torch.no_grad():
            states = model.model(ids, output_hidden_states=True).hidden_states[layers][0]
            # Each token at RMS 1, the first left out, the i-th with weight i, as the encoder pools.
            scaled = (states / states.square().mean(1, keepdim=True).sqrt())[1:]
            weights = torch.arange(2.0, len(states) + 1)[:, None]
            embeddings.append((scaled * weights).sum(0) / weights.sum())
    return torch.stack(embeddings)


def minilm_embeddings(directory, texts):
    tokenizer, model = AutoTokenizer.from_pretrained(directory), AutoModel.from_pretrained(directory).float().eval()
    embeddings = []
    for text in texts:
        inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=256)
        with torch.no_grad():
            hidden = model(**inputs).last_hidden_state[0]
        embeddings.append(torch.nn.functional.normalize(hidden.mean(0), dim=0))
    return torch.stack(embeddings)


def peft_gradients(model, rows, rank, reply):
    """The nats of every predicted token, and the gradients of their mean by name."""
    adapted = get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=LINEARS,
                                               task_type="CAUSAL_LM"))
    parameters = {name.replace(".default", ""): p for name, p in adapted.named_parameters() if "lora_" in name}
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(reply[name])
    losses = []
    for ids in rows:
        logits = adapted(torch.tensor([ids])).logits[0, :-1]
        losses.append(torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:]), reduction="none"))
    nats = torch.cat(losses)
    nats.mean().backward()
    return nats.detach(), {name: parameter.grad for name, parameter in parameters.items()}


def compare_gradients(nats, gradients, reply):
    cosine = torch.nn.functional.cosine_similarity
    cosines = {name: cosine(gradient.flatten().double(), reply["grad." + name].flatten().double(), dim=0).item()
               for name, gradient in gradients.items()}
    theirs = torch.cat([gradient.flatten() for gradient in gradients.values()]).double()
    ours = torch.cat([reply["grad." + name].flatten() for name in gradients]).double()
    return {"gradient_cosine_worst": min(cosines.values()), "gradient_worst_at": min(cosines, key=cosines.get),
            "gradient_cosine": cosine(ours, theirs, dim=0).item(),
            "gradient_relative_error": ((ours - theirs).norm() / theirs.norm()).item(),
            "loss_ours": reply["nats"].mean().item(), "loss_theirs": nats.mean().item(),
            "token_nats_worst": (reply["nats"] - nats).abs().max().item()}


def write_golden(path, theirs):
    """Enough of each to tell a wrong model from a right one, in a few kilobytes."""
    golden = json.loads(pathlib.Path(path).read_text())
    golden["command"] = "bench/parity/model.py --golden tests/golden/model.json --program ... --gguf ... --minilm ..."
    golden["tokens"] = [len(row) for row in theirs["rows"]]
    golden["top_logits"] = [[round(value, 4) for value in rows.max(-1).values.tolist()] for rows in theirs["logits"]]
    golden["top_tokens"] = [rows.argmax(-1).tolist() for rows in theirs["logits"]]
    golden["nats"] = [round(value, 5) for value in theirs["nats"].tolist()]
    golden["base_embedding"] = [[float(f"{x:.7g}") for x in row[::24].tolist()] for row in theirs["base"]]
    golden["minilm_embedding"] = [[float(f"{x:.7g}") for x in row[::24].tolist()] for row in theirs["minilm"]]
    golden["gradient_norms"] = {name: float(f"{gradient.norm().item():.7g}")
                                for name, gradient in theirs["gradients"].items() if ".layers.1" in name}
    pathlib.Path(path).write_text(json.dumps(golden, indent=1, ensure_ascii=False) + "\n")


def main():
    parser = argparse.ArgumentParser()
    for name in ("program", "gguf", "minilm"):
        parser.add_argument("--" + name, required=True)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--texts")
    source.add_argument("--golden")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--json")
    options = parser.parse_args()
    if options.golden:
        texts = json.loads(pathlib.Path(options.golden).read_text())["texts"]
    else:
        lines = [json.loads(line)["text"] for line in pathlib.Path(options.texts).read_text().splitlines()]
        texts = [text for text in lines if text.strip()][:options.count]
    request = {"texts": texts, "layers": 4, "rank": 8, "rows": 8, "tokens": 256}
    with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
        subprocess.run([options.program, options.gguf, options.minilm, options.precision], stdout=file, check=True,
                       input=json.dumps(request).encode())
        reply = load_file(file.name)
    model = transformers_llama(options.gguf)
    rows = [reply[f"tokens.{i}"].long().tolist()[:request["tokens"]] for i in range(min(request["rows"], len(texts)))]
    with torch.no_grad():
        theirs = {"rows": rows, "logits": [model(torch.tensor([row])).logits[0] for row in rows]}
    theirs["base"] = base_embeddings(model, len(texts), request["layers"], reply)
    theirs["minilm"] = minilm_embeddings(options.minilm, texts)
    theirs["nats"], theirs["gradients"] = peft_gradients(model, rows, request["rank"], reply)
    figures = {"precision": options.precision, **compare_logits(theirs["logits"], reply),
               "base_embedding_worst": worst_cosine(reply["embedding.base"], theirs["base"]),
               "minilm_embedding_worst": worst_cosine(reply["embedding.minilm"], theirs["minilm"]),
               **compare_gradients(theirs["nats"], theirs["gradients"], reply)}
    report(figures, options)
    if options.golden:
        write_golden(options.golden, theirs)


def report(figures, options):
    print(json.dumps(figures, indent=2))
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(figures, indent=2) + "\n")
    exact = options.precision == "float32"
    failed = [name for name, ok in {
        "logits_worst": not exact or figures["logits_worst"] <= 2e-2,
        "argmax_same": not exact or figures["argmax_same"] >= 0.999,
        "base_embedding_worst": not exact or figures["base_embedding_worst"] <= 1e-4,
        "minilm_embedding_worst": figures["minilm_embedding_worst"] <= 1e-4,
        "gradient_cosine": figures["gradient_cosine"] > 0.99,
    }.items() if not ok]
    if failed:
        sys.exit("beyond the limit: " + ", ".join(failed))


if __name__ == "__main__":
    main()
