"""Chats rendered by transformers, to hold the gateway's rendering against.

    python tools/goldens/chat_goldens.py                     # test/golden/chat-templates/goldens.json
    python tools/goldens/chat_goldens.py --check             # remake in memory, compare with what is committed
    python tools/goldens/chat_goldens.py compare FOLDER...   # published models' templates, ours against transformers'

The templates of test/golden/chat-templates are ours, one for each family, in the layout that its models use and with the
Jinja that its published templates are made of. `compare` takes folders with a chat_template.jinja or a
tokenizer_config.json, or template files, renders every conversation with both, and says where they differ.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
import transformers  # noqa: E402
from transformers.utils import chat_template_utils  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "test" / "golden" / "chat-templates"
RENDER = ROOT / "test" / "golden" / "render-chats.ts"
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
NOW = "2026-01-09T14:05:07"


class StoppedClock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromisoformat(NOW)


chat_template_utils.datetime = StoppedClock


def system(content: str) -> dict:
    return {"role": "system", "content": content}


def user(content: str) -> dict:
    return {"role": "user", "content": content}


def assistant(content: str) -> dict:
    return {"role": "assistant", "content": content}


def call(arguments: dict | str) -> dict:
    function = {"name": "weather", "arguments": arguments}
    return assistant("") | {"tool_calls": [{"id": "call00001", "type": "function", "function": function}]}


def result(content: str, call_id: str = "call00001") -> dict:
    return {"role": "tool", "name": "weather", "tool_call_id": call_id, "content": content}


WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": 'Tells the "weather" — <now> & then',
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "The city's name"},
                "days": {"type": "integer", "enum": [1, 2, 3]},
                "unit": {"type": ["string", "null"], "default": None},
                "hours": {"type": "array", "items": {"type": "string", "enum": ["day", "night"]}},
            },
            "required": ["city"],
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "clock", "description": "", "parameters": {"type": "object", "properties": {}}}}
BRIEF = system("Be brief.  ")

"""name: (messages, settings). Settings are what a request passes as chat_template_kwargs, and tools."""
CONVERSATIONS: dict[str, tuple[list[dict], dict]] = {
    "a question": ([user("What is a shard?")], {}),
    "system": ([BRIEF, user(" Hi \n")], {}),
    "many turns": ([BRIEF, user("Hi"), assistant("Hello!  "), user("What is\n\n  a pod?\n")], {}),
    "no plain letters": ([user("Hi"), assistant("Hello!"), user("Zwei – “drei” 🙂 <b> & ' \"")], {}),
    "thoughts": ([user("q"), assistant("<think>\n  hm \n</think>\n\n  \tindented\n\n "), user("r")], {}),
    "thoughts at the end": ([user("q"), assistant("<think>\n  hm \n</think>\n\n  fine ")], {}),
    "what looks like a template": ([user("Say <|im_end|> {{ bos_token }} {% raw %}")], {}),
    "two questions": ([user("a"), user("b")], {}),
    "an answer first": ([assistant("first"), user("b")], {}),
    "two systems": ([BRIEF, BRIEF, user("x")], {}),
    "nothing said": ([user("")], {}),
    "system alone": ([BRIEF], {}),
    "odd white space": ([system("\ufeff /no_think  "), user("\x1c\u3000 q\x85")], {}),
    "override": ([system("You are /system_override it\nsecond"), user("q")], {}),
    "tools": ([user("Weather in Bern?")], {"tools": [WEATHER, CLOCK]}),
    "tools and system": ([BRIEF, user("Weather in Bern?")], {"tools": [WEATHER]}),
    "a call": (
        [BRIEF, user("Weather in Bern?"), call({"city": "Bern", "days": 2}), result('{"sun": true}'), assistant("Sunny."),
         user("Thanks")],
        {"tools": [WEATHER]},
    ),
    "a call just made": ([user("Weather?"), call({"city": "Bern"}), result("rain")], {"tools": [WEATHER, CLOCK]}),
    "arguments as text": ([user("Weather?"), call('{"city": "Bern"}'), result("rain")], {"tools": [WEATHER]}),
    "odd arguments and two results": (
        [user("q"), call({"city": "Bern", "days": 2.5, "list": [True, None, "it's"]}), result("a"), result("b", "call00002")],
        {"tools": [WEATHER]},
    ),
    "a result of nothing": ([user("q"), result("a")], {"tools": [WEATHER]}),
    "no thinking": ([BRIEF, user("q")], {"enable_thinking": False}),
    "thinking hard": ([BRIEF, user("q")], {"enable_thinking": True, "reasoning_effort": "high", "date_string": "1 May"}),
    "other tools": ([user("q")], {"xml_tools": ["<a>"], "python_tools": ["f()"], "builtin_tools": ["python"]}),
    "documents": ([user("q")], {"documents": [{"title": "T", "text": "Long text"}], "controls": {"length": "long"}}),
}


def rendered(template: str, tokens: dict, messages: list[dict], settings: dict) -> dict:
    """What transformers makes of it: {"text": …} or {"refused": why}."""
    try:
        texts, _ = chat_template_utils.render_jinja_template(
            [messages], chat_template=template, add_generation_prompt=True, **(tokens | settings)
        )
    except Exception as error:  # jinja2's own types, and whatever Python says of the template's mistakes
        return {"refused": str(error)}
    return {"text": texts[0]}


def goldens() -> dict:
    templates = {path.stem: path.read_text("utf-8") for path in sorted(GOLDEN.glob("*.jinja"))}
    return {
        "about": "our own templates in each family's layout, as transformers renders them",
        "madeBy": "tools/goldens/chat_goldens.py",
        "transformers": transformers.__version__,
        "now": NOW,
        "tokens": TOKENS,
        "conversations": {
            name: {"messages": messages, "settings": settings} for name, (messages, settings) in CONVERSATIONS.items()
        },
        "rendered": {
            family: {name: rendered(template, TOKENS, *conversation) for name, conversation in CONVERSATIONS.items()}
            for family, template in templates.items()
        },
    }


def published(path: Path) -> tuple[str, str, dict]:
    """Name, template and tokenizer_config.json of a folder or a template file."""
    if path.is_file():
        return path.stem, path.read_text("utf-8"), dict(TOKENS)
    config_file, file = path / "tokenizer_config.json", path / "chat_template.jinja"
    config = json.loads(config_file.read_text("utf-8")) if config_file.exists() else {}
    template = file.read_text("utf-8") if file.exists() else config.get("chat_template")
    if isinstance(template, list):
        template = {entry["name"]: entry["template"] for entry in template}.get("default")
    if template is None:
        raise SystemExit(f"{path}: no chat_template.jinja and no chat_template in tokenizer_config.json")
    return path.name, template, {key: value for key, value in config.items() if key != "chat_template"}


def tokens_of(config: dict) -> dict:
    contents = {key: value["content"] if isinstance(value, dict) else value for key, value in config.items()}
    return {key: value for key, value in contents.items() if key.endswith("_token") and isinstance(value, str)}


def compare(paths: list[Path]) -> int:
    models = [published(path) for path in paths]
    conversations = [{"messages": messages, "settings": settings} for messages, settings in CONVERSATIONS.values()]
    asked = {"now": NOW, "conversations": conversations, "templates": [
        {"template": template, "config": config} for _, template, config in models
    ]}
    node = ROOT / "node_modules" / ".bin" / "node"
    answer = subprocess.run([str(node), str(RENDER)], input=json.dumps(asked), capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise SystemExit(f"{RENDER.name} failed; run npm install first?\n{answer.stderr}")
    different = 0
    for (name, template, config), ours in zip(models, json.loads(answer.stdout), strict=True):
        counts = {"equal": 0, "refused by both": 0}
        for (title, conversation), own in zip(CONVERSATIONS.items(), ours, strict=True):
            theirs = rendered(template, tokens_of(config), *conversation)
            if "text" in own and own == theirs:
                counts["equal"] += 1
            elif "refused" in own and "refused" in theirs:
                counts["refused by both"] += 1
            else:
                different += 1
                print(f"{name}: {title}\n  ours:   {own}\n  theirs: {theirs}")
        print(f"{name}: " + ", ".join(f"{count} {what}" for what, count in counts.items()) + f" of {len(CONVERSATIONS)}")
    return different


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["make", "compare"], default="make")
    parser.add_argument("paths", nargs="*", type=Path)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    if options.what == "compare":
        sys.exit(1 if compare(options.paths) > 0 else 0)
    path, made = GOLDEN / "goldens.json", goldens()
    if options.check:
        if json.loads(path.read_text("utf-8")) != made:
            raise SystemExit(f"{path} is not what transformers makes today; run without --check and look at the diff")
        print("as committed")
    else:
        path.write_text(json.dumps(made, ensure_ascii=False, indent=1) + "\n", "utf-8")
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
