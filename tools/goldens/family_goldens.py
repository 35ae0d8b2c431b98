"""Goldens of the families: weights by rule instead of by file, and prompts on which nothing hangs on rounding."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from math import sqrt
from pathlib import Path

import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM

from family_checkpoints import FamilyCheckpoint
from random_weights import RandomTensor, as_patterns, of_patterns, write_safetensors
from reference import golden, greedy, load, logits_of, model_header, write

MIN_MARGIN = 0.01
"""Between the last expert chosen and the first not chosen, in router logits."""
MIN_ROUTER_MARGIN = 0.002
"""Less from a prompt of one token: there are no more such prompts than tokens."""
MIN_DISTINCT_TOKENS, MIN_DISTINCT_TOKENS_FROM_ONE = 20, 8
DRAW_COUNT, DRAW_BATCH = 192, 24
"""The prompt whose logits are kept at every position."""
ALL_POSITIONS_INDEX = 3
DIGITS = 5
SEED_COUNT, SEED_STEP = 8, 1000
ROUTERS = ("block_sparse_moe.gate.weight", "mlp.gate.weight", "mlp.router.weight")


class Unclear(Exception):
    """These weights repeat themselves or hang between two tokens; others may not."""


def config_text(checkpoint: FamilyCheckpoint) -> str:
    if checkpoint.spelling == "hub":
        return json.dumps(checkpoint.config, indent=2) + "\n"
    settings = dict(checkpoint.config)
    config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    return config.to_json_string(use_diff=True)


def published_tensors(checkpoint: FamilyCheckpoint, folder: Path) -> list[RandomTensor]:
    """Names and shapes are transformers' own: what it writes for this config.json, in the layout that is published."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    with tempfile.TemporaryDirectory() as scratch:
        model.save_pretrained(scratch)
        with safe_open(Path(scratch) / "model.safetensors", "pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
    tied = "lm_head.weight" not in shapes
    return [drawn(checkpoint, name, shape, tied) for name, shape in sorted(shapes.items())]


def drawn(checkpoint: FamilyCheckpoint, name: str, shape: tuple[int, ...], tied: bool) -> RandomTensor:
    def tensor(centre: float, spread: float) -> RandomTensor:
        return RandomTensor(name, shape, checkpoint.dtype, centre, round(spread, 4))

    if name == "model.norm.weight" and checkpoint.last_norm_centre is not None:
        return tensor(checkpoint.last_norm_centre, 0.4)
    if name.endswith("norm.weight"):
        return tensor(checkpoint.norm_centre, 0.4)
    if name.endswith("sinks"):
        return tensor(1.0, 1.5)
    if name.endswith("bias"):
        return tensor(0.0, checkpoint.bias_spread)
    # Stacked experts are [experts, inputs, outputs]; every other matrix is [outputs, inputs].
    inputs = shape[1] if len(shape) == 3 else shape[-1]
    if name == "model.embed_tokens.weight" and not tied:
        return tensor(0.0, checkpoint.embedding_gain * sqrt(3))
    if name in ("model.embed_tokens.weight", "lm_head.weight"):
        return tensor(0.0, checkpoint.head_gain * sqrt(3 / inputs))
    gain = checkpoint.router_gain if name.endswith(ROUTERS) else checkpoint.matrix_gain
    return tensor(0.0, gain * sqrt(3 / inputs))


def write_checkpoint(folder: Path, seed: int, lines: list[list]) -> None:
    tensors = [(one.name, one.dtype, one.shape, one.stored(seed)) for one in of_patterns(lines)]
    write_safetensors(folder / "model.safetensors", tensors)


@contextmanager
def router_margins(model: torch.nn.Module):
    """Collects, for every row of every router, the gap between the last expert chosen and the first not chosen."""
    margins: list[torch.Tensor] = []

    def look(router: torch.nn.Module, inputs: tuple) -> None:
        logits = torch.nn.functional.linear(inputs[0], router.weight, getattr(router, "bias", None))
        best = logits.reshape(-1, logits.shape[-1]).topk(router.top_k + 1, dim=-1).values
        margins.append((best[:, -2] - best[:, -1]).min())

    hooks = [module.register_forward_pre_hook(look) for module in model.modules()
             if type(module).__name__.endswith("TopKRouter")]
    try:
        yield margins
    finally:
        for hook in hooks:
            hook.remove()


def clear_prompt(checkpoint: FamilyCheckpoint, model, length: int, random: torch.Generator) -> tuple[list[int], float]:
    """The first prompt drawn on which every choice, of tokens and of experts, is clear."""
    best = 0.0
    for _ in range(0, DRAW_COUNT, DRAW_BATCH):
        size = (DRAW_BATCH, length)
        prompts = torch.randint(0, checkpoint.config["vocab_size"], size, generator=random).tolist()
        for prompt, (tokens, margin) in zip(prompts, greedy(model, prompts), strict=True):
            if len(set(tokens)) < (MIN_DISTINCT_TOKENS if length > 1 else MIN_DISTINCT_TOKENS_FROM_ONE):
                continue
            best = max(best, margin)
            if margin < MIN_MARGIN:
                continue
            with router_margins(model) as margins:
                logits_of(model, prompt + tokens)
            router_margin = float(min(margins)) if margins else float("inf")
            if router_margin >= MIN_ROUTER_MARGIN:
                return prompt, router_margin
    raise Unclear(f"{checkpoint.name}: no clear prompt of {length} tokens, best margin {best:.4f}")


def first_clear(checkpoint, make: Callable):
    """What `make` makes of the checkpoint with the first seed that gives clear goldens."""
    for attempt in range(SEED_COUNT):
        try:
            return make(replace(checkpoint, seed=checkpoint.seed + SEED_STEP * attempt))
        except Unclear as unclear:
            print(unclear, flush=True)
    raise SystemExit(f"{checkpoint.name}: {SEED_COUNT} seeds are unclear; change its gains")


def make_family(checkpoint: FamilyCheckpoint, folder: Path) -> dict:
    """Writes config.json and weights.json, and returns the goldens."""
    return first_clear(checkpoint, lambda seeded: made_with(seeded, folder))


def made_with(checkpoint: FamilyCheckpoint, folder: Path) -> dict:
    """The weights themselves live in a scratch folder."""
    with tempfile.TemporaryDirectory() as scratch_name:
        scratch = Path(scratch_name)
        (scratch / "config.json").write_text(config_text(checkpoint), encoding="utf-8")
        lines = as_patterns(published_tensors(checkpoint, scratch))
        write_checkpoint(scratch, checkpoint.seed, lines)
        model, exact = load(scratch), load(scratch, torch.float64)
        random = torch.Generator().manual_seed(checkpoint.seed)
        prompts = []
        for index, length in enumerate(checkpoint.prompt_lengths):
            token_ids, router_margin = clear_prompt(checkpoint, model, length, random)
            made = golden(model, exact, token_ids, index == ALL_POSITIONS_INDEX, DIGITS)
            if router_margin != float("inf"):
                made = {"tokenIds": made.pop("tokenIds"), "greedy": made.pop("greedy"),
                        "minRouterMargin": round(router_margin, 6)} | made
            prompts.append(made)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_bytes((scratch / "config.json").read_bytes())
        write(folder / "weights.json", {"about": "a rule for every tensor: see tools/goldens/random_weights.py",
                                        "seed": checkpoint.seed, "sample": sample_of(checkpoint, lines),
                                        "tensors": lines})
    return model_header(checkpoint.about) | {"prompts": prompts}


def sample_of(checkpoint: FamilyCheckpoint, lines: list[list]) -> dict:
    """First values of one matrix as stored, widened to f32: whoever draws the tensors anew sees at once whether they
    agree."""
    tensor = next(one for one in of_patterns(lines) if len(one.shape) > 1)
    stored = tensor.stored(checkpoint.seed)
    dtype = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}[tensor.dtype]
    values = torch.frombuffer(bytearray(stored), dtype=dtype)[:6].double()
    return {"name": tensor.name, "values": values.tolist()}
