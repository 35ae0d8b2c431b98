"""Asks a checkpoint the held-out questions and counts the right answers.

    python tools/demo-model/evaluate.py --model models/demo --write    # also writes models/demo/evaluation.json
    python tools/demo-model/evaluate.py --model models/demo --show-wrong

Greedy, float32, through the checkpoint's own tokenizer and chat template. An answer is right if it contains every word
that its fact needs (corpus.py, `needs`); a story if it is about the hero asked for and comes to its end. No held-out
question, and no pair of numbers under `sum-unseen-pair`, occurs in the training text.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from pathlib import Path

import torch
import transformers
from corpus import FACTS, HeldOut, held_out, held_out_others, is_right

MAX_NEW_TOKENS = 110
INT4_BLOCK = 128
BATCH = 64


def int4_rounded(weight: torch.Tensor) -> torch.Tensor:
    """The values that symmetric 4-bit rounding leaves of a matrix [out, in], one scale for 128 weights of a row."""
    blocks = torch.nn.functional.pad(weight, (0, -weight.shape[1] % INT4_BLOCK)).unflatten(1, (-1, INT4_BLOCK))
    scale = blocks.abs().amax(dim=2, keepdim=True).clamp(min=1e-8) / 7
    return ((blocks / scale).round() * scale).flatten(1)[:, :weight.shape[1]]


@torch.no_grad()
def answer_all(
    model, prompts: list[list[int]], end: int, pad: int, max_new_tokens: int = MAX_NEW_TOKENS
) -> list[list[int]]:
    """The greedy continuation of each prompt, up to its end of turn. Prompts of one length go together, so that no
    padding can change an answer."""
    by_length = defaultdict(list)
    for index, ids in enumerate(prompts):
        by_length[len(ids)].append(index)
    answers: list[list[int]] = [[] for _ in prompts]
    for length, all_indexes in by_length.items():
        for start in range(0, len(all_indexes), BATCH):
            indexes = all_indexes[start:start + BATCH]
            batch = torch.tensor([prompts[index] for index in indexes])
            out = model.generate(batch, attention_mask=torch.ones_like(batch), do_sample=False,
                                 max_new_tokens=max_new_tokens, pad_token_id=pad, eos_token_id=end)
            for index, row in zip(indexes, out[:, length:].tolist(), strict=True):
                answers[index] = row[: row.index(end)] if end in row else row
    return answers


def score(model, tokenizer, items: list[HeldOut], show_wrong: bool) -> dict[str, tuple[int, int]]:
    """kind -> (right, asked)"""
    prompts = [
        tokenizer.encode(
            tokenizer.apply_chat_template([{"role": "user", "content": item.question}], tokenize=False,
                                          add_generation_prompt=True),
            add_special_tokens=False,
        )
        for item in items
    ]
    counted: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    answers = answer_all(model, prompts, tokenizer.eos_token_id, tokenizer.pad_token_id)
    for item, ids in zip(items, answers, strict=True):
        said = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        right = is_right(said, item.needs)
        counted[item.kind][0] += right
        counted[item.kind][1] += 1
        if show_wrong and not right:
            print(f"[{item.kind}] {item.question!r}: wanted {item.needs}, got {said!r}")
    return {kind: (right, asked) for kind, (right, asked) in counted.items()}


def figures(counted: dict[str, tuple[int, int]]) -> dict:
    return {kind: {"right": right, "asked": asked, "share": round(right / asked, 4)}
            for kind, (right, asked) in counted.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--write", action="store_true", help="write evaluation.json beside the weights")
    parser.add_argument("--show-wrong", action="store_true")
    parser.add_argument("--require", type=float, default=0.9, help="least share of facts; below it, exit 1")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    tokenizer = transformers.AutoTokenizer.from_pretrained(options.model)
    model = transformers.AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32).eval()
    started = time.monotonic()
    counted = score(model, tokenizer, held_out() + held_out_others(), options.show_wrong)

    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 2 and "embed_tokens" not in name:
                weight.copy_(int4_rounded(weight))
    rounded = score(model, tokenizer, held_out(), False)

    result = {
        "what": "held-out questions answered with the right facts; greedy, float32, one turn, no system prompt",
        "madeBy": "tools/demo-model/evaluate.py",
        "transformers": transformers.__version__,
        "factCount": len(FACTS),
        "float32": figures(counted),
        "layersRoundedToInt4": {"how": f"symmetric, blocks of {INT4_BLOCK}, embedding and head left alone"}
        | figures(rounded),
    }
    print(json.dumps(result, indent=2))
    print(f"{time.monotonic() - started:.0f} s")
    if options.write:
        (options.model / "evaluation.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    right, asked = counted["fact"]
    if right < options.require * asked:
        raise SystemExit(f"only {right} of {asked} held-out questions were answered rightly; "
                         f"{options.require:.0%} are required")


if __name__ == "__main__":
    main()
