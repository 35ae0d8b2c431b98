"""Makes the reference values in test/golden with Hugging Face transformers, in float32 on the CPU.

    python tools/goldens/make-goldens.py tiny            # the tiny random checkpoints and their goldens
    python tools/goldens/make-goldens.py families        # config.json, weights.json and goldens of every family
    python tools/goldens/make-goldens.py families gemma2-all phi4-long
    python tools/goldens/make-goldens.py formats         # the same of quantised checkpoints and GGUF files
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
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
from demo_goldens import CHAT_COUNT, CHATS, RAW, RAW_COUNT, chat_template_goldens, tokenizer_goldens  # noqa: E402
from family_checkpoints import CHECKPOINTS as FAMILY_CHECKPOINTS  # noqa: E402
from family_goldens import make_family  # noqa: E402
from quantised_goldens import CHECKPOINTS as QUANTISED_CHECKPOINTS  # noqa: E402
from quantised_goldens import make_quantised  # noqa: E402
from reference import agree, golden, greedy, header, load, model_header, show, write  # noqa: E402
from tiny_checkpoints import CHECKPOINTS, TinyCheckpoint, write_checkpoint  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "test" / "golden"
DEMO = ROOT / "models" / "demo"

PROMPT_LENGTHS = (1, 2, 3, 7, 16, 24, 33, 60)
"""The prompt whose logits are kept at every position, not only the last."""
ALL_POSITIONS_INDEX = 3
MIN_MARGIN_TINY, MIN_MARGIN_DEMO = 0.008, 0.005
MIN_DISTINCT_TOKENS = 20
DRAW_COUNT = 64


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


def jobs_of(checkpoints: tuple, parent: str, make: Callable, names: list[str], keep: bool) -> list:
    unknown = set(names) - {checkpoint.name for checkpoint in checkpoints}
    if unknown:
        raise SystemExit(f"no checkpoint of the name {', '.join(sorted(unknown))}")
    jobs = []
    for checkpoint in checkpoints:
        if names and checkpoint.name not in names:
            continue
        folder = GOLDEN / parent / checkpoint.name
        made = (lambda c=checkpoint: made_beside(make, c)) if keep else (lambda c=checkpoint, f=folder: make(c, f))
        jobs.append((folder / "goldens.json", made))
    return jobs


def made_beside(make: Callable, checkpoint: object) -> dict:
    """What `make` makes, and none of the files that it writes."""
    with tempfile.TemporaryDirectory() as scratch:
        return make(checkpoint, Path(scratch))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=["tiny", "families", "formats", "demo"])
    parser.add_argument("names", nargs="*", help="only these checkpoints (families, formats)")
    parser.add_argument("--check", action="store_true", help="compare with the committed goldens, write none")
    options = parser.parse_args()
    torch.set_num_threads(1)  # such small matrices only wait for each other

    if options.which == "tiny":
        jobs = [(GOLDEN / c.name / "goldens.json", lambda c=c: make_tiny(c)) for c in CHECKPOINTS]
    elif options.which == "families":
        jobs = jobs_of(FAMILY_CHECKPOINTS, "families", make_family, options.names, options.check)
    elif options.which == "formats":
        jobs = jobs_of(QUANTISED_CHECKPOINTS, "formats", make_quantised, options.names, options.check)
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
