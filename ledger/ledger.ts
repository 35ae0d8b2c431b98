/**
 * The ledger: hears from the operator what is planned, judges what gateways submit, settles epochs. It decides by the
 * pure rules and remembers in the store; one thing at a time, so that what is judged is judged against all before it.
 */
import type { State__Output } from "../core/gen/proto/tessellate/control/v1/State.ts";
import {
  type Envelope,
  IN_TOTO_PAYLOAD_TYPE,
  envelopeBytes,
  parseEnvelope,
  payloadDigest,
  signEnvelope,
} from "../core/dsse.ts";
import type { SigningKey } from "../core/keys.ts";
import { type Result, ok, refuse } from "../core/result.ts";
import { type Settlement, settlementStatement } from "../core/settlement.ts";
import { microCredits } from "../core/units.ts";
import { type Balance, balancesOf } from "./balances.ts";
import type { Log, WallClock } from "./doors.ts";
import { type Facts, type Picture, absorb } from "./rules/facts.ts";
import { type Judgement, NO_HISTORY, judge } from "./rules/judge.ts";
import { type Submission, type Verdict, ignore, open } from "./rules/open.ts";
import { parsePicture } from "./rules/parse-picture.ts";
import { makeSettlement, type Unsettled } from "./rules/settlement.ts";
import type { LastSettlement, SignedSettlement, Store } from "./store/store.ts";

/** A verdict and what it is about: the usage first, then the receipts in the order in which they came. */
export type JudgedPart = { readonly digest: string; readonly verdict: Verdict };

export type LedgerDoors = {
  readonly store: Store;
  readonly clock: WallClock;
  readonly key: SigningKey;
  readonly log: Log;
};

/** Everything that metrics show. */
export type Figures = {
  readonly balances: readonly Balance[];
  readonly verdicts: readonly { readonly verdict: string; readonly code: string; readonly count: number }[];
};

export class Ledger {
  readonly #doors: LedgerDoors;
  #facts: Facts;
  #fence = 0;
  #version = 0; // counts what was written, so that figures are computed once per change
  #figures: { readonly version: number; readonly seconds: number; readonly figures: Promise<Figures> } | undefined;
  #queue: Promise<unknown> = Promise.resolve();
  readonly #ignored = new Map<string, number>(); // since this process started: nothing is stored of what changes nothing

  private constructor(doors: LedgerDoors, facts: Facts) {
    this.#doors = doors;
    this.#facts = facts;
  }

  /** Goes on with everything that the store remembers. */
  static async open(doors: LedgerDoors): Promise<Ledger> {
    return new Ledger(doors, await doors.store.facts());
  }

  get publicKey(): string {
    return this.#doors.key.publicKey.spki;
  }

  /** Rejects where the store is out of reach. */
  ping(): Promise<void> {
    return this.#doors.store.ping();
  }

  /** The operator's picture. `StaleFence`: an operator with a later lease has spoken since this ledger started. */
  put(state: State__Output): Promise<Result<Picture, "StaleFence" | "BadRequest">> {
    return this.#inTurn(async () => {
      if (state.fence < this.#fence)
        return refuse(
          "StaleFence",
          `fence ${state.fence} is older than ${this.#fence}: another operator leads now; step down`,
        );
      const picture = parsePicture(state);
      if (!picture.ok) return picture;
      const { facts, changes } = absorb(this.#facts, picture.value, this.#doors.clock.nowSeconds());
      if (changes.length > 0) {
        await this.#doors.store.told(changes);
        this.#doors.log("told", {
          fence: state.fence,
          changes: changes.length,
          models: picture.value.models.length,
          providers: picture.value.providers.length,
        });
      }
      // Only once it is stored: a ledger that restarts must not know less than it judged by.
      this.#facts = facts;
      this.#fence = state.fence;
      return picture;
    });
  }

  /** Judges one session. The same bytes again are ignored, and change nothing. */
  submit(submission: Submission): Promise<readonly JudgedPart[]> {
    return this.#inTurn(async () => {
      const known = await this.#countedAlready(submission);
      if (known !== undefined) return this.#count(known);
      const { store, clock } = this.#doors;
      const opened = open(submission, this.#facts);
      const { statement } = opened.usage;
      const history = statement.ok ? await store.historyOf(statement.value.session) : NO_HISTORY;
      const judgement = judge(opened, this.#facts, history, clock.nowSeconds());
      await store.record(judgement);
      this.#version += 1;
      this.#tell(judgement);
      return this.#count([judgement.usage, ...judgement.receipts]);
    });
  }

  /**
   * Closes an epoch, or what came to it since it was closed before, and pays it: a signed settlement as envelope bytes.
   * Where nothing came since, the settlement that was signed before. `NoWork`: nothing was ever judged in that epoch.
   */
  settle(wanted: number | "latest"): Promise<Result<Uint8Array, "NoWork">> {
    return this.#inTurn(async () => {
      const { store, log } = this.#doors;
      const epoch = wanted === "latest" ? await store.newestEpoch() : wanted;
      if (epoch === undefined) return refuse("NoWork", "no receipt was ever accepted, so there is no epoch to settle");
      const made = await store.settle(epoch, (unsettled, last, part) => this.#sign(unsettled, last, part));
      if (made !== undefined) {
        this.#version += 1;
        log("settled", {
          epoch,
          part: made.part,
          sequence: made.sequence,
          entries: made.entries.length,
          digest: made.digest,
        });
        return ok(made.envelope);
      }
      const before = await store.settlementOf(epoch);
      return before === undefined
        ? refuse("NoWork", `no receipt of epoch ${epoch} was accepted; there is nothing to settle`)
        : ok(before);
    });
  }

  /** Of one provider, or of all where the name is empty; sorted by provider and epoch. */
  async balances(provider: string): Promise<readonly Balance[]> {
    const { balances } = await this.figures();
    return provider === "" ? balances : balances.filter((balance) => balance.provider === provider);
  }

  /** From what is stored, computed again only when something was written or a second has passed. */
  figures(): Promise<Figures> {
    const seconds = this.#doors.clock.nowSeconds();
    if (this.#figures?.version === this.#version && this.#figures.seconds === seconds) return this.#figures.figures;
    // In turn with the writes, so that no amount is seen twice on its way from pending to paid.
    const figures = this.#inTurn(() => this.#compute(seconds));
    this.#figures = { version: this.#version, seconds, figures };
    // A failure is not kept: the next one who asks tries again.
    figures.catch(() => (this.#figures = undefined));
    return figures;
  }

  /** Resolves once everything that was asked before is done. */
  async idle(): Promise<void> {
    await this.#queue;
  }

  async #compute(seconds: number): Promise<Figures> {
    const { store } = this.#doors;
    const [judged, unsettled, paid, withheld, counts] = await Promise.all([
      store.providerEpochs(),
      store.unsettled(),
      store.credited("provider/"),
      store.credited("withheld/"),
      store.verdictCounts(),
    ]);
    const ignored = [...this.#ignored].map(([code, count]) => ({ verdict: "ignore", code, count }));
    return { balances: balancesOf({ judged, unsettled, paid, withheld }, seconds), verdicts: [...counts, ...ignored] };
  }

  /** The verdicts where every part of a submission was counted before: no signature need be checked again. */
  async #countedAlready({ usage, receipts }: Submission): Promise<readonly JudgedPart[] | undefined> {
    const envelopes = [usage, ...receipts].map(parseEnvelope);
    const digests = envelopes.flatMap((envelope) => (envelope.ok ? [payloadDigest(envelope.value)] : []));
    const [first, ...rest] = digests;
    if (first === undefined || digests.length < envelopes.length) return undefined;
    const counted = await this.#doors.store.countedWith(first);
    if (counted === undefined || !rest.every((digest) => counted.has(digest))) return undefined;
    return digests.map((digest) => ({ digest, verdict: ignore("AlreadyCounted", "these bytes were counted before") }));
  }

  #sign(unsettled: Unsettled, last: LastSettlement | undefined, part: number): SignedSettlement {
    const settlement = makeSettlement(unsettled, {
      sequence: last === undefined ? 0 : last.sequence + 1,
      previous: last?.digest ?? null,
      part,
    });
    const envelope = signEnvelope(IN_TOTO_PAYLOAD_TYPE, settlementStatement(settlement), this.#doors.key);
    return signed(settlement, envelope);
  }

  #count(answers: readonly JudgedPart[]): readonly JudgedPart[] {
    for (const { verdict } of answers.slice(1))
      if (verdict.verdict === "ignore") this.#ignored.set(verdict.code, (this.#ignored.get(verdict.code) ?? 0) + 1);
    return answers;
  }

  #tell({ usage, receipts }: Judgement): void {
    for (const { digest, verdict } of [usage, ...receipts]) {
      if (verdict.verdict === "accept") continue;
      const { code, detail } = verdict;
      const blame =
        verdict.verdict === "reject" ? `${verdict.blame.kind} ${verdict.blame.names.join(", ")}`.trim() : "";
      this.#doors.log("not-accepted", { digest, verdict: verdict.verdict, code, detail, blame });
    }
  }

  /** One after the other, in the order in which they were asked for; one that fails holds up nobody. */
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#queue.then(work);
    this.#queue = done.catch(() => {});
    return done;
  }
}

const signed = (settlement: Settlement, envelope: Envelope): SignedSettlement => ({
  sequence: settlement.sequence,
  part: settlement.part,
  digest: payloadDigest(envelope),
  previous: settlement.previous,
  envelope: envelopeBytes(envelope),
  entries: makeEntries(settlement),
});

const makeEntries = (settlement: Settlement): SignedSettlement["entries"] =>
  settlement.entries.map(({ id, debit, credit, amount }) => ({ id, debit, credit, amount: microCredits(amount) }));
