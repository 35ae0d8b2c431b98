"""Ways to ask. `{x}` is the noun with its article, `{w}` the bare word, `{xs}` the plural or whatever stands for it.

HELD_OUT is for the evaluation alone: corpus.py refuses to run if a training example contains one of its questions.
"""

from __future__ import annotations

from random import Random

TRAINING = (
    "What is {x}?", "What is {x}?", "What is {x}?", "What's {x}?", "What are {xs}?", "Explain {x}.", "Explain {xs}.",
    "Explain {x} to me.", "Explain to me what {x} is.", "Explain what {x} is.", "Tell me about {xs}.",
    "Tell me about {x}.", "Tell me what {x} is.", "Tell me something about {xs}.", "Define {w}.", "Define {x}.",
    "What does {w} mean?", "What does the word {w} mean?", "What do you mean by {w}?", "What do you know about {xs}?",
    "Describe {x}.", "Describe {xs} in a few words.", "Can you explain {x}?", "Can you explain {xs} to me?",
    "Can you tell me what {x} is?", "Can you tell me about {xs}?", "Could you explain {w}?",
    "Could you tell me what {x} is?", "Could you describe {x} for me?", "I want to know what {x} is.",
    "I want to understand {xs}.", "I would like to know what {x} is.", "I wonder what {x} is.", "What exactly is {x}?",
    "What is {x} exactly?", "{w}?", "{w}", "{x}?", "What is meant by {w}?", "What is meant by {x}?",
    "Give me a definition of {w}.", "Give me a short definition of {x}.", "Help me understand {xs}.",
    "Help me understand what {x} is.", "How would you define {x}?", "How would you describe {x}?",
    "Do you know what {x} is?", "Do you know {xs}?", "Do you know anything about {xs}?", "I don't understand {xs}.",
    "I don't know what {x} is.", "I have never heard of {xs}.", "Say something about {xs}.",
    "What is the meaning of {w}?", "What is the definition of {w}?", "In one sentence, what is {x}?",
    "In short, what is {x}?", "In simple words, what is {x}?", "What is {x} in simple words?", "Remind me what {x} is.",
    "So what is {x}?", "And what is {x}?", "Then what is {x}?", "I keep hearing about {xs}. What is that?",
    "I saw the word {w}. What is it?", "Let us talk about {xs}.", "Question: what is {x}?", "{x}, what is it?",
    "{w}: what is it?", "What can you say about {xs}?", "What can you tell me about {xs}?", "Who or what is {x}?",
    "Please explain {xs}.", "Please define {w}.", "Please tell me what {x} is.", "Please describe {x}.",
    "I am learning about {xs}. Explain them to me.", "Someone asked me what {x} is.",
    "A friend wants to know what {x} is.",
    "Is there such a thing as {x}?", "Why do people talk about {xs}?", "What kind of thing is {x}?",
    "Write one sentence about {xs}.", "Summarize {xs}.", "Give me the short version: what is {x}?",
)

"""Questions about one side of a noun; the corpus has one answer for each noun, so they all lead to it."""
ASPECTS = (
    "What does {x} do?", "What is {x} for?", "What is {x} there for?", "Why do we have {x}?", "Why does {x} matter?",
    "What is the role of {x}?", "What is the use of {x}?", "How does {x} work?", "Where is {x} used?",
    "When do I need {x}?", "What belongs to {x}?", "What is inside {x}?", "What does {x} contain?", "What is in {x}?",
    "What is special about {x}?", "Who uses {x}?", "Why should I care about {x}?", "How do I use {x}?",
    "What does {x} look like?", "What is {x} made of?", "Which parts does {x} have?", "What happens in {x}?",
    "Why is {x} needed?", "Why is {x} important?", "What can {x} do?", "What does {x} bring?", "What is {x} called?",
    "What would happen without {x}?", "Do I need {x}?", "What problem does {x} solve?", "How important is {x}?",
    "What is the idea behind {x}?", "What is the idea of {xs}?", "What tasks does {x} have?", "What is {x} about?",
)

_OPENERS = ("", "Please ", "Can you ", "Could you ", "Will you ", "Would you ", "I want you to ", "I need you to ",
            "I ask you to ", "Try to ", "You should ", "Are you able to ", "Let me ask you to ")
_VERBS = ("explain", "describe", "define", "tell me about", "talk about", "say something about", "introduce", "outline",
          "clarify", "summarize", "explain to me", "tell me more about", "write about", "sketch", "make clear",
          "help me with", "give me an idea of", "give a definition of", "give an explanation of", "inform me about")
_OBJECTS = ("{x}", "{x}", "{xs}", "{xs}", "what {x} is", "what {x} does", "the word {w}", "the term {w}",
            "the idea of {x}", "the concept of {xs}", "the notion of {x}", "the meaning of {w}")
_TAILS = ("", "", "", "", " briefly", " in short", " in one sentence", " in plain English", " for a newcomer",
          " for my notes", " once more", " quickly", " in your own words", " for me")
_LEADS = ("I am a student. ", "I am learning this. ", "I just started. ", "In a meeting someone said {w}. ",
          "My team uses {xs}. ", "There is one thing I do not get: {x}. ", "It says {w} on the screen. ",
          "The page talks about {xs}. ", "We were discussing {xs}. ", "I have a question about {xs}. ")
_SHORT_QUESTIONS = ("What is it?", "What is that?", "What is this?", "What are they?", "What does it mean?", "Explain.",
                    "Can you help?", "What does that mean?", "Tell me more.", "What is {x}?", "Explain {x}.")


def ask(random: Random, *, x: str, w: str, xs: str) -> str:
    """A question about a noun, in one of some ten thousand phrasings."""
    roll = random.random()
    if roll < 0.5:
        template = random.choice(TRAINING)
    elif roll < 0.65:
        template = random.choice(ASPECTS)
    elif roll < 0.93:
        opener, verb = random.choice(_OPENERS), random.choice(_VERBS)
        end = "?" if opener.startswith(("C", "W", "A")) else "."
        template = opener + verb + " " + random.choice(_OBJECTS) + random.choice(_TAILS) + end
        template = template[0].upper() + template[1:]
    else:
        template = random.choice(_LEADS) + random.choice(_SHORT_QUESTIONS)
    return template.format(x=x, w=w, xs=xs)


"""Frames for a fact's clauses."""
CLAUSE_FRAMES = (
    "Tell me {c}.", "Can you tell me {c}?", "Explain {c}.", "I want to know {c}.", "Do you know {c}?",
    "Please explain {c}.", "I wonder {c}.", "Could you explain {c}?", "I would like to know {c}.", "Can you say {c}?",
    "Please tell me {c}.", "I am not sure {c}.", "Describe {c}.", "I don't know {c}.", "Explain to me {c}.",
    "I forgot {c}.", "Say {c}.", "My question is {c}.",
)

"""Words that a question can lose and still be understood, and words that add nothing."""
SMALL_WORDS = frozenset("a an the is are do does can you me please what of to so and in it i my we this that".split())
FILLERS = ("just", "actually", "really", "then", "now", "maybe", "exactly", "again", "please", "today", "here", "also")

HELD_OUT = (
    "Would you mind explaining what {x} is?",
    "I am new here. What would {x} be?",
    "Could you give a short description of {x}?",
    "How do you explain {x} to a beginner?",
    "What should I know about {xs}?",
    "I read about {xs} in the docs. What does it stand for?",
    "Quick question: {x}, what is that?",
    "Please teach me about {xs}.",
    "What do people mean when they say {w}?",
    "Give me a brief explanation of {xs}, please.",
    "I'd like to learn about {xs}.",
    "My colleague mentioned {x}. What did she mean?",
)

PREFIXES = ("Hi! ", "Hello, ", "Hey, ", "Hi Tessera, ", "Please: ", "OK. ", "Sorry, ", "Good morning. ", "Hmm, ",
            "Well, ", "One question. ", "Excuse me, ", "Another one: ", "Now: ")
SUFFIXES = (" Please.", " Thanks!", " Thank you.", " Be brief.", " In simple words.", " I am new to this.", " Thanks.")

SYSTEM_PROMPTS = (
    "You are a helpful assistant.", "You are Tessera, a helpful assistant.", "Answer in one or two sentences.",
    "You are the demo model of Tessellate.", "Be brief and honest.", "You are a helpful AI assistant. Be concise.",
)
