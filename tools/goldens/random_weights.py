"""Random tensors that follow from (seed, name, index) alone, so that no weight of a tiny checkpoint need be committed.

test/golden/families/random-weights.ts computes the same bits. Integers are unsigned 32-bit and wrap:

    mix(x)      x ^= x >> 16;  x *= 0x85EBCA6B;  x ^= x >> 13;  x *= 0xC2B2AE35;  x ^= x >> 16 (MurmurHash3's end)
    key         FNV-1a of the UTF-8 bytes of "<seed>/<tensor name>"
    bits(i)     mix(mix(i) ^ key)                     i counts the elements in storage order (row-major)
    unit(i)     (bits(i) >> 8) / 2^23 - 1             in [-1, 1), exact in f32
    value(i)    f32(centre + f32(spread * unit(i)))   then rounded to the stored dtype, ties to even

Quantised tensors are rules too, since any codes are a checkpoint:

    bytes       byte k is byte (k mod 4), lowest first, of bits(floor(k / 4)); each word and-ed with `mask`, plus `plus`
    e4m3        bytes, of which the not-a-numbers (127 and 255) become 126 and 254
    word        one 32-bit word, again and again
    from        a byte of the stream modulo `count`, plus `first`: exponents
    steps       i32: i divided by `of`, rounded down: the group of each row
    values      i64, as listed
    blocks      bytes, in blocks of `size` for `per` values; for each [offset, centre, spread] of `halves`, an f16
                at that offset of the block: value(block), with "@<offset>" after the tensor's name in the key, rounded;
                for each [offset, first, count] of `exponents`, the byte there modulo `count`, plus `first`

`centre` and `spread` are f32. A matrix of n inputs has spread gain * sqrt(3 / n): with inputs of variance 1, outputs
have variance gain squared.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from itertools import groupby, product
from pathlib import Path

import numpy as np

@dataclass(frozen=True)
class RandomTensor:
    name: str
    shape: tuple[int, ...]
    """As safetensors spells it; of GGUF blocks, as GGUF does."""
    dtype: str
    centre: float = 0.0
    spread: float = 0.0
    """Instead of centre and spread."""
    rule: dict | None = None

    @property
    def line(self) -> list:
        return [list(self.shape), self.dtype, *((self.centre, self.spread) if self.rule is None else (self.rule,))]

    def stored(self, seed: int) -> bytes:
        if self.rule is not None:
            return ruled_bytes(self.rule, seed, self.name, self.shape, self.dtype)
        values = random_values(seed, self.name, int(np.prod(self.shape)), self.centre, self.spread)
        return rounded_bytes(values, self.dtype)


def mix(x: np.ndarray) -> np.ndarray:
    x = x ^ (x >> np.uint32(16))
    x = x * np.uint32(0x85EBCA6B)
    x = x ^ (x >> np.uint32(13))
    x = x * np.uint32(0xC2B2AE35)
    return x ^ (x >> np.uint32(16))


def key_of(seed: int, name: str) -> np.uint32:
    key = 0x811C9DC5
    for byte in f"{seed}/{name}".encode():
        key = (key ^ byte) * 0x01000193 & 0xFFFFFFFF
    return np.uint32(key)


def random_bits(seed: int, name: str, count: int) -> np.ndarray:
    return mix(mix(np.arange(count, dtype=np.uint32)) ^ key_of(seed, name))


def random_values(seed: int, name: str, count: int, centre: float, spread: float) -> np.ndarray:
    unit = (random_bits(seed, name, count) >> np.uint32(8)).astype(np.float32) / np.float32(1 << 23) - np.float32(1)
    return np.float32(centre) + np.float32(spread) * unit


def rounded_bytes(values: np.ndarray, dtype: str) -> bytes:
    if dtype == "F32":
        return values.astype("<f4").tobytes()
    if dtype == "F16":
        return values.astype("<f2").tobytes()
    bits = values.astype("<f4").view("<u4")
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    return ((bits + np.uint32(0x7FFF) + odd) >> np.uint32(16)).astype("<u2").tobytes()


BYTES = {"U8": 1, "F8_E4M3": 1, "I32": 4}


def ruled_bytes(rule: dict, seed: int, name: str, shape: tuple[int, ...], dtype: str) -> bytes:
    kind, count = rule["kind"], int(np.prod(shape))
    if kind == "values":
        return np.array(rule["values"], "<i8").tobytes()
    if kind == "steps":
        return (np.arange(count, dtype="<i4") // rule["of"]).astype("<i4").tobytes()
    if kind == "word":
        return np.full(count, rule["value"], "<u4").tobytes()
    if kind == "blocks":
        return block_bytes(rule, seed, name, shape)
    data = random_bytes(seed, name, count * BYTES[dtype], rule.get("mask", 0xFFFFFFFF), rule.get("plus", 0))
    if kind == "e4m3":
        data = np.where((data & 127) == 127, data ^ 1, data)
    if kind == "from":
        data = data % np.uint8(rule["count"]) + np.uint8(rule["first"])
    return data.astype(np.uint8).tobytes()


def random_bytes(seed: int, name: str, count: int, mask: int = 0xFFFFFFFF, plus: int = 0) -> np.ndarray:
    words = (random_bits(seed, name, -(-count // 4)) & np.uint32(mask)) + np.uint32(plus)
    return words.astype("<u4").view(np.uint8)[:count]


def block_bytes(rule: dict, seed: int, name: str, shape: tuple[int, ...]) -> bytes:
    block_count = int(np.prod(shape)) // rule["per"]
    blocks = random_bytes(seed, name, block_count * rule["size"]).reshape(block_count, rule["size"]).copy()
    for offset, centre, spread in rule["halves"]:
        halves = random_values(seed, f"{name}@{offset}", block_count, centre, spread).astype("<f2")
        blocks[:, offset:offset + 2] = halves.view(np.uint8).reshape(block_count, 2)
    for offset, first, count in rule.get("exponents", ()):
        blocks[:, offset] = blocks[:, offset] % count + first
    return blocks.tobytes()


def write_safetensors(file: Path, tensors: list[tuple[str, str, tuple[int, ...], bytes]]) -> None:
    """(name, dtype as safetensors spells it, shape, bytes), in the order given."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, dtype, shape, data in tensors:
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(data for _, _, _, data in tensors))


def as_patterns(tensors: list[RandomTensor]) -> list[list]:
    """One line for tensors that differ in their layer or expert only: `layers.{0,1,2}.mlp.down_proj.weight`. The order
    of the expanded lines is the order in the file."""

    def kind_of(tensor: RandomTensor) -> tuple[str, str]:
        return re.sub(r"\.\d+(?=\.)", ".*", tensor.name), json.dumps(tensor.line)

    lines = []
    for (pattern, line), group in groupby(sorted(tensors, key=kind_of), key=kind_of):
        numbers = [[int(n) for n in re.findall(r"(?<=\.)\d+(?=\.)", tensor.name)] for tensor in group]
        axes = [sorted(set(column)) for column in zip(*numbers, strict=True)]
        if len(list(product(*axes))) != len(numbers):
            raise SystemExit(f"{pattern}: not every expert in every layer of its kind")
        for axis in axes:
            pattern = pattern.replace("*", "{" + ",".join(map(str, axis)) + "}", 1)
        lines.append([pattern, *json.loads(line)])
    return lines


def expanded(pattern: str) -> list[str]:
    parts = re.split(r"\{([\d,]+)\}", pattern)
    choices = [part.split(",") if index % 2 else [part] for index, part in enumerate(parts)]
    return ["".join(one) for one in product(*choices)]


def of_patterns(lines: list[list]) -> list[RandomTensor]:
    tensors = []
    for pattern, shape, dtype, *rest in lines:
        rule = {"rule": rest[0]} if len(rest) == 1 else dict(zip(("centre", "spread"), rest, strict=True))
        tensors += [RandomTensor(name, tuple(shape), dtype, **rule) for name in expanded(pattern)]
    return tensors
