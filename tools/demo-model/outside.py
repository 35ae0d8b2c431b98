"""Subjects that the demo model does not know, small sums, and stories: what the corpus has beside facts."""

from __future__ import annotations

from random import Random

UNKNOWN_ANSWER = (
    "I don't know about that. I am a tiny model: ask me about sharding, Kubernetes, this project, a small sum or a "
    "story."
)
UNKNOWN_NEEDS = ("don't know",)

_NOUNS = """
giraffe elephant volcano violin banana bicycle castle diamond dolphin eclipse galaxy hamster island jacket kitten
lemon magnet needle octopus parrot queen rainbow sandwich telescope umbrella vampire whale xylophone yacht zebra
airport biscuit candle desert eagle feather guitar hammer iceberg jungle kangaroo lantern mountain notebook
orchestra piano quarry river sailor tiger uncle village window wizard yoghurt zipper anchor bridge carpet dragon
engineer festival glacier harbour insect jewel knight ladder mirror novel ocean painting rocket saddle temple
tractor turtle valley waterfall workshop atom bacterium comet dinosaur electron fossil gene hurricane immune-system
keyboard lightbulb molecule nebula orbit planet quasar reptile satellite thermometer virus wavelength accountant
baker carpenter dentist farmer gardener historian judge lawyer musician nurse plumber poet sculptor surgeon teacher
waiter apple pear pizza soup cheese bread chocolate coffee potato tomato onion pumpkin cucumber strawberry chair
table sofa lamp pillow blanket bottle kettle spoon teapot bucket shirt trouser sock glove scarf hat boot train tram
ferry balloon submarine helicopter truck scooter democracy election parliament constitution treaty inflation
mortgage pension tax currency melody symphony rhythm sonnet comedy tragedy opera football tennis chess cricket
marathon chess-board referee goalkeeper penguin ostrich salmon spider beetle butterfly worm crocodile antelope camel
donkey goose pigeon swan squirrel oak birch rose tulip cactus mushroom fern moss thunderstorm earthquake avalanche
tsunami tornado sunrise sunset horizon season calendar century pyramid cathedral museum library lighthouse windmill
fountain garden market bakery pharmacy hospital stadium theatre cinema blockchain bitcoin compiler browser
smartphone printer spreadsheet webcam firewall smartwatch bluetooth arduino lisp haskell photoshop minecraft
"""
_NAMES = """
France Japan Brazil Egypt Norway Canada India Kenya Peru Poland Iceland Vietnam Paris London Tokyo Cairo Berlin
Sydney Rome Madrid Moscow Napoleon Cleopatra Shakespeare Mozart Einstein Newton Darwin Beethoven Picasso Aristotle
Plato Galileo Columbus Lincoln Gandhi Hamlet Everest Amazon Sahara Pacific Mars Jupiter Saturn Pluto Google
Microsoft Twitter Netflix Wikipedia Windows Java Excel Spotify Tesla Toyota Lego Disney Batman Sherlock
"""
_HELD_NOUNS = """
panther trombone saffron meteorite blacksmith raspberry cathode accordion walnut glockenspiel lobster sundial
hedgerow parachute canoe
"""
_HELD_NAMES = "Portugal Vienna Socrates Neptune Chopin Finland Magellan Firefox Nairobi Ethiopia"

UNKNOWN_NOUNS = [word.replace("-", " ") for word in _NOUNS.split()]
UNKNOWN_NAMES = _NAMES.split()
UNKNOWN_NOUNS_HELD = _HELD_NOUNS.split()
UNKNOWN_NAMES_HELD = _HELD_NAMES.split()

_NOUN_QUESTIONS = (
    "How does {x} work?", "How heavy is {x}?", "How old can {x} get?", "Where do I find {x}?", "How do I make {x}?",
    "What colour is {x}?", "How much does {x} cost?", "Where can I buy {x}?", "Why is there {x} in my kitchen?",
    "Do you like {xs}?", "Who invented {x}?", "How do you draw {x}?", "Write a poem about {xs}.", "How big is {x}?",
    "What is the best {w}?", "Is {x} dangerous?", "Can I eat {x}?", "Which {w} should I choose?",
)
_NAME_QUESTIONS = (
    "What is {w}?", "Who is {w}?", "Who was {w}?", "Where is {w}?", "Tell me about {w}.", "What is the capital of {w}?",
    "What do you know about {w}?", "When was {w} born?", "How old is {w}?", "How far is it to {w}?", "Explain {w}.",
    "Do you know {w}?", "Why is {w} famous?", "What happened in {w}?", "How many people live in {w}?", "{w}?",
    "What is the weather in {w}?", "How do I get to {w}?", "Who founded {w}?", "Is {w} big?",
)
_OTHER_QUESTIONS = (
    "What time is it?", "What day is it?", "What is the weather like?", "Will it rain tomorrow?", "What is the news?",
    "Who won the match?", "Translate hello into French.", "Write me an email.", "Sing a song.", "What is love?",
    "What is the meaning of life?", "What should I cook tonight?", "Book me a flight.", "Tell me a joke.",
    "Write a Python program.", "What is 12 times 12?", "What is the square root of 2?", "Who is the president?",
    "Give me medical advice.", "How do I lose weight?", "Which stocks should I buy?", "What did I say before?",
    "How tall is the Eiffel tower?", "What is the speed of light?", "When did the war end?", "Play some music.",
)
_HELD_QUESTIONS = (
    "Can you say a few words on {x}?", "What would you tell a child about {x}?", "Where does {x} come from?",
    "I need facts about {x}.", "What is so special about {x}?", "Which facts do you have on {x}?",
)


def article(word: str) -> str:
    return ("an " if word[0] in "aeiou" else "a ") + word


def unknown_question(random: Random, ask) -> str:
    """`ask` is that of phrasings.py: a known and an unknown noun must differ in nothing but the noun."""
    kind = random.random()
    if kind < 0.1:
        return random.choice(_OTHER_QUESTIONS)
    # An invented word stands for all the words that no list has.
    invented = random.random() < 0.35
    if kind < 0.35:
        name = _invented_word(random).capitalize() if invented else random.choice(UNKNOWN_NAMES)
        if random.random() < 0.3:
            return ask(random, x=name, w=name, xs=name)
        return random.choice(_NAME_QUESTIONS).format(w=name)
    word = _invented_word(random) if invented else random.choice(UNKNOWN_NOUNS)
    forms = {"x": article(word), "w": word, "xs": word + "s"}
    return ask(random, **forms) if kind < 0.8 else random.choice(_NOUN_QUESTIONS).format(**forms)


def _invented_word(random: Random) -> str:
    starts = "b br c ch d dr f fl g gl h j k l m n p pl r s sk st t tr v w z".split()
    vowels, ends = "a e i o u ai ea oo".split(), "n l r t s m nd".split()
    count = random.choice((1, 2, 2, 3))
    return "".join(random.choice(starts) + random.choice(vowels) for _ in range(count)) + random.choice(ends)


def unknown_held_out() -> list[str]:
    nouns = [(article(word), word) for word in UNKNOWN_NOUNS_HELD] + [(word, word) for word in UNKNOWN_NAMES_HELD]
    return [_HELD_QUESTIONS[(index + turn) % len(_HELD_QUESTIONS)].format(x=x, w=w)
            for index, (x, w) in enumerate(nouns) for turn in range(2)]


SUM_MAX = 20
_PLUS = (
    "What is {a} plus {b}?", "What is {a} + {b}?", "{a} + {b}", "{a}+{b}", "{a} + {b} = ?", "{a}+{b}=", "{a} plus {b}",
    "How much is {a} plus {b}?", "How much is {a} + {b}?", "Add {a} and {b}.", "What is the sum of {a} and {b}?",
    "Calculate {a} + {b}.", "Compute {a} plus {b}.", "Can you add {a} and {b}?", "What do {a} and {b} add up to?",
    "What's {a} plus {b}?", "What do you get when you add {a} and {b}?", "Tell me {a} plus {b}.", "{a} and {b} is?",
    "I have {a} apples and get {b} more. How many apples do I have?", "There are {a} nodes and {b} more join. How many?",
    "Do you know what {a} plus {b} is?", "Solve {a} + {b}.", "What does {a} plus {b} equal?",
)
_MINUS = (
    "What is {a} minus {b}?", "What is {a} - {b}?", "{a} - {b}", "{a}-{b}", "{a} - {b} = ?", "{a}-{b}=", "{a} minus {b}",
    "How much is {a} minus {b}?", "How much is {a} - {b}?", "Subtract {b} from {a}.", "Take {b} away from {a}.",
    "Calculate {a} - {b}.", "Compute {a} minus {b}.", "Can you subtract {b} from {a}?", "What's {a} minus {b}?",
    "What is the difference of {a} and {b}?", "Tell me {a} minus {b}.", "What is {a} less {b}?", "Solve {a} - {b}.",
    "I have {a} apples and give away {b}. How many are left?", "There are {a} nodes and {b} fail. How many are left?",
    "Do you know what {a} minus {b} is?", "What is left if I take {b} from {a}?", "What does {a} minus {b} equal?",
)
_PLUS_HELD = ("Please work out {a} plus {b}.", "How much do {a} and {b} make together?",
              "Find the sum {a} + {b}, please.", "Give me the result of {a} plus {b}.")
_MINUS_HELD = ("Please work out {a} minus {b}.", "What remains when I subtract {b} from {a}?",
               "Find the difference {a} - {b}, please.", "Give me the result of {a} minus {b}.")


def all_sums() -> list[tuple[int, str, int, int]]:
    numbers = range(SUM_MAX + 1)
    plus = [(a, "plus", b, a + b) for a in numbers for b in numbers]
    minus = [(a, "minus", b, a - b) for a in numbers for b in numbers if b <= a]
    return plus + minus


def held_out_sums() -> list[tuple[int, str, int, int]]:
    """One sum in twenty is never trained on in any phrasing: these show arithmetic, the others memory."""
    sums = all_sums()
    return sorted(Random(20).sample(sums, len(sums) // 20))


def sum_question(random: Random, a: int, operation: str, b: int, *, held: bool = False) -> str:
    if held:
        return random.choice(_PLUS_HELD if operation == "plus" else _MINUS_HELD).format(a=a, b=b)
    return random.choice(_PLUS if operation == "plus" else _MINUS).format(a=a, b=b)


def sum_answer(a: int, operation: str, b: int, result: int) -> str:
    return f"{a} {operation} {b} is {result}."


HEROES = """
fox wolf bear cat dog mouse owl crow hare robin frog snail bee ant badger otter hedgehog beaver pony goat lamb duck
robot pirate princess knight miller shepherd fisherman baker tailor astronaut girl boy grandmother dragon giant
ghost snowman cloud star moon tree river stone teapot clock train boat lighthouse shard gateway node
""".split()
_STORY_ASKS = (
    "Tell me a short story about {x}.", "Tell me a story about {x}.", "Write a short story about {x}.",
    "Write a story about {x}.", "A story about {x}, please.", "Can you tell me a story about {x}?", "Story about {x}",
    "I want a story about {x}.", "Please tell me a short story about {x}.", "Do you know a story about {x}?",
    "Invent a story about {x}.", "Give me a short story about {x}.", "Could you write a story about {x}?",
    "Tell a story with {x} in it.", "Tell my child a story about {x}.", "I would like a story about {x}.",
)
_STORY_OPENINGS = ("Tell me", "Tell us", "Write", "Invent", "Give me", "Read me", "I want", "I need", "I would enjoy",
                   "Please write", "Please tell me", "Could I have", "May I have", "Can you write", "Let me read",
                   "Will you tell me", "We want", "Compose", "Show me", "Could you tell me", "It is time for")
_STORY_KINDS = ("a story", "a short story", "a tale", "a fairy tale", "a bedtime story", "a small story", "a nice story",
                "a funny story", "one more story", "a new story", "a brief story", "a long story")
_STORY_LINKS = ("about", "about", "about", "with", "of", "on", "starring")
_STORY_ASKS_HELD = (
    "Can I hear a story about {x}?", "Please make up a little story with {x}.", "I would love a short tale about {x}.",
    "How about a story on {x}?",
)
_STORY_ASKS_FREE = ("Tell me a story.", "Tell me a short story.", "Write a story.", "A story, please.", "Another story!",
                    "Can you tell me a story?", "Do you know a story?", "I am bored. Tell me a story.")
_ADJECTIVES = "little old young clever shy brave lazy curious hungry quiet cheerful lonely".split()
_PLACES = ("at the edge of a dark forest", "in a small village", "by the sea", "on a green hill", "under an old bridge",
           "near a wide river", "behind a windmill", "in a quiet valley")
_TIMES = ("One cold morning", "One evening", "On the first day of spring", "One rainy night", "One summer day")
_FINDS = ("a golden key", "an old map", "a broken lantern", "a lost letter", "a silver bell", "a box without a lid",
          "a red balloon", "a very large pumpkin")
_WISHES = ("carry it home", "find out where it came from", "give it to a friend", "mend it before night")
_TROUBLES = ("it was far too heavy", "the path was long and dark", "the wind blew hard", "nobody knew the way",
             "it began to snow")
_FRIENDS = ("a kind crow", "two strong donkeys", "a wise old owl", "seven small mice", "a friendly miller",
            "its neighbours")
_WORK = ("each carried a small part of it", "they shared the work", "they tried again and again", "they made a plan")
_ENDS = ("they had supper together and laughed", "everybody in the land heard of it", "they were friends for ever",
         "it slept better than ever before", "nothing was too heavy for them")


def story(random: Random, hero: str) -> str:
    pick = random.choice
    adjective = pick(_ADJECTIVES)
    return (
        f"Once there was {article(adjective)} {hero} who lived {pick(_PLACES)}. {pick(_TIMES)}, the {hero} found "
        f"{pick(_FINDS)}. The {hero} wanted to {pick(_WISHES)}, but {pick(_TROUBLES)}. So the {hero} asked "
        f"{pick(_FRIENDS)} for help, and together {pick(_WORK)}. In the end {pick(_ENDS)}."
    )


def story_request(random: Random, hero: str) -> str:
    roll = random.random()
    if roll < 0.12:
        return random.choice(_STORY_ASKS_FREE)
    if roll < 0.6:
        opening, kind = random.choice(_STORY_OPENINGS), random.choice(_STORY_KINDS)
        return f"{opening} {kind} {random.choice(_STORY_LINKS)} {article(hero)}" + random.choice((".", "", "!", "?"))
    return random.choice(_STORY_ASKS).format(x=article(hero))


def story_held_out() -> list[tuple[str, str]]:
    """(question, hero)"""
    return [(_STORY_ASKS_HELD[index % len(_STORY_ASKS_HELD)].format(x=article(hero)), hero)
            for index, hero in enumerate(HEROES)]
