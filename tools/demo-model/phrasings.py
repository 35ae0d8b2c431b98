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


"""Everyday words, so that a noun the model knows is found among words it has hardly seen."""
EVERYDAY = tuple("""
able about above accept across act add afraid after afternoon age agree air all almost alone along already also
although always among amount ancient angry animal another anybody anything apart appear area arm around arrive article
ask attempt aunt author autumn away baby back bad bag ball basic beautiful because become bed before begin behind
believe below best better between beyond bit black blue board body book boss bottom box boy brain branch brave break
breakfast brief bright bring broad brother brown build business busy buy call calm care careful carry case cause
centre certain chance change chapter character charge child choice city classmate clean clear close clothes coach cold
college colour come common complete complex concern condition consider consist contain content context conversation
cook cool corner correct country couple course cousin cover create cross crowd culture cup curious current customer
daily danger dark daughter day dead deal dear decide deep degree depend design desk detail develop die difference
different difficult dinner direct discover discuss doctor document door doubt down draw dream dress drink drive drop
dry during each early ear earth east easy eat edge education effect effort either else empty end enemy energy enjoy
enough enter entire equal escape evening event ever every everybody evidence exact example except exciting exist
expect expert eye face fact fair fall family famous far fast father favourite fear feel few field fight figure fill
final find fine finger finish fire first fit floor flow fly focus follow food foot force foreign forget form forward
fresh friend front full fun function funny further future game gather general gentle get gift glad go goal good great
green ground group grow guess guest guide half hand handle hang happen happy hard hat hate head health hear heart heat
heavy height here hide high hill history hole holiday home hope hot hour house huge hundred hurry husband ice idea
imagine important inside instead intend interest interview introduction involve item join journey judge jump keen kid
kind kitchen knee know lady land last late laugh law lay lead leaf least leave left leg lesson let letter level life
lift light like limit line list listen little love low luck lunch main major make manage manner many map mark market
matter mean meaning meet member memory mention method middle might mind minute miss mix moment month mood moon most
mother mouth move much music must mystery narrow nation natural nature near neck need neighbour neither nervous never
newcomer news next nice nobody noise nor normal north nose note notice number object obvious odd offer office often
oil old once only opinion opposite option orange order ordinary other outside over page pain pair paper paragraph
parent part partner party pass past pause peace pen people perfect perhaps period phone phrase pick picture place
plain play pleasant point polite poor popular position possible power practice prefer prepare present press pretty
prevent price problem process produce professor programmer promise proper protect proud pull pupil pure push put
puzzle quality quarter quick quiet quite raise rather reach react read reader ready reason receive recent recently
record red refer regular relate relative remain remember repeat report request rest result return rich ride ring rise
road role room round row rule rush sad salt same save scene school science sea seat second see seem sense sentence
separate serious several shape share sharp short shoulder shout side sight silent similar simple since single sister
sit situation sky sleep slide slow smart smile smooth society soft soil solid solve somebody something sometimes son
song soon sort sound south space speaker special speech spell spend spirit spring square stage stand star state stay
still stone stop store strange street strong structure student study stuff style subject success such sudden sugar
suggest summer sun supper support suppose sure surface surprise sweet swim table take talk tall task taste teach
teammate technical teenager thick thin thing think third thought thousand throw tired title together tomorrow tone
tongue tool tooth top topic total touch toward town trade travel trip trouble true try turn twice type ugly under unit
until unusual upon upset useful usual valley various view visit visitor voice wait wake walk wall want war warm wash
watch water way weak wear week weekend welcome west wet wheel white whole why wide wife wild win wind winter wise wish
without woman wonder wood word work worker world worry worth yard year yellow yesterday yet young
""".split())

_STARTS = ("What", "What is", "What does", "Why", "How", "Which", "When", "Where", "Who", "Is", "Are", "Does", "Do", "Can",
           "Could", "Should", "I", "We", "My", "The", "This", "Tell me", "Please", "If", "You", "Some", "In", "On", "For",
           "How do", "How does", "What do", "What are", "Would", "I'd", "It's", "There is", "Let's", "Any", "From")
_JOINS = ("of", "to", "in", "for", "with", "about", "on", "from", "by", "at", "is", "are", "was", "be", "do", "does",
          "has", "my", "your", "the", "a", "and", "or", "that", "they", "she", "he", "it", "me", "us", "up", "out", "did",
          "said", "says", "mean", "when", "as", "made", "could", "would", "should", "if", "so", "not", "the", "a", "of")
_CARRIERS = (
    "My {n} asked me about {xs}.", "I told my {n} about {xs}. What should I add?", "Explain {x} to my {n}.",
    "What would you say about {xs} to the {n}?", "A {n} of mine {v} {xs}. What are they?", "My {n} {v} {x}. What is it?",
    "The {n} said {w}. What was that?", "For my {n}: what is {x}?", "I {v} {xs}. Can you help?", "{x} is {a}, but what is it?",
    "Is {x} {a}?", "Why is {x} {a}?", "Are {xs} {a}?", "How {a} is {x}?", "What makes {x} so {a}?", "I find {xs} {a}.",
    "There was {a} talk of {xs}. Explain.", "We {v} {xs} at the {n}. What are they?", "What {a} thing is {x}?",
    "Give a {a} account of {xs}.", "In the {n} it says {w}.", "Does my {n} need {x}?", "Can a {n} understand {xs}?",
)


def _among_everyday_words(random: Random) -> str:
    """A question around {x} whose other words say little."""
    def few(least: int, most: int) -> list[str]:
        return [random.choice(EVERYDAY if random.random() < 0.55 else _JOINS)
                for _ in range(random.randint(least, most))]

    noun = random.choice(("{x}", "{x}", "{xs}", "{w}"))
    words = [random.choice(_STARTS), *few(0, 4), noun, *few(0, 4)]
    return " ".join(words) + random.choice(("?", "?", ".", ""))


def _carried(random: Random) -> str:
    template = random.choice(_CARRIERS)
    for slot in ("{n}", "{v}", "{a}"):
        template = template.replace(slot, random.choice(EVERYDAY))
    return template


def ask(random: Random, *, x: str, w: str, xs: str) -> str:
    """A question about a noun: a whole phrasing, one put together from parts, or the noun among everyday words."""
    roll = random.random()
    if roll < 0.36:
        template = random.choice(TRAINING)
    elif roll < 0.48:
        template = random.choice(ASPECTS)
    elif roll < 0.62:
        template = _among_everyday_words(random)
    elif roll < 0.72:
        template = _carried(random)
    elif roll < 0.95:
        opener, verb = random.choice(_OPENERS), random.choice(_VERBS)
        end = "?" if opener.startswith(("C", "W", "A")) else "."
        template = opener + verb + " " + random.choice(_OBJECTS) + random.choice(_TAILS) + end
        template = template[0].upper() + template[1:]
    else:
        lead = random.choice(_LEADS)
        named = "{" in lead
        template = lead + random.choice([question for question in _SHORT_QUESTIONS if named or "{" in question])
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
