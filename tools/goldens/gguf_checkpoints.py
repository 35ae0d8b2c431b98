"""The GGUF files of test/golden/formats. The header (metadata and tensor infos) is written by the gguf package and
committed; the data of every tensor is a rule, padded to 32 bytes. What a block means is computed here from the format's
definition and compared with gguf's own."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

import gguf
import numpy as np

from quantised_checkpoints import GAIN, llama
from random_weights import RandomTensor

ALIGNMENT = 32


@dataclass(frozen=True)
class BlockType:
    gguf_type: gguf.GGMLQuantizationType
    per: int
    size: int
    """Offsets of the f16 factors, each with what its centre is in units of 1 / (deviation of the codes)."""
    halves: tuple[tuple[int, float], ...]
    deviation: float
    meaning: Callable[[np.ndarray], np.ndarray]
    """[blocks, size] u8 to [blocks, per] f32."""

    def tensor(self, name: str, shape: tuple[int, ...]) -> RandomTensor:
        centre = GAIN / sqrt(shape[-1]) / self.deviation
        halves = [[at, float(f"{factor * centre:.4g}"), float(f"{0.25 * factor * centre:.4g}")]
                  for at, factor in self.halves]
        rule = {"kind": "blocks", "per": self.per, "size": self.size, "halves": halves}
        return RandomTensor(name, shape, self.gguf_type.name, rule=rule)


def _half(blocks: np.ndarray, at: int) -> np.ndarray:
    return blocks[:, at:at + 2].copy().view("<f2").astype(np.float32)


def _q4_0(blocks: np.ndarray) -> np.ndarray:
    """A scale, then 16 bytes: low nibbles are the first 16 codes, high ones the others; 8 is zero."""
    codes = np.concatenate([blocks[:, 2:] & 15, blocks[:, 2:] >> 4], axis=1)
    return _half(blocks, 0) * (codes.astype(np.float32) - 8)


def _q8_0(blocks: np.ndarray) -> np.ndarray:
    """A scale, then 32 signed bytes."""
    return _half(blocks, 0) * blocks[:, 2:].copy().view(np.int8).astype(np.float32)


def _q4_k(blocks: np.ndarray) -> np.ndarray:
    """Two factors; twelve bytes with a scale and a minimum of six bits for each of eight groups of 32; 128 bytes of
    codes, of which each 32 hold one group in their low and the next in their high nibbles."""
    packed = blocks[:, 4:16]
    low, mid, high = packed[:, 0:4], packed[:, 4:8], packed[:, 8:12]
    scales = np.concatenate([low & 63, (high & 15) | ((low >> 6) << 4)], axis=1).astype(np.float32)
    minima = np.concatenate([mid & 63, (high >> 4) | ((mid >> 6) << 4)], axis=1).astype(np.float32)
    pairs = blocks[:, 16:].reshape(-1, 4, 1, 32)
    codes = np.concatenate([pairs & 15, pairs >> 4], axis=2).reshape(-1, 8, 32).astype(np.float32)
    values = (_half(blocks, 0) * scales)[..., None] * codes - (_half(blocks, 2) * minima)[..., None]
    return values.reshape(-1, 256)


def _q6_k(blocks: np.ndarray) -> np.ndarray:
    """128 bytes of low nibbles, 64 bytes of two high bits, 16 signed scales, a factor; two halves of 128 values, in
    each of which the four quarters share bytes. 32 is zero."""
    low, high = blocks[:, :128].reshape(-1, 2, 64), blocks[:, 128:192].reshape(-1, 2, 32)
    scales = blocks[:, 192:208].copy().view(np.int8).astype(np.float32)
    quarters = [
        (low[..., 32 * (quarter & 1):][..., :32] >> (4 * (quarter >> 1)) & 15) | ((high >> (2 * quarter) & 3) << 4)
        for quarter in range(4)
    ]
    codes = np.stack(quarters, axis=2).reshape(-1, 16, 16).astype(np.float32) - 32
    return ((_half(blocks, 208) * scales)[..., None] * codes).reshape(-1, 256)


Q4_0 = BlockType(gguf.GGMLQuantizationType.Q4_0, 32, 18, ((0, 1.0),), 4.6, _q4_0)
Q8_0 = BlockType(gguf.GGMLQuantizationType.Q8_0, 32, 34, ((0, 1.0),), 74.0, _q8_0)
"""A minimum 7.5 times the scale puts the mean of random values at zero."""
Q4_K = BlockType(gguf.GGMLQuantizationType.Q4_K, 256, 144, ((0, 1.0), (2, 7.5)), 258.0, _q4_k)
Q6_K = BlockType(gguf.GGMLQuantizationType.Q6_K, 256, 210, ((208, 1.0),), 1366.0, _q6_k)


@dataclass(frozen=True)
class GgufCheckpoint:
    name: str
    about: str
    seed: int
    config: dict
    """How a matrix is stored, by its name in the file: a block type, or F16 or F32."""
    type_of: Callable[[str], BlockType | str]


def _mixed_k(name: str) -> BlockType:
    """As in files called Q4_K_M."""
    return Q6_K if name.startswith(("output", "blk.0.attn_v", "blk.1.ffn_down")) else Q4_K


_WIDE = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2}
QWEN2 = {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "use_sliding_window": False}

CHECKPOINTS = (
    GgufCheckpoint("gguf-f16", "GGUF, F16", 251, llama(), lambda _name: "F16"),
    GgufCheckpoint("gguf-q8-0", "GGUF, Q8_0, tied", 252, llama(tie_word_embeddings=True), lambda _name: Q8_0),
    GgufCheckpoint("gguf-q4-0", "GGUF, Q4_0, the head in Q8_0", 253, llama(),
                   lambda name: Q8_0 if name.startswith("output") else Q4_0),
    GgufCheckpoint("gguf-k", "GGUF, Q4_K and Q6_K", 254, llama(**_WIDE), _mixed_k),
    GgufCheckpoint("gguf-qwen2", "GGUF, Q8_0, another family: rows of q and k as they are, biases", 255,
                   llama() | QWEN2, lambda _name: Q8_0),
)

_LAYER_NAMES = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}


def gguf_name(name: str) -> str:
    whole = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
             "lm_head.weight": "output.weight"}
    if name in whole:
        return whole[name]
    _, _, layer, *middle, last = name.split(".")
    return f"blk.{layer}.{_LAYER_NAMES['.'.join(middle)]}.{last}"


def gguf_tensor(checkpoint: GgufCheckpoint, plain: RandomTensor) -> RandomTensor:
    name = gguf_name(plain.name)
    kind = checkpoint.type_of(name) if len(plain.shape) == 2 else "F32"
    if isinstance(kind, BlockType):
        return kind.tensor(name, plain.shape)
    return RandomTensor(name, plain.shape, kind, plain.centre, plain.spread)


def plain_values(checkpoint: GgufCheckpoint, plain: RandomTensor, stored: RandomTensor) -> np.ndarray:
    """The f32 numbers of the plain tensor."""
    data = stored.stored(checkpoint.seed)
    kind = checkpoint.type_of(stored.name) if stored.rule is not None else None
    if kind is None:
        dtype = {"F16": "<f2", "F32": "<f4"}[stored.dtype]
        values = np.frombuffer(data, dtype).astype(np.float32).reshape(stored.shape)
    else:
        values = kind.meaning(np.frombuffer(data, np.uint8).reshape(-1, kind.size)).reshape(stored.shape)
        theirs = gguf.dequantize(np.frombuffer(data, np.uint8).reshape(stored.shape[0], -1), kind.gguf_type)
        if not np.array_equal(values, theirs.reshape(stored.shape)):
            raise SystemExit(f"{stored.name}: gguf reads these blocks otherwise")
    heads = {"attn_q": "num_attention_heads", "attn_k": "num_key_value_heads"}
    part = stored.name.split(".")[-2]
    if checkpoint.config["model_type"] != "llama" or part not in heads:
        return values
    # A llama file has the rows of q and k so that rotation pairs neighbours; Hugging Face pairs the halves of a head.
    count = checkpoint.config[heads[part]]
    pairs = values.reshape(count, values.shape[0] // count // 2, 2, values.shape[1])
    return pairs.swapaxes(1, 2).reshape(values.shape)


def gguf_header(architecture: str, config: dict, seed: int, tensors: list[RandomTensor],
                describe: Callable[[gguf.GGUFWriter, dict], None]) -> bytes:
    head_size = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "header.gguf"
        writer = gguf.GGUFWriter(path, architecture)
        writer.add_context_length(config["max_position_embeddings"])
        writer.add_embedding_length(config["hidden_size"])
        writer.add_block_count(config["num_hidden_layers"])
        writer.add_feed_forward_length(config["intermediate_size"])
        writer.add_head_count(config["num_attention_heads"])
        writer.add_head_count_kv(config["num_key_value_heads"])
        writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
        writer.add_rope_freq_base(config["rope_theta"])
        writer.add_rope_dimension_count(head_size)
        if "head_dim" in config:
            writer.add_key_length(head_size)
            writer.add_value_length(head_size)
        describe(writer, config)
        writer.add_vocab_size(config["vocab_size"])
        writer.add_tokenizer_model("gpt2")
        writer.add_token_list([f"t{index}" for index in range(config["vocab_size"])])
        writer.add_token_types([1] * config["vocab_size"])
        writer.add_token_merges(["t 1"])
        writer.add_bos_token_id(config["bos_token_id"])
        writer.add_eos_token_id(config["eos_token_id"])
        for tensor in tensors:
            size = len(tensor.stored(seed))
            writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float32), size,
                                   raw_dtype=gguf.GGMLQuantizationType[tensor.dtype])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        writer.close()
        header = path.read_bytes()
    return padded(header)


def padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % ALIGNMENT)
