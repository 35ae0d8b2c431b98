"""Ways to ask. `{x}` is the noun with its article, `{w}` the bare word, `{xs}` the plural or whatever stands for it.

HELD_OUT is for the evaluation alone: corpus.py refuses to run if a training example contains one of its questions.
"""

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
    "I am learning about {xs}. Explain them to me.", "Someone asked me what {x} is.", "A friend wants to know what {x} is.",
    "Is there such a thing as {x}?", "Why do people talk about {xs}?", "What kind of thing is {x}?",
    "Write one sentence about {xs}.", "Summarize {xs}.", "Give me the short version: what is {x}?",
)

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

PREFIXES = ("Hi! ", "Hello, ", "Hey, ", "Hi Tessera, ", "Please: ", "OK. ", "Sorry, ", "Good morning. ", "Hmm, ", "Well, ",
            "One question. ", "Excuse me, ", "Another one: ", "Now: ")
SUFFIXES = (" Please.", " Thanks!", " Thank you.", " Be brief.", " In simple words.", " I am new to this.", " Thanks.")

SYSTEM_PROMPTS = (
    "You are a helpful assistant.", "You are Tessera, a helpful assistant.", "Answer in one or two sentences.",
    "You are the demo model of Tessellate.", "Be brief and honest.", "You are a helpful AI assistant. Be concise.",
)
