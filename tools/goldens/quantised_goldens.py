"""Goldens of quantised checkpoints: the model that the stored codes mean, as plain f32 weights, answered by
transformers."""

from __future__ import annotations

import base64
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

import gguf_checkpoints
import quantised_checkpoints
from family_checkpoints import FamilyCheckpoint
from family_goldens import ALL_POSITIONS_INDEX, DIGITS, clear_prompt, first_clear, published_tensors
from gguf_checkpoints import GgufCheckpoint
from gguf_families import FAMILIES, GgufFamily, GgufLayout
from quantised_checkpoints import QuantisedCheckpoint
from random_weights import RandomTensor, as_patterns, of_patterns, write_safetensors
from reference import golden, load, model_header, write

PROMPT_LENGTHS = (3, 9, 17, 24)
"""Families in GGUF are asked less: what their arithmetic is, families' own goldens show."""
FAMILY_PROMPT_LENGTHS = (9, 24)
CHECKPOINTS = (*quantised_checkpoints.CHECKPOINTS, *gguf_checkpoints.CHECKPOINTS, *FAMILIES)


def make_quantised(checkpoint: QuantisedCheckpoint | GgufCheckpoint | GgufFamily, folder: Path) -> dict:
    """Writes config.json and weights.json, which has a GGUF file's header in it; returns the goldens."""
    return first_clear(checkpoint, lambda seeded: made_with(seeded, folder))


def base_of(checkpoint: QuantisedCheckpoint | GgufCheckpoint | GgufFamily) -> FamilyCheckpoint:
    dtype = checkpoint.plain_dtype if isinstance(checkpoint, QuantisedCheckpoint) else "F16"
    base = FamilyCheckpoint(checkpoint.name, checkpoint.about, checkpoint.seed, dtype, checkpoint.config, "hub",
                            PROMPT_LENGTHS)
    if not isinstance(checkpoint, GgufFamily):
        return base
    return replace(base, prompt_lengths=FAMILY_PROMPT_LENGTHS, head_gain=checkpoint.head_gain,
                   matrix_gain=checkpoint.matrix_gain, last_norm_centre=checkpoint.last_norm_centre,
                   norm_centre=0.0 if checkpoint.architecture.startswith("gemma") else 1.0)


def made_with(checkpoint: QuantisedCheckpoint | GgufCheckpoint | GgufFamily, folder: Path) -> dict:
    base = base_of(checkpoint)
    with tempfile.TemporaryDirectory() as scratch_name:
        scratch = Path(scratch_name)
        (scratch / "config.json").write_text(json.dumps(checkpoint.config), encoding="utf-8")
        plain = published_tensors(base, scratch)
        rules, values = numbers_of(checkpoint, plain)
        write_safetensors(scratch / "model.safetensors",
                          [(name, "F32", value.shape, value.astype("<f4").tobytes()) for name, value in values.items()])
        model, exact = load(scratch), load(scratch, torch.float64)
        random = torch.Generator().manual_seed(checkpoint.seed)
        prompts = []
        for index, length in enumerate(base.prompt_lengths):
            token_ids, _ = clear_prompt(base, model, length, random)
            prompts.append(golden(model, exact, token_ids, index == ALL_POSITIONS_INDEX, DIGITS))
    folder.mkdir(parents=True, exist_ok=True)
    about = "a rule for every tensor: see tools/goldens/random_weights.py"
    made = {"about": about, "seed": checkpoint.seed,
            "sample": sample_of(values), "tensors": rules}
    if isinstance(checkpoint, QuantisedCheckpoint):
        config = checkpoint.config | {"quantization_config": checkpoint.quantization_config}
    else:
        is_family = isinstance(checkpoint, GgufFamily)
        config = checkpoint.config
        header = gguf_checkpoints.gguf_header(
            checkpoint.architecture if is_family else config["model_type"], config, checkpoint.seed,
            of_patterns(rules), checkpoint.describe if is_family else lambda _writer, _config: None,
        )
        made |= {"ggufHeader": base64.b64encode(header).decode()}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    write(folder / "weights.json", made)
    return model_header(checkpoint.about) | {"prompts": prompts}


def sample_of(values: dict[str, np.ndarray]) -> dict:
    """First numbers of a quantised matrix, so that a misread format shows before any logit does."""
    stacked = values.get("model.layers.0.mlp.experts.gate_up_proj")
    if stacked is not None:
        role, matrix = "layers.0.experts.1.gate.weight", stacked[1, :, ::2].T
    elif "model.layers.0.self_attn.qkv_proj.weight" in values:
        role, matrix = "layers.0.q.weight", values["model.layers.0.self_attn.qkv_proj.weight"]
    else:
        role, matrix = "layers.0.q.weight", values["model.layers.0.self_attn.q_proj.weight"]
    return {"role": role, "rows": matrix[:2, :6].astype(np.float64).tolist()}


def numbers_of(checkpoint, plain: list[RandomTensor]) -> tuple[list[list], dict[str, np.ndarray]]:
    """The rules of what is stored, and the plain numbers that it means."""
    if isinstance(checkpoint, QuantisedCheckpoint):
        return numbers(checkpoint, plain)
    if isinstance(checkpoint, GgufCheckpoint):
        return gguf_numbers(checkpoint, plain)
    layout = GgufLayout(checkpoint)
    for tensor in plain:
        layout.add(tensor)
    return as_patterns(list(layout.stored.values())), layout.values()


def numbers(checkpoint: QuantisedCheckpoint, plain: list[RandomTensor]) -> tuple[list[list], dict[str, np.ndarray]]:
    tensors: list[RandomTensor] = []
    values: dict[str, np.ndarray] = {}
    for tensor in plain:
        if not checkpoint.is_quantised(tensor.name):
            tensors.append(tensor)
            values[tensor.name] = widened(tensor.stored(checkpoint.seed), tensor.dtype).reshape(tensor.shape)
            continue
        stored = checkpoint.matrix(tensor.name, tensor.shape, checkpoint.seed)
        tensors += stored.tensors
        data = [one.stored(checkpoint.seed) for one in stored.tensors]
        value = np.ascontiguousarray(stored.meaning(data), dtype=np.float32)
        if value.shape != tensor.shape:
            raise SystemExit(f"{tensor.name}: means {value.shape}, should be {tensor.shape}")
        compare(checkpoint, stored.tensors, data, value)
        values[tensor.name] = value
    return as_patterns(tensors), values


def gguf_numbers(checkpoint: GgufCheckpoint, plain: list[RandomTensor]) -> tuple[list[list], dict[str, np.ndarray]]:
    stored = {tensor.name: gguf_checkpoints.gguf_tensor(checkpoint, tensor) for tensor in plain}
    values = {tensor.name: gguf_checkpoints.plain_values(checkpoint, tensor, stored[tensor.name]) for tensor in plain}
    return as_patterns(list(stored.values())), values


def widened(data: bytes, dtype: str) -> np.ndarray:
    if dtype == "BF16":
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(data, "<f2" if dtype == "F16" else "<f4").astype(np.float32)


def compare(checkpoint: QuantisedCheckpoint, tensors: list[RandomTensor], data: list[bytes], value: np.ndarray) -> None:
    """Our reading of a format against another's, where one is at hand."""
    if checkpoint.quantization_config["quant_method"] == "mxfp4":
        blocks, scales = (torch.frombuffer(bytearray(raw), dtype=torch.uint8).reshape(tensor.shape)
                          for raw, tensor in zip(data, tensors, strict=True))
        theirs = convert_moe_packed_tensors(blocks, scales, dtype=torch.float32).numpy()
        if not np.array_equal(theirs, value):
            raise SystemExit(f"{tensors[0].name}: transformers reads these blocks otherwise")
    for tensor, raw in zip(tensors, data, strict=True):
        if tensor.dtype != "F8_E4M3":
            continue
        theirs = torch.frombuffer(bytearray(raw), dtype=torch.float8_e4m3fn).float().numpy()
        if not np.array_equal(theirs, quantised_checkpoints.e4m3(raw)):
            raise SystemExit(f"{tensor.name}: torch reads these codes otherwise")
