"""What is asked of models/demo for its goldens: prompts, strings for its tokenizer, chats for its template."""

from __future__ import annotations

from pathlib import Path

from transformers import AutoTokenizer


def _ask(question: str, *before: dict) -> dict:
    return {"messages": [*before, {"role": "user", "content": question}]}


_SYSTEM = {"role": "system", "content": "You are a helpful assistant."}

"""How many chats and how many raw texts are taken, in order, of those whose 64 tokens all have a clear winner. (What
follows the end of an answer is untrained ground, where near ties are common.)"""
CHAT_COUNT, RAW_COUNT = 5, 3

CHATS = (
    _ask("What is a shard?"),
    _ask("Tell me a short story about a fox."),
    _ask("Explain tensor parallelism.", _SYSTEM),
    _ask("What is 7 plus 5?"),
    _ask("And what is a pod?", _SYSTEM, {"role": "user", "content": "Hello"},
         {"role": "assistant", "content": "Hello! Ask me anything."}),
    _ask("What is a giraffe?"),
    _ask("How is a provider paid?"),
    _ask("Why do both sides sign a hand-off?"),
    _ask("who are you"),
    _ask("What is the KV cache?"),
    _ask("Tell me a short story about a robot."),
    _ask("What is a Helm chart?", _SYSTEM),
    _ask("What happens when a rank dies?"),
)
RAW = (
    {"text": "Once there was a"},
    {"text": "A shard is the part of a model that"},
    {"text": "The quick brown fox jumps over 13 lazy dogs."},
    {"text": "Kubernetes is"},
    {"text": "<|user|>What is a receipt?<|end|><|assistant|>"},
    {"text": "def step(session):\n    return session.next()"},
    {"text": "3 plus 4 is"},
    {"text": "Tessellate serves one"},
)

STRINGS = (
    "",
    " ",
    "Hello, world!",
    "What is a shard?",
    "  leading and trailing  ",
    "tabs\tand\nnew\r\nlines\n\n\n",
    "It's we'll they've I'm you'd isn't 'quoted'",
    "12345 + 678 = 13023; 3.14159, 1e-9, 0x1F",
    "ALL CAPS and MiXeD cAsE",
    "snake_case kebab-case camelCase path/to/file.ts",
    "Größe naïve façade Ångström",
    "e\u0301 is not \u00e9",
    "日本語のテキスト",
    "Здравствуй, мир",
    "مرحبا",
    "👋🏽 👨‍👩‍👧‍👦 🇨🇭",
    "x² ½ Ⅷ ٣ ३",
    "<|user|>Ask<|end|><|assistant|>",
    "<|end|><|end|> <|begin|>not <|endoftext|> <|unknown|>",
    "zero\u200bwidth nb\u00a0space ideographic\u3000space",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "if (a && b || !c) { return a[0] ?? `${b}`; } // done",
)

CONVERSATIONS = (
    [{"role": "user", "content": "What is a shard?"}],
    [{"role": "system", "content": "You are a helpful assistant."}, {"role": "user", "content": "Hi"}],
    [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"},
     {"role": "user", "content": "  What is a pod?\n"}],
    [{"role": "user", "content": "Say <|end|> {{ bos_token }} {% raw %}"}],
    [{"role": "user", "content": ""}, {"role": "assistant", "content": "äöü 日本 👋"}],
)
REFUSED_CONVERSATIONS = ([{"role": "tool", "content": "42"}], [{"role": "developer", "content": "Be kind."}])


def tokenizer_goldens(folder: Path) -> dict:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    made = []
    for text in STRINGS:
        ids = tokenizer.encode(text, add_special_tokens=False)
        made.append({
            "text": text,
            "tokenIds": ids,
            "tokenIdsWithSpecial": tokenizer.encode(text, add_special_tokens=True),
            "decoded": tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False),
            "decodedSkippingSpecial": tokenizer.decode(ids, skip_special_tokens=True,
                                                       clean_up_tokenization_spaces=False),
        })
    return {"vocabularySize": len(tokenizer), "strings": made}


def chat_template_goldens(folder: Path) -> dict:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    made = []
    for messages in CONVERSATIONS:
        rendered = {
            generate: tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=generate)
            for generate in (False, True)
        }
        made.append({
            "messages": messages,
            "rendered": rendered[False],
            "renderedForAnswer": rendered[True],
            "tokenIdsForAnswer": tokenizer.encode(rendered[True], add_special_tokens=False),
        })
    refused = []
    for messages in REFUSED_CONVERSATIONS:
        try:
            tokenizer.apply_chat_template(messages, tokenize=False)
        except Exception as error:  # jinja2's own error type is no part of transformers' interface
            refused.append({"messages": messages, "message": str(error)})
        else:
            raise SystemExit(f"the chat template took {messages}, which it should refuse")
    return {"conversations": made, "refused": refused}
