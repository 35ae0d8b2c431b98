"""Trains the demo model and its tokenizer on the corpus that corpus.py writes.

    python tools/demo-model/train.py --out models/demo            # about 34 minutes on one core
    python tools/demo-model/train.py --out /tmp/try --steps 300   # a quick look

Seeded: the same versions of torch and tokenizers on the same kind of machine make the same weights; elsewhere rounding
differs, and so may single answers. Loss is taken on the answers only.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from itertools import islice
from pathlib import Path

import torch
from corpus import Example, held_out, is_right, training_examples
from evaluate import answer_all, int4_rounded
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM

SEED = 1729
VOCABULARY_SIZE = 3072
TOKENIZER_EXAMPLE_COUNT = 40_000
SPECIAL = ("<|pad|>", "<|begin|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
PAD, BEGIN, END = 0, 1, 2
IGNORED_LABEL = -100

"""A whole buffer is sorted by length before it is cut into batches, so that little is padding."""
BUFFER_BATCH_COUNT = 24

"""From this share of the steps on, every second one is taken with weights rounded to 4 bits."""
INT4_FROM = 0.5

CHAT_TEMPLATE = """\
{{- bos_token -}}
{%- for message in messages -%}
  {%- if message['role'] not in ['system', 'user', 'assistant'] -%}
    {{- raise_exception('this model knows the roles system, user and assistant, not ' + message['role']) -}}
  {%- endif -%}
  {{- '<|' + message['role'] + '|>' + (message['content'] | trim) + '<|end|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- '<|assistant|>' -}}
{%- endif -%}
"""

"""config.json in the older spelling of its rotary and dtype keys, which every reader of such files understands."""
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 192,
    "intermediate_size": 512,
    "num_hidden_layers": 8,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": VOCABULARY_SIZE,
    "max_position_embeddings": 1024,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "rope_scaling": None,
    "attention_bias": False,
    "mlp_bias": False,
    "attention_dropout": 0.0,
    "initializer_range": 0.02,
    "tie_word_embeddings": True,
    "use_cache": True,
    "bos_token_id": BEGIN,
    "eos_token_id": END,
    "pad_token_id": PAD,
    "torch_dtype": "float16",
}


def train_tokenizer() -> Tokenizer:
    """Byte-level BPE; a number of up to two digits is one token wherever it stands, so that small sums are easy."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r"\p{N}{1,2}"), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    examples = islice(training_examples(SEED), TOKENIZER_EXAMPLE_COUNT)
    tokenizer.train_from_iterator((text for one in examples for text in (one.question, one.answer)), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin|> $A", pair="<|begin|> $A <|begin|> $B", special_tokens=[("<|begin|>", BEGIN)]
    )
    return tokenizer


def prompt_ids(tokenizer: Tokenizer, messages: list[dict]) -> list[int]:
    """What the chat template renders, as ids. (evaluate.py goes through the template itself.)"""
    text = "<|begin|>" + "".join(f"<|{m['role']}|>{m['content'].strip()}<|end|>" for m in messages) + "<|assistant|>"
    return tokenizer.encode(text, add_special_tokens=False).ids


def batches(tokenizer: Tokenizer, example_count: int):
    """(input ids, labels), both [example_count, longest] int64, padded on the right: causal attention never sees it."""
    examples = training_examples(SEED + 1)
    order = torch.Generator().manual_seed(SEED + 2)
    while True:
        buffer = [encode(tokenizer, one) for one in islice(examples, BUFFER_BATCH_COUNT * example_count)]
        buffer.sort(key=lambda pair: len(pair[0]))
        for index in torch.randperm(BUFFER_BATCH_COUNT, generator=order).tolist():
            rows = buffer[index * example_count:(index + 1) * example_count]
            longest = max(len(ids) for ids, _ in rows)
            yield (
                torch.tensor([ids + [PAD] * (longest - len(ids)) for ids, _ in rows]),
                torch.tensor([labels + [IGNORED_LABEL] * (longest - len(labels)) for _, labels in rows]),
            )


def encode(tokenizer: Tokenizer, example: Example) -> tuple[list[int], list[int]]:
    prompt = prompt_ids(tokenizer, example.messages())
    answer = [*tokenizer.encode(example.answer, add_special_tokens=False).ids, END]
    return prompt + answer, [IGNORED_LABEL] * len(prompt) + answer


def quick_score(model: LlamaForCausalLM, tokenizer: Tokenizer, count: int = 60) -> float:
    """Share of a few held-out questions answered rightly: to watch the training, never to steer it."""
    items = held_out()
    items = items[:: len(items) // count][:count]
    prompts = [prompt_ids(tokenizer, [{"role": "user", "content": item.question}]) for item in items]
    answers = answer_all(model, prompts, END, PAD, max_new_tokens=60)
    return sum(is_right(tokenizer.decode(ids), item.needs) for ids, item in zip(answers, items, strict=True)) / count


class Int4Forward:
    """Runs a step with the layers' matrices rounded to 4 bits, and lets the gradient move the exact ones. Without it,
    weights this few lose answers when the engine quantizes them."""

    def __init__(self, model: LlamaForCausalLM, active: bool):
        named = model.model.layers.named_parameters() if active else ()
        self.exact = [(weight, weight.data) for _, weight in named if weight.dim() == 2]

    def __enter__(self) -> None:
        for weight, exact in self.exact:
            weight.data = int4_rounded(exact)

    def __exit__(self, *_: object) -> None:
        for weight, exact in self.exact:
            weight.data = exact


def train(options: argparse.Namespace) -> None:
    torch.manual_seed(SEED)
    torch.set_num_threads(options.threads)
    tokenizer = train_tokenizer()
    model = LlamaForCausalLM(LlamaConfig(**{key: CONFIG[key] for key in CONFIG if key != "torch_dtype"}))
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {tokenizer.get_vocab_size()} tokens", flush=True)
    decayed = [p for p in model.parameters() if p.dim() > 1]
    other = [p for p in model.parameters() if p.dim() <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": other, "weight_decay": 0.0}],
        lr=options.rate, betas=(0.9, 0.97), eps=1e-8,
    )
    started, seen, lately = time.monotonic(), 0, 0.0
    for step, (ids, labels) in enumerate(islice(batches(tokenizer, options.batch), options.steps)):
        warm = min(1.0, (step + 1) / options.warmup)
        cosine = 0.5 * (1 + math.cos(math.pi * step / options.steps))
        for group in optimizer.param_groups:
            group["lr"] = options.rate * warm * (0.02 + 0.98 * cosine)
        # Only answers need logits: the head over the prompts would cost a third of the time.
        wanted = labels[:, 1:]
        chosen = wanted != IGNORED_LABEL
        optimizer.zero_grad(set_to_none=True)
        with Int4Forward(model, active=step > INT4_FROM * options.steps and step % 2 == 0):
            hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
            loss = torch.nn.functional.cross_entropy(model.lm_head(hidden[chosen]), wanted[chosen])
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        seen += ids.numel()
        lately = loss.item() if step == 0 else 0.95 * lately + 0.05 * loss.item()
        if (step + 1) % 50 == 0:
            elapsed = time.monotonic() - started
            print(f"step {step + 1} loss {lately:.4f} {seen / elapsed:.0f} tokens/s {elapsed:.0f} s", flush=True)
        if (step + 1) % options.save_every == 0 or step + 1 == options.steps:
            model.eval()
            print(f"step {step + 1} held-out sample {quick_score(model, tokenizer):.2f}", flush=True)
            model.train()
            save(model, tokenizer, options.out)


def save(model: LlamaForCausalLM, tokenizer: Tokenizer, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.to(torch.float16).contiguous() for name, tensor in model.state_dict().items()
               if name != "lm_head.weight"}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(folder / "config.json", CONFIG)
    write_json(folder / "generation_config.json",
               {"bos_token_id": BEGIN, "eos_token_id": END, "pad_token_id": PAD, "do_sample": False})
    write_json(folder / "tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": SPECIAL[BEGIN],
        "eos_token": SPECIAL[END],
        "pad_token": SPECIAL[PAD],
        "model_max_length": CONFIG["max_position_embeddings"],
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    })


def write_json(file: Path, value: object) -> None:
    file.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to write the checkpoint into")
    parser.add_argument("--steps", type=int, default=3400)
    parser.add_argument("--batch", type=int, default=32, help="examples in a step")
    parser.add_argument("--rate", type=float, default=2e-3, help="highest learning rate")
    parser.add_argument("--warmup", type=int, default=100, help="steps until the highest rate")
    parser.add_argument("--save-every", type=int, default=850, help="steps between checkpoints")
    parser.add_argument("--threads", type=int, default=1)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
