import { expect } from "chai";
import fc from "fast-check";
import { digestOf } from "../../core/digest.ts";
import { type SessionFixture, aSession, keyNamed } from "../../core/session-fixture.ts";
import type { Receipt } from "../../core/statement.ts";
import { type Facts, SLACK_SECONDS } from "./facts.ts";
import { type History, type Judgement, NO_HISTORY, judge, placeOf } from "./judge.ts";
import { type Submission, type Verdict, open } from "./open.ts";
import { EPOCH_SECONDS, NOW_SECONDS, aPicture, factsOf } from "./picture-fixture.ts";

const facts = factsOf([NOW_SECONDS - 60, aPicture()]);
const other = digestOf(new TextEncoder().encode("something else"));
const at = (wanted: number, change: (receipt: Receipt) => Receipt) => (receipt: Receipt, index: number) =>
  index === wanted ? change(receipt) : receipt;

const judged = (submission: Submission, known: Facts = facts, history: History = NO_HISTORY) =>
  judge(open(submission, known), known, history, NOW_SECONDS);

const show = (verdict: Verdict): string =>
  verdict.verdict === "accept"
    ? "accept"
    : verdict.verdict === "ignore"
      ? `ignore ${verdict.code}`
      : `reject ${verdict.code} ${verdict.blame.kind} ${verdict.blame.names.join(",")}`.trim();
/** The usage's verdict, then those of the four receipts; one word where all five agree. */
const showAll = (judgement: Judgement): readonly string[] =>
  [judgement.usage.verdict, ...judgement.receipts.map(({ verdict }) => verdict)].map(show);

const flip = (bytes: Uint8Array, index: number): Uint8Array =>
  bytes.map((byte, at) => (at === index ? byte ^ 1 : byte));
const sent = (change: (submission: SessionFixture["submission"]) => Submission): Submission =>
  change(aSession().submission);

const all = (usage: string, receipt: string): readonly string[] => [usage, receipt, receipt, receipt, receipt];
const accepted = (index: number, verdict: string): readonly string[] =>
  all("accept", "accept").with(index + 1, verdict);
const incomplete = (index: number, verdict: string): readonly string[] =>
  all("accept", "ignore IncompleteChain").with(index + 1, verdict);

/** Two sessions with the same id and nonce whose first ranks signed unlike things. */
const twice = aSession({ alter: at(0, (receipt) => ({ ...receipt, driftClass: "another", handOffsOut: other })) });
const once = aSession();
const historyOf = (session: SessionFixture): History => ({
  countedUsage: session.answer.receipts.length === 0 ? undefined : digestOf(session.usageEnvelope.payload),
  receipts: new Map(session.receipts.map((receipt, index) => [placeOf(receipt), session.usage.receipts[index] ?? ""])),
});

const cases: readonly (readonly [string, Submission, Facts, History, readonly string[]])[] = [
  ["an honest session is accepted", once.submission, facts, NO_HISTORY, all("accept", "accept")],
  [
    "the same again is nobody's fault",
    once.submission,
    facts,
    historyOf(once),
    all("ignore AlreadyCounted", "ignore AlreadyCounted"),
  ],
  [
    "junk",
    { usage: Uint8Array.of(1), receipts: [Uint8Array.of(2)] },
    facts,
    NO_HISTORY,
    ["reject NotJson sender", "reject NotJson sender"],
  ],
  [
    "a forged signature on a receipt leaves the chain open",
    sent(({ usage, receipts }) => ({ usage, receipts: receipts.with(1, flip(receipts[1] ?? usage, 700)) })),
    facts,
    NO_HISTORY,
    incomplete(1, "reject BadSignature sender"),
  ],
  [
    "a forged signature on the usage",
    sent(({ usage, receipts }) => ({ usage: flip(usage, 700), receipts })),
    facts,
    NO_HISTORY,
    all("reject BadSignature sender", "ignore NoUsage"),
  ],
  [
    "a receipt less",
    sent(({ usage, receipts }) => ({ usage, receipts: receipts.slice(1) })),
    facts,
    NO_HISTORY,
    all("accept", "ignore IncompleteChain").slice(0, 4),
  ],
  [
    "a receipt twice in one submission is one receipt",
    sent(({ usage, receipts }) => ({ usage, receipts: [...receipts, receipts[0] ?? usage] })),
    facts,
    NO_HISTORY,
    [...all("accept", "accept"), "accept"],
  ],
  [
    "a receipt of another session",
    sent(({ usage, receipts }) => ({
      usage,
      receipts: [...receipts, aSession({ id: "s-2" }).submission.receipts[0] ?? usage],
    })),
    facts,
    NO_HISTORY,
    [...all("accept", "accept"), "reject NotListed sender"],
  ],
  [
    "a gateway nobody told of",
    aSession({ gateway: "mallory" }).submission,
    facts,
    NO_HISTORY,
    all("reject UnknownKey sender", "ignore NoUsage"),
  ],
  [
    "a provider nobody told of",
    aSession({ alter: at(1, (r) => ({ ...r, provider: "mallory" })) }).submission,
    facts,
    NO_HISTORY,
    incomplete(1, "reject UnknownKey sender"),
  ],
  [
    "a provider that speaks for another",
    aSession({ keyOf: (holder) => keyNamed(holder === "provider/studio" ? "provider/garage" : holder) }).submission,
    facts,
    NO_HISTORY,
    incomplete(2, "reject WrongSigner signer provider/garage"),
  ],
  [
    "a provider that was not admitted",
    once.submission,
    factsOf([NOW_SECONDS, aPicture({ notAdmitted: ["garage"] })]),
    NO_HISTORY,
    accepted(1, "reject NotAdmitted signer provider/garage"),
  ],
  [
    "a model nobody planned",
    aSession({ model: "default/other" }).submission,
    facts,
    NO_HISTORY,
    all("reject UnknownModel signer gateway/gateway-0", "ignore NoUsage"),
  ],
  [
    "another price than the model's",
    aSession({ price: 1n }).submission,
    facts,
    NO_HISTORY,
    all("reject WrongModelFacts signer gateway/gateway-0", "ignore NoUsage"),
  ],
  [
    "an epoch to come",
    aSession({ epoch: 413 }).submission,
    facts,
    NO_HISTORY,
    all("reject EpochNotYet signer gateway/gateway-0", "ignore NoUsage"),
  ],
  [
    "a share that the plan does not give",
    aSession({ alter: at(1, (r) => ({ ...r, shard: { ...r.shard, shareMillionths: 999_999n } })) }).submission,
    facts,
    NO_HISTORY,
    accepted(1, "reject WrongShard signer provider/garage"),
  ],
  [
    "layers that the plan does not give",
    aSession({ alter: at(0, (r) => ({ ...r, shard: { ...r.shard, layers: { start: 0, end: 8 } } })) }).submission,
    facts,
    NO_HISTORY,
    accepted(0, "reject WrongShard signer provider/campus"),
  ],
  [
    "a rank of another provider",
    aSession({ alter: at(0, (r) => ({ ...r, provider: "garage" })) }).submission,
    facts,
    NO_HISTORY,
    accepted(0, "reject WrongShard signer provider/garage"),
  ],
  [
    "a rank no plan knows convicts nobody",
    aSession({ alter: at(0, (r) => ({ ...r, rank: "default/assistant-9-0-0" })) }).submission,
    facts,
    NO_HISTORY,
    accepted(0, "reject NotPlanned nobody"),
  ],
  [
    "a hand-off that only one side signed: both wait, the others are paid",
    aSession({ alter: at(0, (r) => ({ ...r, handOffsOut: other })) }).submission,
    facts,
    NO_HISTORY,
    [
      "accept",
      "reject BrokenChain unclear provider/campus,provider/garage",
      "reject BrokenChain unclear provider/campus,provider/garage",
      "accept",
      "accept",
    ],
  ],
  [
    "more positions than the gateway billed",
    aSession({ alter: at(3, (r) => ({ ...r, span: { start: 0, end: 99 }, tokens: { positions: 99, sampled: 3 } })) })
      .submission,
    facts,
    NO_HISTORY,
    accepted(3, "reject CountMismatch unclear provider/campus,gateway/gateway-0"),
  ],
  [
    "two receipts of one rank for one span",
    {
      usage: once.submission.usage,
      receipts: [...once.submission.receipts, twice.submission.receipts[0] ?? new Uint8Array()],
    },
    facts,
    NO_HISTORY,
    [...accepted(0, "reject Equivocation signer provider/campus"), "reject Equivocation signer provider/campus"],
  ],
  [
    "a session counted already, signed anew by its gateway: the gateway is caught, the rank may have been opened twice",
    twice.submission,
    facts,
    historyOf(once),
    [
      "reject Equivocation signer gateway/gateway-0",
      "reject Equivocation unclear provider/campus,gateway/gateway-0",
      "ignore AlreadyCounted",
      "ignore AlreadyCounted",
      "ignore AlreadyCounted",
    ],
  ],
];

describe("judge", () => {
  for (const [name, submission, known, history, want] of cases) {
    it(name, () => expect(showAll(judged(submission, known, history))).to.deep.equal(want));
  }

  it("judges by the plan under which the session ran, not by the one that replaced it", () => {
    const replaced = aPicture({ segments: [{ layers: [0, 8], ranks: [{ provider: "campus" }] }] });
    const after = (seconds: number) => factsOf([411 * EPOCH_SECONDS, aPicture()], [seconds, replaced]);
    expect(showAll(judged(once.submission, after(NOW_SECONDS)))).to.deep.equal(all("accept", "accept"));
    const longGone = factsOf([400 * EPOCH_SECONDS, aPicture()], [411 * EPOCH_SECONDS - SLACK_SECONDS - 1, replaced]);
    expect(showAll(judged(once.submission, longGone))[2]).to.equal("reject NotAdmitted signer provider/garage");
  });

  it("counts what the plan and the gateway say, never what the payee says", () => {
    const greedy = aSession({
      alter: (r) => ({ ...r, span: { start: 0, end: 6 }, tokens: { ...r.tokens, positions: 6 }, stepCount: 1_000_000 }),
    });
    const units = (session: SessionFixture) => judged(session.submission).counted?.work.map((work) => work.units);
    expect(units(greedy)).to.deep.equal(units(once));
    expect(units(once)).to.deep.equal([
      4n * 5n * 1_000_000n,
      2n * 5n * 600_000n,
      2n * 5n * 400_000n,
      2n * 5n * 1_000_000n,
    ]);
  });

  it("withholds the share of a receipt that is convicted, and nobody else's", () => {
    const { counted } = judged(
      aSession({ alter: at(1, (r) => ({ ...r, shard: { ...r.shard, shareMillionths: 999_999n } })) }).submission,
    );
    expect(counted?.work.map(({ provider, state, units }) => `${provider} ${state} ${units}`)).to.deep.equal([
      "campus verified 20000000",
      "garage withheld 6000000",
      "studio verified 4000000",
      "campus verified 10000000",
    ]);
  });

  it("judges receipts alike in whatever order they come", () => {
    fc.assert(
      fc.property(fc.shuffledSubarray([0, 1, 2, 3], { minLength: 4 }), (order) => {
        const receipts = order.map((index) => once.submission.receipts[index] ?? new Uint8Array());
        const { counted } = judged({ usage: once.submission.usage, receipts });
        expect(counted?.work).to.deep.equal(judged(once.submission).counted?.work);
      }),
    );
  });

  it("accepts nothing with a byte changed, and blames nobody but the sender for it", () => {
    fc.assert(
      fc.property(fc.nat(4), fc.nat(), fc.integer({ min: 1, max: 255 }), (which, where, change) => {
        const parts = [once.submission.usage, ...once.submission.receipts];
        const [usage = new Uint8Array(), ...receipts] = parts.map((part, index) =>
          index === which ? part.map((byte, at) => (at === where % part.length ? byte ^ change : byte)) : part,
        );
        const judgement = judged({ usage, receipts });
        expect(judgement.counted).to.equal(undefined);
        const blamed = [judgement.usage.verdict, ...judgement.receipts.map(({ verdict }) => verdict)].flatMap(
          (verdict) => (verdict.verdict === "reject" ? [verdict.blame.kind] : []),
        );
        expect(blamed).to.deep.equal(["sender"]);
      }),
      { numRuns: 200 },
    );
  });
});
