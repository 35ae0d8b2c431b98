"""Makes the reference values in test/golden with Hugging Face transformers, in float32 on the CPU.

    python tools/goldens/make-goldens.py tiny            # the tiny random checkpoints and their goldens
    python tools/goldens/make-goldens.py demo            # goldens of models/demo
    python tools/goldens/make-goldens.py tiny --check    # remake in memory, compare with what is committed

The test suite reads only the JSON. Greedy output is compared by equality, so every prompt here is one whose 64 greedy
steps each have a clear winner: the smallest gap between the best and the second logit is recorded as `minMargin`, and
prompts with a gap below the limit are not taken. The same steps in float64 show how far float32 rounding reaches.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM

sys.path.insert(0, str(Path(__file__).parent))
from demo_goldens import CHAT_COUNT, CHATS, RAW, RAW_COUNT, chat_template_goldens, tokenizer_goldens  # noqa: E402
from tiny_checkpoints import CHECKPOINTS, TinyCheckpoint, write_checkpoint  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "test" / "golden"
DEMO = ROOT / "models" / "demo"

NEW_TOKEN_COUNT = 64
PROMPT_LENGTHS = (1, 2, 3, 7, 16, 24, 33, 60)
"""The prompt whose logits are kept at every position, not only the last."""
ALL_POSITIONS_INDEX = 3
MIN_MARGIN_TINY, MIN_MARGIN_DEMO = 0.008, 0.005
MIN_DISTINCT_TOKENS = 20
DRAW_COUNT = 64


def load(folder: Path, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager").eval()
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
    return model(torch.tensor([token_ids])).logits[0]


def rounded(values: torch.Tensor) -> list:
    """Six decimals: a thousand times finer than the tolerance that tests use, and a third of the digits."""
    return [rounded(row) if row.dim() else round(float(row), 6) for row in values]


def golden(model, exact, token_ids: list[int], all_positions: bool) -> dict:
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
        "lastLogits": rounded(logits[-1]),
    }
    return made | ({"allLogits": rounded(logits)} if all_positions else {})


def tiny_prompts(checkpoint: TinyCheckpoint, model) -> list[list[int]]:
    random = torch.Generator().manual_seed(checkpoint.seed + 1)
    prompts = []
    for length in PROMPT_LENGTHS:
        # Any id may come first or anywhere: an engine has no business with what ids mean.
        drawn = torch.randint(0, checkpoint.config["vocab_size"], (DRAW_COUNT, length), generator=random).tolist()
        clear = [
            prompt
            for prompt, (tokens, margin) in zip(drawn, greedy(model, drawn), strict=True)
            if margin >= MIN_MARGIN_TINY and len(set(tokens)) >= MIN_DISTINCT_TOKENS
        ]
        if not clear:
            raise SystemExit(f"{checkpoint.name}: no prompt of {length} tokens with clear winners; change its seed")
        prompts.append(clear[0])
    return prompts


def header(about: str) -> dict:
    return {"about": about, "madeBy": "tools/goldens/make-goldens.py", "transformers": transformers.__version__}


def model_header(about: str) -> dict:
    torch_version = torch.__version__.split("+")[0]
    return header(about) | {"torch": torch_version, "dtype": "float32", "newTokenCount": NEW_TOKEN_COUNT}


def make_tiny(checkpoint: TinyCheckpoint) -> dict:
    folder = GOLDEN / checkpoint.name
    write_checkpoint(checkpoint, folder)
    model, exact = load(folder), load(folder, torch.float64)
    prompts = tiny_prompts(checkpoint, model)
    goldens = [golden(model, exact, ids, index == ALL_POSITIONS_INDEX) for index, ids in enumerate(prompts)]
    return model_header(checkpoint.about) | {"seed": checkpoint.seed, "prompts": goldens}


def make_demo() -> dict:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(DEMO)
    model, exact = load(DEMO), load(DEMO, torch.float64)
    prompts = []
    for candidates, count in ((CHATS, CHAT_COUNT), (RAW, RAW_COUNT)):
        made = [one for one in (demo_golden(tokenizer, model, exact, prompt) for prompt in candidates)
                if one["minMargin"] >= MIN_MARGIN_DEMO]
        if len(made) < count:
            raise SystemExit(f"only {len(made)} of {len(candidates)} prompts have clear winners; add candidates")
        prompts += made[:count]
    return model_header("models/demo: text prompts, through its chat template and raw") | {"prompts": prompts}


def demo_golden(tokenizer, model, exact, prompt: dict) -> dict:
    """A chat is rendered by the template, which begins the text itself; a raw text gets the tokenizer's beginning."""
    if "messages" in prompt:
        text = tokenizer.apply_chat_template(prompt["messages"], tokenize=False, add_generation_prompt=True)
        ids = tokenizer.encode(text, add_special_tokens=False)
    else:
        ids = tokenizer.encode(prompt["text"], add_special_tokens=True)
    made = golden(model, exact, ids, all_positions=False)
    end = tokenizer.eos_token_id
    said = made["greedy"][: made["greedy"].index(end)] if end in made["greedy"] else made["greedy"]
    answer = tokenizer.decode(said, clean_up_tokenization_spaces=False)
    return prompt | {"answer": answer, "ended": end in made["greedy"]} | made


def show(name: str, made: dict) -> None:
    for prompt in made["prompts"]:
        print(
            f"{name}: {len(prompt['tokenIds']):3d} tokens, {len(set(prompt['greedy'])):2d} distinct, "
            f"least margin {prompt['minMargin']:.4f}, float64 deviation {prompt['float64Deviation']:.1e}"
        )


def write(file: Path, made: dict) -> None:
    """One line for each field of each item: a diff shows which one moved, and the file stays small."""
    file.parent.mkdir(parents=True, exist_ok=True)

    def one_line(value: object) -> str:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

    def many_lines(items: list[dict]) -> str:
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=["tiny", "demo"])
    parser.add_argument("--check", action="store_true", help="compare with the committed goldens, write none")
    options = parser.parse_args()
    torch.set_num_threads(2)

    if options.which == "tiny":
        jobs = [(GOLDEN / c.name / "goldens.json", lambda c=c: make_tiny(c)) for c in CHECKPOINTS]
    else:
        jobs = [(GOLDEN / "demo" / "goldens.json", make_demo)]
    for file, make in jobs:
        made = make()
        show(file.parent.name, made)
        if options.check:
            if not agree(made, json.loads(file.read_text(encoding="utf-8"))):
                raise SystemExit(f"{file}: what transformers says now differs from what is committed")
        else:
            write(file, made)
    if options.which == "demo" and not options.check:
        write(GOLDEN / "demo" / "tokenizer.json", header("ids for strings") | tokenizer_goldens(DEMO))
        write(GOLDEN / "demo" / "chat-template.json", header("rendered chats") | chat_template_goldens(DEMO))


if __name__ == "__main__":
    main()
