"""The demo model's training text and its evaluation questions, written from facts, phrasings and grammars.

    python tools/demo-model/corpus.py            # counts and a sample of each kind

Nothing is read from anywhere else. Every draw comes from one seed, so the same seed writes the same corpus.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random

import facts_kubernetes
import facts_models
import facts_questions
import facts_tessellate
import outside
import phrasings
from blind import BLIND
from fact import Fact

FACTS: tuple[Fact, ...] = (
    *facts_tessellate.WORDS,
    *facts_questions.QUESTIONS,
    *facts_kubernetes.WORDS,
    *facts_models.WORDS,
    *facts_models.ABOUT_ITSELF,
)

"""Of a hundred training examples, how many are of each kind."""
MIX = {"fact": 68, "sum": 15, "unknown": 10, "story": 7}
"""A fact without a noun is asked in ways that have less in common, and takes longer to learn."""
FACT_WEIGHTS = [1.0 if known.names else 1.7 for known in FACTS]
SYSTEM_SHARE = 0.12
EARLIER_TURN_SHARE = 0.06
PHRASINGS_PER_NAME_HELD = 6
SAMPLE_COUNT = 25


@dataclass(frozen=True)
class Example:
    kind: str
    question: str
    answer: str
    """Messages before the question: a system prompt, an earlier question and its answer, or nothing."""
    before: tuple[dict, ...] = ()

    def messages(self) -> list[dict]:
        return [*self.before, {"role": "user", "content": self.question}]


@dataclass(frozen=True)
class HeldOut:
    kind: str
    key: str
    question: str
    needs: tuple[str, ...]


def training_examples(seed: int):
    """Examples without end. None of them contains a held-out question or a held-out sum."""
    random = Random(seed)
    forbidden = {normal(item.question) for item in held_out()}
    kept_sums = set(outside.held_out_sums())
    sums = [one for one in outside.all_sums() if one not in kept_sums]
    kinds, weights = list(MIX), list(MIX.values())
    earlier = Example("fact", "Hello", next(known.answer for known in FACTS if known.key == "hello"))
    while True:
        question, answer, kind = _draw(random, random.choices(kinds, weights)[0], sums)
        typed = _as_people_type(random, question)
        if normal(question) in forbidden or normal(typed) in forbidden:
            continue
        before = []
        if random.random() < SYSTEM_SHARE:
            before.append({"role": "system", "content": random.choice(phrasings.SYSTEM_PROMPTS)})
        if random.random() < EARLIER_TURN_SHARE and kind != "story":
            before += [*earlier.messages()[-1:], {"role": "assistant", "content": earlier.answer}]
        earlier = Example(kind, typed, answer, tuple(before))
        yield earlier


def _draw(random: Random, kind: str, sums) -> tuple[str, str, str]:
    if kind == "sum":
        a, operation, b, result = random.choice(sums)
        return outside.sum_question(random, a, operation, b), outside.sum_answer(a, operation, b, result), kind
    if kind == "story":
        hero = random.choice(outside.HEROES)
        return outside.story_request(random, hero), outside.story(random, hero), kind
    if kind == "unknown":
        return outside.unknown_question(random, phrasings.ask), outside.UNKNOWN_ANSWER, kind
    known = random.choices(FACTS, FACT_WEIGHTS)[0]
    if known.names and random.random() < 0.7:
        # The first name is the usual one.
        names = known.names[0] if random.random() < 0.7 else random.choice(known.names)
        x, w, xs = names
        return phrasings.ask(random, x=x, w=w, xs=xs), known.answer, kind
    if known.clauses and random.random() < 0.3:
        return random.choice(phrasings.CLAUSE_FRAMES).format(c=random.choice(known.clauses)), known.answer, kind
    return random.choice(known.asks), known.answer, kind


def _as_people_type(random: Random, question: str) -> str:
    if not any(letter.isdigit() for letter in question):
        question = _loosely_said(random, question)
    roll = random.random()
    if roll < 0.12:
        keeps_capital = question[:2] in ("I ", "I'") or question[1:2].isupper()
        opening = question if keeps_capital else question[0].lower() + question[1:]
        question = random.choice(phrasings.PREFIXES) + opening
    elif roll < 0.2:
        question += random.choice(phrasings.SUFFIXES)
    roll = random.random()
    if roll < 0.25:
        question = question.lower()
    elif roll < 0.27:
        question = question.upper()
    if random.random() < 0.12:
        question = question.rstrip(".?!")
    if random.random() < 0.08:
        question = _mistyped(random, question)
    return question


def _loosely_said(random: Random, question: str) -> str:
    """A small word more or fewer: what remains has to be enough."""
    words = question.split(" ")
    if len(words) > 3 and random.random() < 0.12:
        small = [index for index, word in enumerate(words) if word.lower() in phrasings.SMALL_WORDS]
        if small:
            words.pop(random.choice(small))
    if len(words) > 2 and random.random() < 0.08:
        words.insert(random.randrange(1, len(words)), random.choice(phrasings.FILLERS))
    if len(words) > 3 and random.random() < 0.1:
        words.insert(random.randrange(1, len(words)), random.choice(phrasings.EVERYDAY))
    return " ".join(words)


def _mistyped(random: Random, text: str) -> str:
    """One slip of the finger in a letter: left out, doubled, or swapped with the next."""
    places = [index for index in range(1, len(text) - 1) if text[index].isalpha() and text[index + 1].isalpha()]
    if not places:
        return text
    at = random.choice(places)
    slip = random.choice(("left-out", "doubled", "swapped"))
    if slip == "left-out":
        return text[:at] + text[at + 1:]
    if slip == "doubled":
        return text[:at] + text[at] + text[at:]
    return text[:at] + text[at + 1] + text[at] + text[at + 2:]


def held_out() -> list[HeldOut]:
    """Every fact's own held-out questions, and held-out phrasings of each of its nouns, in turn."""
    items: list[HeldOut] = []
    for number, known in enumerate(FACTS):
        questions = list(known.held)
        for x, w, xs in known.names[:1]:
            for turn in range(PHRASINGS_PER_NAME_HELD):
                # 5 and 12 share no factor: neighbouring facts get different phrasings, each is used equally often.
                template = phrasings.HELD_OUT[(5 * number + turn) % len(phrasings.HELD_OUT)]
                questions.append(template.format(x=x, w=w, xs=xs))
        items += [HeldOut("fact", known.key, question, known.needs) for question in questions]
    return items


def held_out_others() -> list[HeldOut]:
    """What is reported apart. Blind: see blind.py. Sums: all in held-out phrasings, seen and unseen pairs."""
    needs = {known.key: known.needs for known in FACTS}
    items = [HeldOut("fact-blind", key, question, needs[key]) for key, question in BLIND]
    random = Random(4)
    kept = outside.held_out_sums()
    seen = Random(5).sample([one for one in outside.all_sums() if one not in set(kept)], 200)
    for kind, sums in (("sum-seen-pair", seen), ("sum-unseen-pair", kept)):
        items += [HeldOut(kind, f"{a} {op} {b}", outside.sum_question(random, a, op, b, held=True), (f"is {result}.",))
                  for a, op, b, result in sums]
    items += [HeldOut("unknown", "unknown", question, outside.UNKNOWN_NEEDS) for question in outside.unknown_held_out()]
    items += [HeldOut("story", hero, question, ("once there was", f" {hero} ", "in the end"))
              for question, hero in outside.story_held_out()]
    return items


def normal(question: str) -> str:
    return re.sub(r"[^a-z0-9 +-]", "", question.lower()).strip()


def is_right(answer: str, needs: tuple[str, ...]) -> bool:
    said = answer.lower()
    return all(any(word in said for word in need.split("|")) for need in needs)


def main() -> None:
    wrong = [known.key for known in FACTS if not is_right(known.answer, known.needs)]
    assert not wrong, f"these answers lack their own needed words: {wrong}"
    keys = [known.key for known in FACTS]
    assert len(set(keys)) == len(keys), "two facts with one key"
    print(f"{len(FACTS)} facts, {len(held_out())} held-out questions, {len(held_out_others())} others held out")
    examples = training_examples(seed=1)
    for _ in range(SAMPLE_COUNT):
        example = next(examples)
        print(f"[{example.kind}] {example.messages()} -> {example.answer}")


if __name__ == "__main__":
    main()
