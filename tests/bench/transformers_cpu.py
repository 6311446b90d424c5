#!/usr/bin/env python3
"""Trains one Qwen3.5 model with an MTP head in transformers on the CPU, and says how many tokens a second it takes.

    transformers_cpu.py prepare FOLDER --batch 8 --sequence 256      config.json in FOLDER -> weights and a batch
    transformers_cpu.py train FOLDER --steps 12 --threads 2           one JSON line: tokens/s, loss of every step

`prepare` writes a Hugging Face folder (`model.safetensors`, with `mtp.*`) and `batch.safetensors`, so that the other side of the
comparison starts from the same weights and tokens and must arrive at the same losses. f32 everywhere, fused AdamW, clipping at 1.
"""
import argparse
import json
import pathlib
import platform
import statistics
import time

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from transformers.models.qwen3_5 import configuration_qwen3_5 as configuration
from transformers.models.qwen3_5 import modeling_qwen3_5 as qwen

LAMBDA, LR, CLIP = 0.1, 1e-3, 1.0


class Mtp(torch.nn.Module):
    """One depth: the parts that transformers' classes lack, under the published names."""

    def __init__(self, config, attention_layer):
        super().__init__()
        h, eps = config.hidden_size, config.rms_norm_eps
        self.fc = torch.nn.Linear(2 * h, h, bias=False)
        self.pre_fc_norm_embedding = qwen.Qwen3_5RMSNorm(h, eps)
        self.pre_fc_norm_hidden = qwen.Qwen3_5RMSNorm(h, eps)
        self.layers = torch.nn.ModuleList([qwen.Qwen3_5DecoderLayer(config, attention_layer)])
        self.norm = qwen.Qwen3_5RMSNorm(h, eps)

    def forward(self, embedded, hidden, angles):
        joined = torch.cat([self.pre_fc_norm_embedding(embedded), self.pre_fc_norm_hidden(hidden)], dim=-1)
        # Attention without a mask is causal here: torch's fused kernel is told so by the layer itself.
        return self.norm(self.layers[0](self.fc(joined), position_embeddings=angles, attention_mask=None))


class Trained(torch.nn.Module):
    def __init__(self, folder):
        super().__init__()
        values = json.loads((folder / "config.json").read_text())
        self.depth = values.pop("mtp_num_hidden_layers", 0)
        assert self.depth in (0, 1), "the MTP head written here has one depth"
        config = configuration.Qwen3_5TextConfig(**values)
        config._attn_implementation = "sdpa"
        causal = qwen.Qwen3_5ForCausalLM(config)
        self.model, self.lm_head = causal.model, causal.lm_head
        if self.depth:
            self.mtp = Mtp(config, config.layer_types.index("full_attention"))
        self.tied = config.tie_word_embeddings
        self.vocabulary = config.vocab_size

    def stored(self):
        """Tensors by their published names; a tied head is not stored."""
        return {k: v for k, v in self.state_dict().items() if not (self.tied and k == "lm_head.weight")}

    def read(self, folder):
        missing, unexpected = self.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
        assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)

    def forward(self, ids, labels, mask):
        hidden = self.model(input_ids=ids, use_cache=False).last_hidden_state
        main = self.loss(hidden, labels, mask)
        if not self.depth:
            return main, None
        ahead = [torch.cat([x[:, 1:], x.new_zeros(x.shape[0], 1)], dim=1) for x in (ids, labels, mask)]
        positions = torch.arange(ids.shape[1]).expand(3, ids.shape[0], -1)
        angles = self.model.rotary_emb(hidden, positions)
        deeper = self.mtp(self.model.embed_tokens(ahead[0]), hidden, angles)
        return main, self.loss(deeper, ahead[1], ahead[2])

    def loss(self, hidden, labels, mask):
        logits = self.lm_head(hidden).flatten(0, 1)
        ignored = labels.masked_fill(mask == 0, -100).flatten()
        return F.cross_entropy(logits, ignored, ignore_index=-100)


def prepare(folder, options):
    torch.manual_seed(options.seed)
    net = Trained(folder)
    with torch.no_grad():
        for name, tensor in net.named_parameters():
            if name.startswith("mtp.") and tensor.dim() > 1:  # transformers has initialised the rest
                tensor.normal_(0.0, 0.02)
    save_file({k: v.contiguous().clone() for k, v in net.stored().items()}, folder / "model.safetensors")
    rows, length = options.batch, options.sequence
    # A Markov chain rather than noise, so that the losses have something to fall to.
    following = torch.randint(0, net.vocabulary, (net.vocabulary, 4))
    choice = torch.randint(0, 4, (rows, length + 1))
    tokens = torch.randint(0, net.vocabulary, (rows, length + 1))
    for i in range(length):
        tokens[:, i + 1] = following[tokens[:, i], choice[:, i]]
    mask = torch.ones(rows, length)
    save_file(
        {"input_ids": tokens[:, :-1].contiguous(), "labels": tokens[:, 1:].contiguous(), "loss_mask": mask},
        folder / "batch.safetensors",
    )


def train(folder, options):
    torch.set_num_threads(options.threads)
    net = Trained(folder)
    net.read(folder)
    batch = load_file(folder / "batch.safetensors")
    ids, labels, mask = batch["input_ids"], batch["labels"], batch["loss_mask"]
    matrices = [p for p in net.parameters() if p.dim() >= 2]
    others = [p for p in net.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=LR, betas=(0.9, 0.95), eps=1e-8, fused=True)
    seconds, losses = [], []
    for _ in range(options.steps):
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        main, mtp = net(ids, labels, mask)
        (main if mtp is None else main + LAMBDA * mtp).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), CLIP)
        optimizer.step()
        losses.append([main.item()] if mtp is None else [main.item(), mtp.item()])
        seconds.append(time.perf_counter() - start)
    import transformers

    median = statistics.median(seconds[options.warmup :])
    print(
        json.dumps(
            {
                "stack": f"transformers {transformers.__version__}, torch {torch.__version__}",
                "threads": options.threads,
                "tokens_per_second": round(ids.numel() / median, 1),
                "step_seconds": round(median, 4),
                "fastest_step_seconds": round(min(seconds), 4),
                "parameters": sum(p.numel() for p in net.parameters()),
                "losses": losses,
                "python": platform.python_version(),
            }
        )
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=["prepare", "train"])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--batch", type=int, default=8, help="rows of the batch")
    parser.add_argument("--sequence", type=int, default=256, help="tokens of a row")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--warmup", type=int, default=2, help="steps that the median leaves out")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    {"prepare": prepare, "train": train}[options.mode](options.folder, options)
