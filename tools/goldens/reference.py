"""What transformers answers: logits and greedy tokens of a loaded model, and how they are written down."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM

NEW_TOKEN_COUNT = 64

transformers.logging.disable_progress_bar()


def load(folder: Path, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    """Refuses a checkpoint of which a tensor is missing, unknown or of another shape: transformers would only warn, and
    draw the missing ones at random."""
    model, told = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=dtype,
        attn_implementation="eager",
        experts_implementation="eager",
        output_loading_info=True,
    )
    wrong = {what: names for what, names in told.items() if names}
    if wrong:
        raise SystemExit(f"{folder}: transformers loads it with {wrong}")
    model.eval()
    # The end of a turn must not end the comparison: what follows it is as good a test as what precedes it.
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    return model


@torch.no_grad()
def greedy(model: torch.nn.Module, prompts: list[list[int]]) -> list[tuple[list[int], float]]:
    """For each prompt, all of one length: 64 greedy tokens by `generate`, and the smallest gap between the two best
    logits on the way."""
    batch = torch.tensor(prompts)
    out = model.generate(
        batch,
        attention_mask=torch.ones_like(batch),
        do_sample=False,
        max_new_tokens=NEW_TOKEN_COUNT,
        output_logits=True,
        return_dict_in_generate=True,
    )
    best = torch.stack(out.logits, dim=1).topk(2, dim=-1).values
    margins = (best[..., 0] - best[..., 1]).amin(dim=-1)
    return list(zip(out.sequences[:, batch.shape[1]:].tolist(), margins.tolist(), strict=True))


@torch.no_grad()
def logits_of(model: torch.nn.Module, token_ids: list[int]) -> torch.Tensor:
    """[positions, vocabulary]"""
    return model(torch.tensor([token_ids]), use_cache=False).logits[0]


def rounded(values: torch.Tensor, digits: int = 6) -> list:
    """Six decimals are a thousand times finer than the tolerance that tests use, and a third of the digits."""
    return [rounded(row, digits) if row.dim() else round(float(row), digits) for row in values]


def golden(model, exact, token_ids: list[int], all_positions: bool, digits: int = 6) -> dict:
    tokens, margin = greedy(model, [token_ids])[0]
    logits = logits_of(model, token_ids)
    # The float64 twin walks the same path, so one forward pass over all of it gives the deviation at every step.
    path = token_ids + tokens[:-1]
    deviation = float((logits_of(model, path).double() - logits_of(exact, path)).abs().max())
    made = {
        "tokenIds": token_ids,
        "greedy": tokens,
        "minMargin": round(margin, 6),
        "float64Deviation": float(f"{deviation:.2g}"),
        "lastLogits": rounded(logits[-1], digits),
    }
    return made | ({"allLogits": rounded(logits, digits)} if all_positions else {})


def header(about: str) -> dict:
    return {"about": about, "madeBy": "tools/goldens/make-goldens.py", "transformers": transformers.__version__}


def model_header(about: str) -> dict:
    torch_version = torch.__version__.split("+")[0]
    return header(about) | {"torch": torch_version, "dtype": "float32", "newTokenCount": NEW_TOKEN_COUNT}


def show(name: str, made: dict) -> None:
    for prompt in made["prompts"]:
        print(
            f"{name}: {len(prompt['tokenIds']):3d} tokens, {len(set(prompt['greedy'])):2d} distinct, "
            f"least margin {prompt['minMargin']:.4f}, float64 deviation {prompt['float64Deviation']:.1e}",
            flush=True,
        )


def write(file: Path, made: dict) -> None:
    """One line for each field of each item: a diff shows which one moved, and the file stays small."""
    file.parent.mkdir(parents=True, exist_ok=True)

    def one_line(value: object) -> str:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

    def many_lines(items: list) -> str:
        if not isinstance(items[0], dict):
            return "[\n" + ",\n".join("    " + one_line(item) for item in items) + "\n  ]"
        fields = (
            ",\n".join(f"      {one_line(key)}: {one_line(value)}" for key, value in item.items()) for item in items
        )
        return "[\n" + ",\n".join("    {\n" + text + "\n    }" for text in fields) + "\n  ]"

    lines = (f"  {one_line(key)}: {many_lines(value) if isinstance(value, list) else one_line(value)}"
             for key, value in made.items())
    file.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def agree(made: dict, committed: dict) -> bool:
    """Same tokens, and logits within the tests' own tolerance: another machine rounds differently."""
    return len(made["prompts"]) == len(committed["prompts"]) and all(
        ours["tokenIds"] == theirs["tokenIds"]
        and ours["greedy"] == theirs["greedy"]
        and max(abs(a - b) for a, b in zip(ours["lastLogits"], theirs["lastLogits"], strict=True)) < 1e-3
        for ours, theirs in zip(made["prompts"], committed["prompts"], strict=True)
    )
