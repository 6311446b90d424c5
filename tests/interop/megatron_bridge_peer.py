"""Applies overrides to Megatron-Bridge's own configuration classes, and prints what they hold then.

Reads one JSON object a line: {"name", "moe", "peft", "depth", "overrides": ["KEY=VALUE"]}. Answers each with one JSON object: the overrides whose key this
version of Bridge does not have ("unknown"), what the keys of the others hold afterwards ("values", types of numbers and enums as words), and the whole
configuration as the YAML that Bridge prints ("yaml"). Overrides are applied by Bridge's own function, with Hydra's grammar, all at once.

Packages that need a GPU or a compiler to install are stood in for by empty modules: no configuration class is among them.
"""

import importlib.abc
import importlib.machinery
import importlib.metadata
import contextlib
import enum
import io
import json
import pathlib
import sys
import types

STOOD_IN = {"transformer_engine", "mamba_ssm", "causal_conv1d", "fla", "timm", "wandb", "datasets", "pandas", "qwen_vl_utils", "mlflow", "PIL"}


class Anything(type):
    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything(name, (), {})


class StandIn(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in STOOD_IN or name.startswith("megatron.energon"):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        module = types.ModuleType(spec.name)

        def get(name):
            if name.startswith("__"):
                raise AttributeError(name)
            return Anything(name, (), {})

        module.__getattr__ = get
        return module

    def exec_module(self, module):
        pass


installed = importlib.metadata.version
importlib.metadata.version = lambda name: "2.10.0" if name.replace("_", "-") == "transformer-engine" else installed(name)
sys.meta_path.insert(0, StandIn())

with contextlib.redirect_stdout(sys.stderr):
    import torch
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from megatron.bridge.data.vlm_datasets.hf_provider import HFDatasetConversationProvider
    from megatron.bridge.models.qwen_vl.qwen3_vl_provider import Qwen3VLModelProvider, Qwen3VLMoEModelProvider
    from megatron.bridge.peft.lora import LoRA
    from megatron.bridge.training import config as bridge
    from megatron.bridge.training.comm_overlap import CommOverlapConfig
    from megatron.bridge.training.mixed_precision import MixedPrecisionConfig
    from megatron.bridge.training.tokenizers.config import TokenizerConfig
    from megatron.bridge.training.utils.omegaconf_utils import create_omegaconf_dict_config, process_config_with_overrides


def container(moe, peft, depth):
    provider = Qwen3VLMoEModelProvider if moe else Qwen3VLModelProvider
    return bridge.ConfigContainer(
        model=provider(num_layers=4, hidden_size=64, num_attention_heads=4, mtp_num_layers=depth),
        train=bridge.TrainingConfig(micro_batch_size=1, global_batch_size=1, train_iters=1),
        optimizer=bridge.OptimizerConfig(),
        scheduler=bridge.SchedulerConfig(),
        dataset=HFDatasetConversationProvider(seq_length=1, hf_processor_path="", maker_name="cord_v2"),
        logger=bridge.LoggerConfig(),
        tokenizer=TokenizerConfig(),
        checkpoint=bridge.CheckpointConfig(),
        comm_overlap=CommOverlapConfig(tp_comm_overlap=False),
        mixed_precision=MixedPrecisionConfig(),
        peft=LoRA() if peft else None,
    )


def plain(value):
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, torch.dtype):
        return str(value)
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def has(tree, path):
    for name in path.split("."):
        if not (hasattr(tree, "keys") and name in tree):
            return False
        tree = tree[name]
    return True


def answer(work):
    config = container(work["moe"], work["peft"], work["depth"])
    tree, _ = create_omegaconf_dict_config(config)
    parsed = OverridesParser.create().parse_overrides(work["overrides"])
    known = [o.input_line for o in parsed if has(tree, o.key_or_group)]
    unknown = [o.key_or_group for o in parsed if not has(tree, o.key_or_group)]
    process_config_with_overrides(config, cli_overrides=known)
    values = {}
    for override in parsed:
        if override.key_or_group not in unknown:
            at = config
            for name in override.key_or_group.split("."):
                at = at[name] if isinstance(at, dict) else getattr(at, name)
            values[override.key_or_group] = plain(at)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        config.print_yaml()
    return {"name": work["name"], "unknown": unknown, "values": values, "yaml": printed.getvalue()}


for line in sys.stdin:
    with contextlib.redirect_stdout(sys.stderr):
        said = answer(json.loads(line))
    print(json.dumps(said), flush=True)
