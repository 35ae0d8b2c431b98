"""What a fact of the corpus is: one answer, the words that make it right, and the ways to ask for it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Fact:
    key: str
    answer: str
    """Words that a right answer contains, without regard to case; `a|b` is either. All are needed."""
    needs: tuple[str, ...]
    """Whole questions seen in training, beside those that the templates make."""
    asks: tuple[str, ...] = ()
    """What is asked, as a clause that templates put behind "Tell me"."""
    clauses: tuple[str, ...] = ()
    """Whole questions kept for the evaluation."""
    held: tuple[str, ...] = ()
    """What the templates of phrasings.py are filled with: ("a shard", "shard", "shards"); empty for a fact that is
    asked only by its own questions."""
    names: tuple[tuple[str, str, str], ...] = field(default=())


def thing(name: str, answer: str, needs: str, *, plural: str = "", also: str = "", asks=(), held=()) -> Fact:
    """A fact about one noun. `name` carries its article ("a shard", "the ledger", "Helm"); `also` lists other names for
    it, with articles, separated by commas. `needs` is separated by commas."""
    names = [_forms(name, plural)] + [_forms(other.strip(), "") for other in also.split(",") if other.strip()]
    return Fact(names[0][1], answer, _split(needs), tuple(asks), (), tuple(held), tuple(names))


def fact(key: str, answer: str, needs: str, asks, held, clauses=()) -> Fact:
    """A fact asked only by its own questions."""
    return Fact(key, answer, _split(needs), tuple(asks), tuple(clauses), tuple(held))


def _split(words: str) -> tuple[str, ...]:
    return tuple(word.strip().lower() for word in words.split(",") if word.strip())


def _forms(name: str, plural: str) -> tuple[str, str, str]:
    article, _, rest = name.partition(" ")
    if article in ("a", "an"):
        return name, rest, plural or rest + "s"
    if article == "the":
        return name, rest, name
    return name, name, name
