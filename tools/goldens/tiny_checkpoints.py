"""The tiny random Llama checkpoints of test/golden, each a shape that a shard engine is likely to get wrong.

Weights are drawn far wider than a trained model's, so that greedy output neither repeats one token nor hangs on
rounding. Norm weights are random too: an engine that forgets one of them would otherwise agree with the reference.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

"""Standard deviation of the head, and so of the embeddings where both are one. Wide enough that the best logit is well
ahead of the second; narrower than the rest, so that float32 rounding stays far below the tolerances of the tests."""
HEAD_STD = 0.3

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class TinyCheckpoint:
    name: str
    about: str
    seed: int
    """Standard deviation of the layers' matrices."""
    weight_std: float
    """What config.json says, in the spelling that this checkpoint is to exercise."""
    config: dict
    """How many safetensors files: 1 is model.safetensors, more are numbered files with an index."""
    file_count: int = 1


COMMON = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "attention_dropout": 0.0,
    "initializer_range": 0.02,
    "pretraining_tp": 1,
    "use_cache": True,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
}

CHECKPOINTS = (
    TinyCheckpoint(
        name="gqa-7to1-untied",
        about="seven query heads to a KV head, head_dim other than hidden/heads, untied embeddings, float16",
        seed=71,
        weight_std=0.2,
        config=COMMON | {
            "hidden_size": 56,
            "intermediate_size": 72,
            "num_hidden_layers": 3,
            "num_attention_heads": 14,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "vocab_size": 300,
            "rms_norm_eps": 1e-5,
            "rope_theta": 500000.0,
            "rope_scaling": None,
            "tie_word_embeddings": False,
            "torch_dtype": "float16",
        },
    ),
    TinyCheckpoint(
        name="tied-odd-vocabulary",
        about="tied embeddings, 517 tokens, five query heads on one KV head, no head_dim key, llama3 rope scaling "
        "in the older spelling, bfloat16",
        seed=17,
        weight_std=0.15,
        config=COMMON | {
            "hidden_size": 80,
            "intermediate_size": 112,
            "num_hidden_layers": 3,
            "num_attention_heads": 5,
            "num_key_value_heads": 1,
            "vocab_size": 517,
            "rms_norm_eps": 1e-6,
            "rope_theta": 10000.0,
            "rope_scaling": {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 32,
            },
            "tie_word_embeddings": True,
            "torch_dtype": "bfloat16",
        },
    ),
    TinyCheckpoint(
        name="mha-sharded",
        about="as many KV heads as query heads (three), eight layers, no size a multiple of 16, three files with an "
        "index, rope_parameters and dtype in the newer spelling, float32",
        seed=38,
        weight_std=0.2,
        file_count=3,
        config=COMMON | {
            "hidden_size": 36,
            "intermediate_size": 38,
            "num_hidden_layers": 8,
            "num_attention_heads": 3,
            "num_key_value_heads": 3,
            "head_dim": 16,
            "vocab_size": 150,
            "rms_norm_eps": 1e-5,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
            "tie_word_embeddings": False,
            "dtype": "float32",
        },
    ),
)


def tensor_shapes(config: dict) -> dict[str, tuple[int, ...]]:
    """Names and shapes as the Hugging Face Llama checkpoints have them: a matrix is [out, in]."""
    hidden, ffn = config["hidden_size"], config["intermediate_size"]
    head = config.get("head_dim") or hidden // config["num_attention_heads"]
    query, kv = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (config["vocab_size"], hidden)}
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        shapes |= {
            prefix + "input_layernorm.weight": (hidden,),
            prefix + "self_attn.q_proj.weight": (query, hidden),
            prefix + "self_attn.k_proj.weight": (kv, hidden),
            prefix + "self_attn.v_proj.weight": (kv, hidden),
            prefix + "self_attn.o_proj.weight": (hidden, query),
            prefix + "post_attention_layernorm.weight": (hidden,),
            prefix + "mlp.gate_proj.weight": (ffn, hidden),
            prefix + "mlp.up_proj.weight": (ffn, hidden),
            prefix + "mlp.down_proj.weight": (hidden, ffn),
        }
    shapes["model.norm.weight"] = (hidden,)
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (config["vocab_size"], hidden)
    return shapes


def random_tensors(checkpoint: TinyCheckpoint) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(checkpoint.seed)
    dtype = DTYPES[checkpoint.config.get("dtype") or checkpoint.config["torch_dtype"]]
    tensors = {}
    for name, shape in tensor_shapes(checkpoint.config).items():
        drawn = torch.randn(shape, generator=random)
        if name.endswith("norm.weight"):
            drawn = 1 + 0.2 * drawn
        else:
            outside_layers = name in ("model.embed_tokens.weight", "lm_head.weight")
            drawn = (HEAD_STD if outside_layers else checkpoint.weight_std) * drawn
        tensors[name] = drawn.to(dtype).contiguous()
    return tensors


def write_checkpoint(checkpoint: TinyCheckpoint, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", checkpoint.config)
    write_json(folder / "generation_config.json", {"bos_token_id": 1, "eos_token_id": 2, "do_sample": False})
    tensors = random_tensors(checkpoint)
    if checkpoint.file_count == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return
    # Cut in the middle of layers, as real shards are: the files' order is no layer order.
    names = list(tensors)
    weight_map = {}
    for index in range(checkpoint.file_count):
        file = f"model-{index + 1:05d}-of-{checkpoint.file_count:05d}.safetensors"
        start, end = (len(names) * (index + step) // checkpoint.file_count for step in (0, 1))
        save_file({name: tensors[name] for name in names[start:end]}, folder / file, metadata={"format": "pt"})
        weight_map |= {name: file for name in names[start:end]}
    total = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    write_json(
        folder / "model.safetensors.index.json",
        {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))},
    )


def write_json(file: Path, value: object) -> None:
    file.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
