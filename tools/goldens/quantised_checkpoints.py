"""The quantised checkpoints of test/golden/formats: for every way of storing a matrix in few bits, the tensors as such
checkpoints are published, drawn by rule, and the f32 numbers they mean, from the definition of each format.

A matrix of n inputs should give outputs of variance GAIN squared to inputs of variance 1; so every scale is chosen by
the standard deviation of the codes it multiplies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import sqrt

import numpy as np

from random_weights import RandomTensor

GAIN = 1.3


@dataclass(frozen=True)
class Stored:
    """One tensor of the plain model, as a format keeps it."""

    tensors: list[RandomTensor]
    """From the bytes of `tensors`, in order, to f32 of the plain tensor's shape."""
    meaning: Callable[[list[bytes]], np.ndarray]


Format = Callable[[str, tuple[int, ...], int], Stored]
"""(name of the plain tensor, shape, seed)."""


@dataclass(frozen=True)
class QuantisedCheckpoint:
    name: str
    about: str
    seed: int
    config: dict
    quantization_config: dict
    matrix: Format
    """Which tensors are kept so; all others are plain, in `plain_dtype`."""
    is_quantised: Callable[[str], bool]
    plain_dtype: str = "F16"


def _scale(codes_deviation: float, inputs: int) -> tuple[float, float]:
    """Centre and spread of scales."""
    centre = GAIN / sqrt(inputs) / codes_deviation
    return float(f"{centre:.4g}"), float(f"{0.25 * centre:.4g}")


def _f16(data: bytes) -> np.ndarray:
    return np.frombuffer(data, "<f2").astype(np.float32)


def _bf16(data: bytes) -> np.ndarray:
    return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)


def _nibbles(data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """Words of eight codes, lowest bits first, as [*shape, 8]."""
    words = np.frombuffer(data, "<u4").reshape(shape)
    return ((words[..., None] >> (4 * np.arange(8, dtype=np.uint32))) & 15).astype(np.float32)


def gptq(group: int, symmetric: bool, zero_offset: int) -> Format:
    """qweight [inputs / 8, outputs] with eight inputs to a word, qzeros [groups, outputs / 8], scales [groups,
    outputs]. The first format stores zero points less one; gptq_v2 as they are."""

    def stored(name: str, shape: tuple[int, ...], _seed: int) -> Stored:
        outputs, inputs = shape
        prefix, groups = name.removesuffix("weight"), inputs // group
        # Far from a stored 15: what it means in the first format, readers disagree about.
        as_is = (1 - zero_offset) * 0x11111111
        zeros = {"kind": "word", "value": 0x77777777 + as_is}
        if not symmetric:
            zeros = {"kind": "bytes", "mask": 0x33333333, "plus": 0x55555555 + as_is}
        tensors = [
            RandomTensor(prefix + "g_idx", (inputs,), "I32", rule={"kind": "steps", "of": group}),
            RandomTensor(prefix + "qweight", (inputs // 8, outputs), "I32", rule={"kind": "bytes"}),
            RandomTensor(prefix + "qzeros", (groups, outputs // 8), "I32", rule=zeros),
            RandomTensor(prefix + "scales", (groups, outputs), "F16", *_scale(4.7, inputs)),
        ]

        def meaning(data: list[bytes]) -> np.ndarray:
            of_row = np.frombuffer(data[0], "<i4")
            codes = _nibbles(data[1], (inputs // 8, outputs)).transpose(0, 2, 1).reshape(inputs, outputs)
            points = _nibbles(data[2], (groups, outputs // 8)).reshape(groups, outputs) + zero_offset
            scales = _f16(data[3]).reshape(groups, outputs)
            return ((codes - points[of_row]) * scales[of_row]).T

        return Stored(tensors, meaning)

    return stored


AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
"""The code at bits 4k of a word belongs to this one of its eight outputs."""


def awq(group: int) -> Format:
    """qweight [inputs, outputs / 8] with eight outputs to a word, in AWQ's order; qzeros likewise; scales
    [groups, outputs]."""

    def stored(name: str, shape: tuple[int, ...], _seed: int) -> Stored:
        outputs, inputs = shape
        prefix, groups = name.removesuffix("weight"), inputs // group
        tensors = [
            RandomTensor(prefix + "qweight", (inputs, outputs // 8), "I32", rule={"kind": "bytes"}),
            RandomTensor(prefix + "qzeros", (groups, outputs // 8), "I32", rule={"kind": "bytes"}),
            RandomTensor(prefix + "scales", (groups, outputs), "F16", *_scale(6.5, inputs)),
        ]

        def unpacked(data: bytes, rows: int) -> np.ndarray:
            codes = _nibbles(data, (rows, outputs // 8))
            out = np.empty_like(codes)
            out[..., list(AWQ_ORDER)] = codes
            return out.reshape(rows, outputs)

        def meaning(data: list[bytes]) -> np.ndarray:
            of_row = np.arange(inputs) // group
            scales = _f16(data[2]).reshape(groups, outputs)
            return ((unpacked(data[0], inputs) - unpacked(data[1], groups)[of_row]) * scales[of_row]).T

        return Stored(tensors, meaning)

    return stored


def e4m3(data: bytes) -> np.ndarray:
    """One sign bit, four of exponent (bias 7), three of fraction; no infinities, one not-a-number."""
    bits = np.frombuffer(data, np.uint8).astype(np.int32)
    exponent, fraction = (bits >> 3) & 15, bits & 7
    normal = (8 + fraction) * 2.0 ** (exponent - 10.0)
    size = np.where(exponent == 0, fraction * 2.0**-9, normal)
    return (np.where(bits & 128, -size, size)).astype(np.float32)


E4M3_DEVIATION = 126.0
"""Of random codes; they lie evenly over the exponents."""


def fp8(suffix: str, scale_shape: Callable[[int, int], tuple[int, ...]], scale_dtype: str) -> Format:
    """The weight in e4m3 and its scale beside it: for the tensor, for each row, or for each block of 128 × 128."""

    def stored(name: str, shape: tuple[int, ...], _seed: int) -> Stored:
        outputs, inputs = shape
        scales = scale_shape(outputs, inputs)
        tensors = [
            RandomTensor(name, shape, "F8_E4M3", rule={"kind": "e4m3"}),
            RandomTensor(name + suffix, scales, scale_dtype, *_scale(E4M3_DEVIATION, inputs)),
        ]

        def meaning(data: list[bytes]) -> np.ndarray:
            read = {"F32": lambda raw: np.frombuffer(raw, "<f4"), "BF16": _bf16}[scale_dtype]
            factors = read(data[1]).reshape(scales if len(scales) == 2 else (1, 1))
            if factors.shape[1] > 1 or len(scales) == 2 and factors.shape[0] not in (1, outputs):
                factors = factors.repeat(128, axis=0)[:outputs].repeat(128, axis=1)[:, :inputs]
            return e4m3(data[0]).reshape(shape) * factors

        return Stored(tensors, meaning)

    return stored


def blocks_of_128(outputs: int, inputs: int) -> tuple[int, ...]:
    return -(-outputs // 128), -(-inputs // 128)


def compressed_int4(group: int, symmetric: bool) -> Format:
    """compressed-tensors' pack-quantized: codes plus 8, eight inputs to a word; zero points likewise, eight
    outputs to one."""

    def stored(name: str, shape: tuple[int, ...], _seed: int) -> Stored:
        outputs, inputs = shape
        groups = inputs // group
        tensors = [
            RandomTensor(name + "_packed", (outputs, inputs // 8), "I32", rule={"kind": "bytes"}),
            RandomTensor(name + "_scale", (outputs, groups), "BF16", *_scale(4.6 if symmetric else 6.5, inputs)),
            RandomTensor(name + "_shape", (2,), "I64", rule={"kind": "values", "values": [outputs, inputs]}),
        ]
        if not symmetric:
            tensors.append(RandomTensor(name + "_zero_point", (outputs // 8, groups), "I32", rule={"kind": "bytes"}))

        def meaning(data: list[bytes]) -> np.ndarray:
            codes = _nibbles(data[0], (outputs, inputs // 8)).reshape(outputs, inputs) - 8
            points = np.zeros((outputs, groups), np.float32)
            if not symmetric:
                points = _nibbles(data[3], (outputs // 8, groups)).transpose(0, 2, 1).reshape(outputs, groups) - 8
            of_column = np.arange(inputs) // group
            return (codes - points[:, of_column]) * _bf16(data[1]).reshape(outputs, groups)[:, of_column]

        return Stored(tensors, meaning)

    return stored


E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)


def mxfp4(name: str, shape: tuple[int, ...], _seed: int) -> Stored:
    """gpt-oss: blocks [experts, outputs, inputs / 32, 16] of two e2m1 to a byte, low first, and a power of two to each.
    The plain tensor is [experts, inputs, outputs]."""
    experts, inputs, outputs = shape
    # Codes deviate by 2.9; four exponents in a row, so that the mean of scales is near what is wanted.
    first = 127 + round(np.log2(GAIN / sqrt(inputs) / 2.9)) - 2
    tensors = [
        RandomTensor(name + "_blocks", (experts, outputs, inputs // 32, 16), "U8", rule={"kind": "bytes"}),
        RandomTensor(name + "_scales", (experts, outputs, inputs // 32), "U8",
                     rule={"kind": "from", "first": first, "count": 4}),
    ]

    def meaning(data: list[bytes]) -> np.ndarray:
        pairs = np.frombuffer(data[0], np.uint8).reshape(experts, outputs, inputs // 32, 16)
        codes = np.stack([pairs & 15, pairs >> 4], axis=-1).reshape(experts, outputs, inputs // 32, 32)
        scales = 2.0 ** (np.frombuffer(data[1], np.uint8).astype(np.float32) - 127)
        values = E2M1[codes] * scales.reshape(experts, outputs, inputs // 32, 1).astype(np.float32)
        return values.reshape(experts, outputs, inputs).transpose(0, 2, 1)

    return Stored(tensors, meaning)


def _shape(**more: object) -> dict:
    return {
        "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 8,
        "num_key_value_heads": 4, "vocab_size": 96, "max_position_embeddings": 256, "bos_token_id": 1,
        "eos_token_id": 2, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": False,
        "torch_dtype": "float16",
    } | more


def llama(**more: object) -> dict:
    return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu"} | _shape(**more)


def mistral(**more: object) -> dict:
    named = {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "hidden_act": "silu"}
    return named | _shape(sliding_window=8) | more


GPT_OSS = {
    "architectures": ["GptOssForCausalLM"], "model_type": "gpt_oss", "hidden_act": "silu", "attention_bias": True,
    "head_dim": 16, "initial_context_length": 32, "num_experts_per_tok": 2, "num_local_experts": 4,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"], "pad_token_id": 0,
    "rope_scaling": {"beta_fast": 32.0, "beta_slow": 1.0, "factor": 8.0, "original_max_position_embeddings": 32,
                     "rope_type": "yarn", "truncate": False},
    "sliding_window": 8, "swiglu_limit": 7.0,
} | {key: value for key, value in _shape(hidden_size=64, intermediate_size=96, rope_theta=150000).items()}


def is_projection(name: str) -> bool:
    return name.endswith("_proj.weight")


def _gptq_config(group: int, symmetric: bool, **more: object) -> dict:
    return {"bits": 4, "damp_percent": 0.01, "desc_act": False, "group_size": group, "quant_method": "gptq",
            "static_groups": False, "sym": symmetric, "true_sequential": True} | more


def _compressed_config(format_name: str, weights: dict) -> dict:
    defaults = {"actorder": None, "block_structure": None, "dynamic": False, "group_size": None, "observer": "minmax",
                "observer_kwargs": {}, "symmetric": True}
    group = {"input_activations": None, "output_activations": None, "targets": ["Linear"],
             "weights": defaults | weights}
    return {"config_groups": {"group_0": group}, "format": format_name, "global_compression_ratio": None,
            "ignore": ["lm_head"], "kv_cache_scheme": None, "quant_method": "compressed-tensors",
            "quantization_status": "compressed"}


CHECKPOINTS: Iterable[QuantisedCheckpoint] = (
    QuantisedCheckpoint(
        "gptq-128", "GPTQ, groups of 128, symmetric", 201, llama(), _gptq_config(128, True),
        gptq(128, True, 1), is_projection),
    QuantisedCheckpoint(
        "gptq-32-asymmetric", "GPTQ, groups of 32, zero points of their own", 202, mistral(), _gptq_config(32, False),
        gptq(32, False, 1), is_projection),
    QuantisedCheckpoint(
        "gptq-v2", "GPTQ as GPTQModel writes it: zero points as they are", 203, llama(),
        _gptq_config(64, False, checkpoint_format="gptq_v2"), gptq(64, False, 0), is_projection),
    QuantisedCheckpoint(
        "awq-128", "AWQ, groups of 128", 211, llama(),
        {"bits": 4, "group_size": 128, "modules_to_not_convert": None, "quant_method": "awq", "version": "gemm",
         "zero_point": True}, awq(128), is_projection),
    QuantisedCheckpoint(
        "awq-32", "AWQ, groups of 32", 212, mistral(),
        {"bits": 4, "group_size": 32, "quant_method": "awq", "version": "gemm", "zero_point": True},
        awq(32), is_projection),
    QuantisedCheckpoint(
        "fp8-block", "FP8 with f32 scales of 128 × 128 blocks, sizes that are no multiple of 128", 221,
        llama(hidden_size=192, intermediate_size=320, num_attention_heads=6, num_key_value_heads=3,
              torch_dtype="bfloat16"),
        {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8", "weight_block_size": [128, 128]},
        fp8("_scale_inv", blocks_of_128, "F32"), is_projection, "BF16"),
    QuantisedCheckpoint(
        "fp8-tensor", "FP8 with one bf16 scale to a tensor", 222, mistral(torch_dtype="bfloat16"),
        {"activation_scheme": "dynamic", "modules_to_not_convert": ["lm_head"], "quant_method": "fp8",
         "weight_block_size": None},
        fp8("_scale_inv", lambda _outputs, _inputs: (), "BF16"), is_projection, "BF16"),
    QuantisedCheckpoint(
        "compressed-int4", "compressed-tensors pack-quantized, groups of 128, symmetric", 231,
        llama(torch_dtype="bfloat16"),
        _compressed_config("pack-quantized", {"group_size": 128, "num_bits": 4, "strategy": "group", "type": "int"}),
        compressed_int4(128, True), is_projection, "BF16"),
    QuantisedCheckpoint(
        "compressed-int4-asymmetric", "compressed-tensors pack-quantized, groups of 32, zero points", 232,
        mistral(torch_dtype="bfloat16"),
        _compressed_config("pack-quantized", {"group_size": 32, "num_bits": 4, "strategy": "group", "symmetric": False,
                                              "type": "int"}),
        compressed_int4(32, False), is_projection, "BF16"),
    QuantisedCheckpoint(
        "compressed-fp8-tensor", "compressed-tensors float-quantized, one scale to a tensor", 233,
        llama(torch_dtype="bfloat16"),
        _compressed_config("float-quantized", {"num_bits": 8, "strategy": "tensor", "type": "float"}),
        fp8("_scale", lambda _outputs, _inputs: (1,), "BF16"), is_projection, "BF16"),
    QuantisedCheckpoint(
        "compressed-fp8-channel", "compressed-tensors float-quantized, a scale to each row", 234,
        llama(torch_dtype="bfloat16"),
        _compressed_config("float-quantized", {"num_bits": 8, "strategy": "channel", "type": "float"}),
        fp8("_scale", lambda outputs, _inputs: (outputs, 1), "F32"), is_projection, "BF16"),
    QuantisedCheckpoint(
        "mxfp4", "gpt-oss: MXFP4 experts", 241, GPT_OSS | {"torch_dtype": "bfloat16"},
        {"modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens",
                                    "lm_head"], "quant_method": "mxfp4"},
        mxfp4, lambda name: name.endswith(("experts.gate_up_proj", "experts.down_proj")), "BF16"),
)
