"""What the demo model knows about using Tessellate, its payments, its keys and its failures."""

from fact import fact

QUESTIONS = (
    fact(
        "run-demo",
        "Run npm run demo in a fresh clone. It installs what it needs, starts three providers and answers a question.",
        "npm run demo, three providers",
        (
            "How do I run the demo?", "How can I try Tessellate?", "How do I start?",
            "What do I type to see the demo?", "How do I get started?", "Show me how to run the demo.",
            "Which command runs the demo?", "run the demo how", "I want to run the demo.", "I want to try it.",
            "How do I launch the demo?", "How does one run the demo?", "What command do I need for the demo?",
            "How do I see Tessellate at work?", "First steps?", "Is there a demo?", "What should I do first?",
            "How do I begin?",
        ),
        ("What is the quickest way to try this out?", "How can I see the demo running?", "Where do I begin?"),
        clauses=(
            "how to run the demo", "how I can try Tessellate", "which command runs the demo", "how to get started",
        ),
    ),
    fact(
        "verify-answer",
        "Save the answer to a file and run tessellate verify on it. It checks every receipt offline and names who is to "
        "blame if one is wrong.",
        "tessellate verify, receipt, offline",
        (
            "How do I verify an answer?", "How can I check an answer?", "What does tessellate verify do?",
            "How do I check the receipts?", "Can I check an answer offline?", "Which command verifies an answer?",
            "How is an answer verified?", "How do I know an answer is real?", "Can I verify the receipts?",
            "How can I trust an answer of the cluster?", "Prove that an answer is genuine.",
            "Verify an answer for me.", "How are answers checked?", "I have an answer file. How do I check it?",
        ),
        ("How can I be sure that an answer is genuine?", "How would I verify the receipts of an answer?"),
        clauses=(
            "how to verify an answer", "how to check the receipts", "how an answer is verified",
        ),
    ),
    fact(
        "show-plan",
        "Run tessellate plan with your model file and your nodes file. It prints the plan and starts nothing.",
        "tessellate plan, prints, nothing",
        (
            "How do I see the plan?", "How can I print the plan?", "What does tessellate plan do?",
            "Show me the plan.", "Can I look at the plan before it starts?", "Which command prints the plan?",
            "Print the plan.", "How is the plan printed?", "I want to see the plan first.",
            "How do I preview the plan?", "Can I preview what goes where?", "How do I do a dry run?",
            "Can I see the plan without starting anything?", "How do I get the plan on the screen?",
        ),
        ("How can I look at the plan first?", "Is there a way to print the plan without starting anything?"),
        clauses=(
            "how to see the plan", "how to print the plan", "where I can look at the plan",
        ),
    ),
    fact(
        "serve-model",
        "Write a ShardedModel in YAML and apply it with kubectl. The operator plans it, starts the pods and reports "
        "Ready.",
        "shardedmodel, kubectl, ready",
        (
            "How do I serve a model?", "How do I deploy a model?", "How can I start a model on Kubernetes?",
            "How do I add a model?", "What do I do to serve a model?", "How do I apply a model?",
            "How is a model deployed?", "How do I bring up a model?", "I want to serve a model.",
            "How do I put a model on my cluster?", "How do I run my own model?", "What must I write to serve a model?",
            "Deploy a model for me.", "How do I launch a model?",
        ),
        ("What are the steps to serve a model?", "How would I deploy my own model?"),
        clauses=(
            "how to serve a model", "how to deploy a model", "how a model is started",
        ),
    ),
    fact(
        "paid",
        "A provider is paid for verified work only. When an epoch ends, the ledger settles what was earned.",
        "verified work, epoch, ledger",
        (
            "How is a provider paid?", "How are providers paid?", "What is a provider paid for?",
            "How do providers earn?", "How does a provider earn credits?", "When is a provider paid?",
            "How do rewards work?", "What does a provider get paid for?",
            "Where does the money of a provider come from?", "How do I earn with my GPU?", "How are rewards computed?",
            "Why does a provider get credits?", "For which work are providers paid?", "How much does a provider get?",
            "How does the payment work?", "What must a provider do to be paid?",
        ),
        ("How do providers get their money?", "For what does a provider get paid?", "What do providers earn with?"),
        clauses=(
            "how a provider is paid", "what providers are paid for", "how providers earn credits", "how rewards work",
        ),
    ),
    fact(
        "paid-limit",
        "No. The ledger never pays out more than was collected, to the last micro-credit.",
        "no, never, collected",
        (
            "Can the ledger pay out more than was collected?", "Can more be paid than was collected?",
            "Is more paid out than comes in?", "Could the payouts exceed the income?", "Can the ledger overpay?",
            "Does the ledger ever pay too much?", "Can the ledger create money?",
            "Do payouts ever exceed what came in?", "Will the ledger pay more than it has?",
            "Can payouts be larger than the collected fees?", "Are payouts limited?",
        ),
        ("Is it possible to pay more than was collected?", "Might the ledger pay more than it collected?"),
        clauses=(
            "whether more is paid than was collected", "if the ledger can pay too much",
        ),
    ),
    fact(
        "cheat",
        "A cheater is caught by audits: random spans are computed again, and a wrong signature is proof against its "
        "signer.",
        "audits, random, again",
        (
            "How are cheaters caught?", "What if a provider cheats?", "How does Tessellate catch a cheater?",
            "Can a provider cheat?", "What happens when somebody cheats?", "What stops a provider from lying?",
            "How do you detect cheating?", "How is cheating found?", "What if a provider lies?",
            "What if somebody runs a cheaper model?", "How do you find a liar?", "Is cheating possible?",
            "Who catches cheaters?", "How do you know that a provider is honest?", "What about dishonest providers?",
        ),
        ("How would you notice a cheating provider?", "What happens to a provider that cheats?"),
        clauses=(
            "how cheaters are caught", "what happens when a provider cheats", "what stops a provider from cheating",
        ),
    ),
    fact(
        "both-sign",
        "Both sides of a hand-off sign the same hash, so a corrupted hand-off convicts the one who made it.",
        "both sides, same hash, convicts",
        (
            "Why do both sides sign a hand-off?", "Why is a hand-off signed twice?", "Who signs a hand-off?",
            "Why do two ranks sign the same hash?", "Who is blamed for a corrupted hand-off?",
            "Why are there two signatures on a hand-off?", "Why do sender and receiver both sign?",
            "What are the two signatures for?", "Why do both segments sign?", "Why must the receiver sign too?",
            "How do you know who corrupted a hand-off?", "Why is the same hash signed by both?",
        ),
        ("What is the reason that both sides sign?", "Why must both ends sign a hand-off?"),
        clauses=(
            "why both sides sign a hand-off", "why a hand-off has two signatures",
        ),
    ),
    fact(
        "challenge-time",
        "Challenges are drawn after the receipts are logged, so nobody can know in advance what will be checked.",
        "after, logged",
        (
            "When are challenges drawn?", "When is it decided what to audit?", "Can a provider guess what is audited?",
            "Why are challenges drawn late?", "When are audits chosen?", "When do audits get drawn?",
            "Are challenges known in advance?", "Can a provider know what will be checked?",
            "Can a challenge be predicted?", "Why can nobody guess the challenges?", "When does the auditor choose?",
            "Are the challenges drawn before or after the receipts?", "When is a challenge made?",
        ),
        ("At what time are the challenges drawn?", "When do you choose what to audit?"),
        clauses=(
            "when challenges are drawn", "when it is decided what to audit",
        ),
    ),
    fact(
        "rank-dies",
        "Only that rank is replaced. What was sent to it is replayed into the replacement, and the session goes on.",
        "replaced, replayed, session",
        (
            "What happens when a rank dies?", "What if a node fails?", "What happens if a shard is lost?",
            "What if a machine goes away?", "How does a session survive a failure?",
            "What happens when a rank crashes?", "What if a rank dies?", "What happens if a rank is gone?",
            "A rank died. What now?", "How do you recover from a lost rank?", "What happens when a node goes down?",
            "How is a lost shard replaced?", "Does a session survive when a rank dies?",
            "What happens when a machine fails?",
        ),
        ("What do you do when a rank is lost?", "What happens after a rank fails?"),
        clauses=(
            "what happens when a rank dies", "what happens if a node fails", "how a session survives a failure",
        ),
    ),
    fact(
        "split",
        "A model is split twice: into ranges of layers, which make a chain, and within a layer into tensor slices.",
        "layers, chain, slices",
        (
            "How is a model split?", "How does Tessellate cut a model?", "In how many ways is a model split?",
            "How do you cut a model into shards?", "How is the model divided?", "How is a model cut?",
            "How are shards cut from a model?", "Along which lines is a model cut?", "How does the splitting work?",
            "How do you split a model?", "How do layers and slices divide a model?",
            "How is the model cut into pieces?",
        ),
        ("How do you divide a model?", "In which ways is a model cut?"),
        clauses=(
            "how a model is split", "how Tessellate cuts a model", "how a model is divided into shards",
        ),
    ),
    fact(
        "last-token",
        "The last segment samples the token and sends it directly to the gateway, which streams it to the client.",
        "last segment, gateway",
        (
            "Where does the token go?", "Who samples the token?", "How does a token reach the client?",
            "Which segment samples the token?", "What does the last segment do?", "Where is the token sampled?",
            "Who sends the token to the gateway?", "How does a token get to the gateway?",
            "What happens to the new token?", "Where does the new token go?", "How does the answer come back?",
            "Which rank picks the next token?", "How are tokens sent back?",
        ),
        ("By which segment is the token sampled?", "How does the client get a token?"),
        clauses=(
            "where the token goes", "who samples the token", "how a token reaches the client",
        ),
    ),
    fact(
        "need-gpu",
        "No. Small models run on the CPU. With GPUs, larger models run faster.",
        "no, cpu",
        (
            "Do I need a GPU?", "Does it run without a GPU?", "Can it run on a CPU?", "Is a GPU required?",
            "Is a GPU needed?", "Can I use it without a GPU?", "Do I have to own a GPU?",
            "I have no GPU. Can I run it?", "Does it need a graphics card?", "Will it run on my laptop?",
            "Is a CPU enough?", "Do you require a GPU?",
        ),
        ("Must I have a GPU?", "Will it work without a graphics card?"),
        clauses=(
            "whether I need a GPU", "if it runs without a GPU",
        ),
    ),
    fact(
        "one-machine",
        "Because one machine often cannot hold a large model. Together, many machines of many owners can.",
        "machine, cannot hold, together",
        (
            "Why not use one machine?", "Why use many machines?", "Why does Tessellate use many nodes?",
            "Why is one machine not enough?", "Is one machine not enough?", "Why several machines?",
            "Why are many machines used?", "Why do you spread the model over machines?",
            "Why don't you run it on one machine?", "Can one machine hold a large model?",
            "What is wrong with one machine?",
        ),
        ("Why do we need so many machines?", "Wouldn't a single machine do?"),
        clauses=(
            "why many machines are needed", "why one machine is not enough",
        ),
    ),
    fact(
        "for-whom",
        "Tessellate is for teams, universities, co-ops and companies that have GPUs in many hands and want to run a "
        "model that none of them can hold alone.",
        "teams, universities, gpus",
        (
            "Who is Tessellate for?", "Who should use Tessellate?", "Who needs Tessellate?", "For whom is it made?",
            "Who uses Tessellate?", "Who is the audience?", "Is Tessellate for me?", "Who is this for?",
            "Whom does Tessellate help?", "Which users do you have in mind?", "Who would need such a thing?",
        ),
        ("Which people is Tessellate meant for?", "Who would use this project?"),
        clauses=(
            "who Tessellate is for", "who should use it",
        ),
    ),
    fact(
        "licence",
        "Tessellate is free software under the Apache License 2.0.",
        "apache",
        (
            "Which licence does Tessellate have?", "What is the license?", "Is Tessellate open source?",
            "Is it free software?", "Under which licence is it?", "What licence is it under?", "Is the code open?",
            "Can I use it in my company?", "What are the licence terms?", "Which license is used?", "License?",
            "Is Tessellate free?", "Does it cost anything to use Tessellate?",
        ),
        ("How is Tessellate licensed?", "May I use Tessellate for free?"),
        clauses=(
            "which licence it has", "whether it is open source",
        ),
    ),
    fact(
        "language",
        "Tessellate is written in TypeScript and runs on Node.js. The arithmetic is done by ONNX Runtime.",
        "typescript, onnx runtime",
        (
            "Which language is Tessellate written in?", "What is Tessellate written in?", "Is it written in Python?",
            "Which programming language do you use?", "In which language is it written?", "Is it written in Rust?",
            "Is it TypeScript?", "What programming language is used?", "Which language was used for the code?",
            "What is it programmed in?", "Is Tessellate a Go program?",
        ),
        ("In what programming language is Tessellate made?", "What is the code written in?"),
        clauses=(
            "which language it is written in", "what it is written in",
        ),
    ),
    fact(
        "keys",
        "A provider's key stays on its own node with the node agent. It never enters the cluster.",
        "key, node agent",
        (
            "Where is the key of a provider kept?", "Where are the keys?", "Who holds the signing key?",
            "Is my key stored in the cluster?", "Where does a provider keep its key?", "Where do the keys live?",
            "Where is my signing key?", "Is the key a Secret of the cluster?", "Who has the private key?",
            "Where is the private key stored?", "Are keys kept in the cluster?", "Does the key leave the node?",
            "How is a key kept safe?",
        ),
        ("In which place is a provider's key kept?", "Does my key ever enter the cluster?"),
        clauses=(
            "where the key of a provider is kept", "who holds the keys",
        ),
    ),
)
