#!/usr/bin/env python3
"""Training throughput of transformers + torch autograd on CPU, for the model of a `config.json`.

    transformers_cpu.py --config CHECKPOINT/config.json --seq 256 --mbs 8 --steps 12 --threads 2

Builds the text model with one MTP depth per `mtp_num_hidden_layers`, float32, and times full steps on random tokens: forward, cross entropy of
the main head and of every MTP depth, backward, gradient clipping, fused AdamW. Prints one JSON line. `cpu_vs_transformers` beside it runs
this and our trainer on the same geometry and writes the result file.
"""
import argparse
import json
import statistics
import time

import torch
import torch.nn as nn
import torch.nn.functional as F
import transformers
from transformers.models.qwen3_5 import modeling_qwen3_5 as qwen
from transformers.models.qwen3_5.configuration_qwen3_5 import Qwen3_5TextConfig


class MtpDepth(nn.Module):
    """One depth: two norms, the joining projection, a full-attention layer, a final norm."""

    def __init__(self, config, layer_index):
        super().__init__()
        h = config.hidden_size
        self.norm_embedding, self.norm_hidden, self.norm = (qwen.Qwen3_5RMSNorm(h, eps=config.rms_norm_eps) for _ in range(3))
        self.fc = nn.Linear(2 * h, h, bias=False)
        self.layer = qwen.Qwen3_5DecoderLayer(config, layer_index)

    def forward(self, embedded, hidden, rotary, mask):
        joined = self.fc(torch.cat([self.norm_embedding(embedded), self.norm_hidden(hidden)], dim=-1))
        out = self.layer(joined, position_embeddings=rotary, attention_mask=mask)
        return self.norm(out[0] if isinstance(out, tuple) else out)


class WithMtp(nn.Module):
    def __init__(self, config, depths):
        super().__init__()
        self.text = qwen.Qwen3_5ForCausalLM(config)
        full = max(i for i, kind in enumerate(config.layer_types) if kind == "full_attention")
        self.depths = nn.ModuleList(MtpDepth(config, full) for _ in range(depths))

    def forward(self, ids, labels, scale):
        hidden = self.text.model(input_ids=ids, use_cache=False).last_hidden_state
        losses = [self.loss(hidden, labels)]
        positions = torch.arange(ids.shape[1])[None, None].expand(3, ids.shape[0], -1)
        rotary = self.text.model.rotary_emb(hidden, positions)
        for depth in self.depths:
            ids, labels = shift(ids, 0), shift(labels, -100)
            hidden = depth(self.text.model.embed_tokens(ids), hidden, rotary, None)
            losses.append(self.loss(hidden, labels))
        return losses[0] + scale / max(len(self.depths), 1) * sum(losses[1:]), losses

    def loss(self, hidden, labels):
        logits = self.text.lm_head(hidden)
        return F.cross_entropy(logits.reshape(-1, logits.shape[-1]).float(), labels.reshape(-1), ignore_index=-100)


def shift(rows, last):
    return torch.cat([rows[:, 1:], torch.full_like(rows[:, :1], last)], dim=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True)
    parser.add_argument("--seq", type=int, required=True)
    parser.add_argument("--mbs", type=int, required=True)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    with open(args.config) as file:
        raw = json.load(file)
    raw = raw.get("text_config", raw)
    depths = raw.get("mtp_num_hidden_layers", 0)
    config = Qwen3_5TextConfig(**{k: v for k, v in raw.items() if k not in ("architectures", "mtp_num_hidden_layers")})
    config._attn_implementation = "sdpa"
    model = WithMtp(config, depths).float().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    seconds = []
    for _ in range(args.steps + 2):
        ids = torch.randint(0, config.vocab_size, (args.mbs, args.seq + 1))
        start = time.perf_counter()
        objective, _ = model(ids[:, :-1], ids[:, 1:], 0.1)
        objective.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds.append(time.perf_counter() - start)
    step = statistics.median(seconds[2:])
    print(json.dumps({
        "program": f"transformers {transformers.__version__}, torch {torch.__version__}, eager autograd, sdpa, fused AdamW",
        "parameters": sum(p.numel() for p in model.parameters()),
        "threads": args.threads, "seq_length": args.seq, "micro_batch_size": args.mbs, "mtp_depth": depths,
        "step_seconds": step, "tokens_per_second": args.mbs * args.seq / step,
    }))


if __name__ == "__main__":
    main()
