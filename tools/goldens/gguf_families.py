"""Families as GGUF files: llama.cpp's names, its order of rows, its stacked experts. What the converter does to the
numbers of a checkpoint is undone here, in numpy; llama.cpp itself was asked whether it reads the files so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import gguf
import numpy as np

from family_checkpoints import sizes
from random_weights import RandomTensor

MXFP4 = {"per": 32, "size": 17}
_ROWS_PAIRED = ("llama", "granite", "smollm3")


@dataclass(frozen=True)
class GgufFamily:
    name: str
    about: str
    seed: int
    architecture: str
    config: dict
    """Metadata beyond what every architecture has."""
    describe: Callable[[gguf.GGUFWriter, dict], None] = lambda _writer, _config: None
    head_gain: float = 3.0
    last_norm_centre: float | None = None
    matrix_gain: float = 1.3


def _named(architecture: str, model_type: str) -> dict:
    return {"architectures": [architecture], "model_type": model_type, "hidden_act": "silu", "pad_token_id": 0,
            "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": False, "torch_dtype": "float16"}


def _experts(writer: gguf.GGUFWriter, config: dict) -> None:
    writer.add_expert_count(config.get("num_experts") or config["num_local_experts"])
    writer.add_expert_used_count(config["num_experts_per_tok"])
    writer.add_expert_feed_forward_length(config.get("moe_intermediate_size") or config["intermediate_size"])


def _gemma2(writer: gguf.GGUFWriter, config: dict) -> None:
    writer.add_sliding_window(config["sliding_window"])
    writer.add_attn_logit_softcapping(config["attn_logit_softcapping"])
    writer.add_final_logit_softcapping(config["final_logit_softcapping"])


def _gemma3(writer: gguf.GGUFWriter, config: dict) -> None:
    writer.add_sliding_window(config["sliding_window"])
    writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
    writer.add_rope_scaling_factor(config["rope_scaling"]["factor"])


def _granite(writer: gguf.GGUFWriter, config: dict) -> None:
    writer.add_embedding_scale(config["embedding_multiplier"])
    writer.add_residual_scale(config["residual_multiplier"])
    writer.add_attention_scale(config["attention_multiplier"])
    writer.add_logit_scale(config["logits_scaling"])


def _gpt_oss(writer: gguf.GGUFWriter, config: dict) -> None:
    _experts(writer, config)
    writer.add_sliding_window(config["sliding_window"])
    scaling = config["rope_scaling"]
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(scaling["factor"])
    writer.add_rope_scaling_orig_ctx_len(scaling["original_max_position_embeddings"])


_GEMMA = {"hidden_activation": "gelu_pytorch_tanh", "head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 8,
          "attention_bias": False, "tie_word_embeddings": True}
_SCALED = {"head_gain": 0.3, "last_norm_centre": 9.0, "matrix_gain": 1.8}

FAMILIES = (
    GgufFamily("gguf-mixtral", "GGUF, stacked experts, rows of q and k in pairs", 261, "llama",
               _named("MixtralForCausalLM", "mixtral") | sizes(64, 64, 3, 8, 2, 80)
               | {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None}, _experts),
    GgufFamily("gguf-qwen3-moe", "GGUF, stacked experts, q and k normed", 262, "qwen3moe",
               _named("Qwen3MoeForCausalLM", "qwen3_moe") | sizes(64, 96, 3, 8, 2, 80)
               | {"head_dim": 16, "moe_intermediate_size": 32, "norm_topk_prob": True, "num_experts": 6,
                  "num_experts_per_tok": 2, "decoder_sparse_step": 1, "mlp_only_layers": [],
                  "use_sliding_window": False}, _experts),
    GgufFamily("gguf-gemma2", "GGUF, gains stored with their one", 263, "gemma2",
               _named("Gemma2ForCausalLM", "gemma2") | sizes(64, 96, 4, 8, 4, 80) | _GEMMA
               | {"attn_logit_softcapping": 20.0, "final_logit_softcapping": 15.0}, _gemma2, **_SCALED),
    GgufFamily("gguf-gemma3", "GGUF, five windows to one global layer, linear scaling of that", 264, "gemma3",
               _named("Gemma3ForCausalLM", "gemma3_text") | sizes(64, 96, 7, 4, 1, 80) | _GEMMA
               | {"rope_theta": 1000000.0, "rope_local_base_freq": 10000.0, "sliding_window_pattern": 6,
                  "rope_scaling": {"rope_type": "linear", "factor": 8.0}}, _gemma3, **_SCALED),
    GgufFamily("gguf-phi3", "GGUF, fused qkv and gate-up", 265, "phi3",
               _named("Phi3ForCausalLM", "phi3") | sizes(96, 80, 4, 6, 2, 80)
               | {"original_max_position_embeddings": 256, "sliding_window": None}),
    GgufFamily("gguf-granite", "GGUF, multipliers", 266, "granite",
               _named("GraniteForCausalLM", "granite") | sizes(64, 96, 4, 8, 2, 80)
               | {"attention_multiplier": 0.3, "embedding_multiplier": 3.0, "logits_scaling": 2.0,
                  "residual_multiplier": 0.7, "attention_bias": False, "mlp_bias": False}, _granite, 6.0),
    GgufFamily("gguf-olmo2", "GGUF, norms after", 267, "olmo2",
               _named("Olmo2ForCausalLM", "olmo2") | sizes(64, 96, 4, 8, 8, 80) | {"attention_bias": False}),
    GgufFamily("gguf-smollm3", "GGUF, every fourth layer without rope", 268, "smollm3",
               _named("SmolLM3ForCausalLM", "smollm3") | sizes(64, 96, 5, 8, 2, 80)
               | {"no_rope_layers": [1, 1, 1, 0, 1], "attention_bias": False, "mlp_bias": False,
                  "use_sliding_window": False}),
    GgufFamily("gguf-gpt-oss", "GGUF, MXFP4 experts, gate and up apart, sinks", 269, "gpt-oss",
               _named("GptOssForCausalLM", "gpt_oss") | sizes(64, 64, 4, 8, 2, 80, max_position_embeddings=4096)
               | {"attention_bias": True, "head_dim": 16, "num_experts_per_tok": 2, "num_local_experts": 4,
                  "layer_types": ["sliding_attention", "full_attention"] * 2, "swiglu_limit": 7.0,
                  "sliding_window": 8,
                  "rope_scaling": {"beta_fast": 32.0, "beta_slow": 1.0, "factor": 8.0, "rope_type": "yarn",
                                   "original_max_position_embeddings": 512, "truncate": False}}, _gpt_oss),
)

_EXPERT_PARTS = {"gate_proj": "gate", "up_proj": "up", "down_proj": "down", "w1": "gate", "w3": "up", "w2": "down"}


class GgufLayout:
    """Collects what is stored for the plain tensors of a family, and gives back the plain numbers."""

    def __init__(self, family: GgufFamily) -> None:
        self.family = family
        count = family.config["num_hidden_layers"]
        arch = next(arch for arch, name in gguf.MODEL_ARCH_NAMES.items() if name == family.architecture)
        self._names = gguf.get_tensor_name_map(arch, count)
        self.stored: dict[str, RandomTensor] = {}
        self._plain: dict[str, Callable[[], np.ndarray]] = {}

    def values(self) -> dict[str, np.ndarray]:
        return {name: np.ascontiguousarray(value()) for name, value in self._plain.items()}

    def add(self, plain: RandomTensor) -> None:
        name, shape = plain.name, plain.shape
        if ".experts." in name:
            self._add_expert(plain)
            return
        base, _, kind = name.rpartition(".")
        base, kind = (name, "weight") if kind == "sinks" else (base, kind)
        gguf_base = self._names.get_name(base)
        if gguf_base is None:
            raise SystemExit(f"{name}: gguf has no name for it")
        stored_name = f"{gguf_base}.{kind}"
        is_matrix = len(shape) == 2 and "gate_inp" not in stored_name
        is_gemma_norm = self.family.architecture.startswith("gemma") and name.endswith("norm.weight")
        one = 1.0 if is_gemma_norm else 0.0
        self._store(RandomTensor(stored_name, shape, "F16" if is_matrix else "F32", plain.centre + one, plain.spread))

        def value() -> np.ndarray:
            numbers = self._read(stored_name) - np.float32(one)
            return self._in_halves(stored_name, numbers)

        self._plain[name] = value

    def _in_halves(self, stored_name: str, numbers: np.ndarray) -> np.ndarray:
        """Rows of q and k as Hugging Face has them: rotation pairs the halves of a head, not neighbours."""
        heads = {"attn_q": "num_attention_heads", "attn_k": "num_key_value_heads"}.get(stored_name.split(".")[-2])
        if self.family.architecture not in _ROWS_PAIRED or heads is None:
            return numbers
        count = self.family.config[heads]
        pairs = numbers.reshape(count, numbers.shape[0] // count // 2, 2, *numbers.shape[1:])
        return pairs.swapaxes(1, 2).reshape(numbers.shape)

    def _add_expert(self, plain: RandomTensor) -> None:
        layer = plain.name.split(".")[2]
        if self.family.architecture == "gpt-oss":
            self._add_stacked(plain, layer)
            return
        *_, expert, part, _weight = plain.name.split(".")
        count = self.family.config.get("num_experts") or self.family.config["num_local_experts"]
        stored_name = f"blk.{layer}.ffn_{_EXPERT_PARTS[part]}_exps.weight"
        self._store(RandomTensor(stored_name, (count, *plain.shape), "F16", plain.centre, plain.spread))
        self._plain[plain.name] = lambda: self._read(stored_name)[int(expert)]

    def _add_stacked(self, plain: RandomTensor, layer: str) -> None:
        """gpt-oss: [experts, inputs, outputs] with gate and up in turn becomes two of [experts, outputs, inputs]."""
        part = plain.name.split(".")[-1]
        is_bias, is_fused = part.endswith("_bias"), part.startswith("gate_up")
        names = [f"blk.{layer}.ffn_{one}_exps.{'bias' if is_bias else 'weight'}"
                 for one in (("gate", "up") if is_fused else ("down",))]
        for stored_name in names:
            if is_bias:
                experts, outputs = plain.shape
                shape = (experts, outputs // len(names))
                self._store(RandomTensor(stored_name, shape, "F32", plain.centre, plain.spread))
            else:
                experts, inputs, outputs = plain.shape
                first = 127 + round(np.log2(1.3 / np.sqrt(inputs) / 2.9)) - 2
                rule = {"kind": "blocks", **MXFP4, "halves": [], "exponents": [[0, first, 4]]}
                self._store(RandomTensor(stored_name, (experts, outputs // len(names), inputs), "MXFP4", rule=rule))

        def value() -> np.ndarray:
            parts = [self._read(stored_name) for stored_name in names]
            whole = np.stack(parts, axis=2).reshape(parts[0].shape[0], -1, *parts[0].shape[2:])
            return whole if is_bias else whole.transpose(0, 2, 1)

        self._plain[plain.name] = value

    def _store(self, tensor: RandomTensor) -> None:
        self.stored[tensor.name] = tensor

    def _read(self, name: str) -> np.ndarray:
        tensor = self.stored[name]
        data = tensor.stored(self.family.seed)
        if tensor.dtype == "MXFP4":
            raw = np.frombuffer(data, np.uint8).reshape(*tensor.shape[:2], -1)
            return gguf.dequantize(raw, gguf.GGMLQuantizationType.MXFP4).astype(np.float32).reshape(tensor.shape)
        return np.frombuffer(data, {"F16": "<f2", "F32": "<f4"}[tensor.dtype]).astype(np.float32).reshape(tensor.shape)
