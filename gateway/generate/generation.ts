/**
 * The tokens of one answer, over as many sessions as it takes. When a rank is lost, the answer goes on at another chain
 * (or at the same one, once its rank is replaced) from the prompt and the tokens so far. Sampling is keyed by seed and
 * position alone, so what follows is what would have followed; the client sees a pause.
 */
import { type Refusal, type Result, ok, refuse } from "../../core/result.ts";
import { type Doors, whyAborted, within } from "../doors.ts";
import { type ChainFacts, type Fit, type ModelFacts, revisionOn } from "../route/picture.ts";
import type { SampledToken, Session, SessionReceipts, SessionRequest } from "../session/types.ts";
import type { Admission, Lease } from "./admission.ts";

export type Ask = {
  readonly key: string; // modelKey
  readonly root: string; // of the model whose tokenizer made the prompt
  readonly prompt: readonly number[]; // token ids, at least one, fewer than the model's contextLength
  readonly maxTokens: number; // with the prompt at most the contextLength
  readonly sampler: SessionRequest["sampler"];
  readonly signal: AbortSignal; // aborted once nobody wants the answer any more
};

/** One session of an answer. Only the last one of an answer is billed; its prompt holds what the earlier ones gave. */
export type Part = {
  readonly request: SessionRequest;
  readonly model: ModelFacts;
  readonly chain: ChainFacts;
  readonly generated: readonly number[];
  readonly receipts: SessionReceipts;
};

export type Limits = {
  readonly queueWaitMs: number;
  readonly recoveryWaitMs: number; // for a chain that takes the session, after one was lost
  readonly firstTokenMs: number; // a step that takes longer counts as lost
  readonly nextTokenMs: number;
  readonly closeGraceMs: number; // for the token under way when an answer is cut short
  readonly lossesMax: number; // sessions lost in a row without a token between: such a request may be what kills ranks
  readonly filesWaitMs: number; // for a model's tokenizer, which a rank may be sending just now
  readonly pingMs: number; // a stream with nothing to say shows this often that it lives; before the first time an error still gets its own status
};

export const LIMITS: Limits = {
  queueWaitMs: 60_000,
  recoveryWaitMs: 30_000,
  firstTokenMs: 300_000,
  nextTokenMs: 60_000,
  closeGraceMs: 2_000,
  lossesMax: 4,
  filesWaitMs: 10_000,
  pingMs: 15_000,
};

export type House = {
  readonly doors: Doors;
  readonly admission: Admission;
  readonly limits: Limits;
  readonly onRecovery: (key: string) => void; // counts
};

/** What another chain would refuse as well; everything else is worth another try. */
const FINAL: ReadonlySet<string> = new Set(["BadRequest", "TooLong", "BadPayload"]);

type Opened = { readonly session: Session; readonly lease: Lease; readonly request: SessionRequest };

export class Generation {
  readonly #house: House;
  readonly #ask: Ask;
  readonly #tokens: number[] = [];
  #current: Opened;
  #pending: Promise<Result<SampledToken>> | undefined; // the step under way
  #lossCount = 0; // since the last token
  #recoverUntilMs = 0;
  #closing: Promise<Part> | undefined;
  #recoveryCount = 0;

  private constructor(house: House, ask: Ask, opened: Opened) {
    this.#house = house;
    this.#ask = ask;
    this.#current = opened;
  }

  /** Waits for a slot and opens the session. Refused as {@link Admission.enter} refuses, as a rank does, or as `ModelChanged`. */
  static async open(house: House, ask: Ask): Promise<Result<Generation>> {
    const waitMs = Math.max(house.limits.queueWaitMs, house.admission.wakeWaitMs(ask.key));
    const deadlineMs = house.doors.clock.monotonicMs() + waitMs;
    const opened = await openSession(house, ask, { prompt: ask.prompt, lost: undefined, deadlineMs });
    return opened.ok ? ok(new Generation(house, ask, opened.value)) : opened;
  }

  get recoveryCount(): number {
    return this.#recoveryCount;
  }

  /** The next token, after however many recoveries; once the ask's signal is aborted, why it was. */
  async next(): Promise<Result<SampledToken>> {
    for (;;) {
      const sampled = await this.#step();
      if (sampled.ok) {
        this.#lossCount = 0;
        return sampled;
      }
      if (this.#ask.signal.aborted || FINAL.has(sampled.code)) return sampled;
      const recovered = await this.#recover(sampled);
      if (!recovered.ok) return recovered;
    }
  }

  /** Ends the answer and gathers what was signed about its last session. Idempotent, never rejects. */
  close(reason: "done" | "cancelled" | "failed"): Promise<Part> {
    this.#closing ??= this.#close(reason);
    return this.#closing;
  }

  async #step(): Promise<Result<SampledToken>> {
    const { clock } = this.#house.doors;
    const { firstTokenMs, nextTokenMs } = this.#house.limits;
    const isFirst = this.#ask.prompt.length + this.#tokens.length === this.#current.request.prompt.length;
    const stepMs = isFirst ? firstTokenMs : nextTokenMs;
    const pending = this.#current.session
      .next()
      .catch((error: unknown) => refuse("Weather", `the session broke: ${String(error)}`));
    this.#pending = pending;
    const outcome = await within(clock, stepMs, pending, this.#ask.signal);
    if (outcome === "aborted") return whyAborted(this.#ask.signal);
    if (outcome === "late") return refuse("TimedOut", `no token within ${stepMs / 1000} s`);
    this.#pending = undefined;
    if (outcome.ok) this.#tokens.push(outcome.value.tokenId);
    return outcome;
  }

  /** The tokens of the session that runs now. */
  #generated(): readonly number[] {
    return this.#tokens.slice(this.#current.request.prompt.length - this.#ask.prompt.length);
  }

  async #recover(lost: Refusal): Promise<Result<undefined>> {
    const { doors, limits, onRecovery } = this.#house;
    const { session, lease, request } = this.#current;
    if (this.#lossCount === 0)
      this.#recoverUntilMs = doors.clock.monotonicMs() + recoveryWaitMs(this.#house, this.#ask);
    this.#lossCount += 1;
    doors.log("session-lost", {
      session: request.id,
      model: this.#ask.key,
      code: lost.code,
      detail: lost.detail,
      tokens: this.#tokens.length,
    });
    // What the others signed is gathered for the record; the next session's receipts cover these tokens too, so it is not billed.
    const gathered = session.close("failed").then((receipts) => {
      doors.log("abandoned-receipts", { session: request.id, receipts: receipts.receipts.length });
    });
    gathered.catch((error: unknown) => doors.log("close-failed", { session: request.id, detail: String(error) }));
    lease.release("lost");
    this.#pending = undefined;
    if (this.#lossCount >= limits.lossesMax) return this.#giveUp(lost);
    const prompt = [...this.#ask.prompt, ...this.#tokens];
    const begun = { revision: revisionOn(lease.chain) };
    const opened = await openSession(this.#house, this.#ask, { prompt, lost, begun, deadlineMs: this.#recoverUntilMs });
    if (!opened.ok) return this.#giveUp(opened);
    this.#current = opened.value;
    this.#recoveryCount += 1;
    onRecovery(this.#ask.key);
    return ok(undefined);
  }

  /** The session is closed and its lease released already, so there is nothing left to close. */
  #giveUp(why: Refusal): Refusal {
    const { lease, request } = this.#current;
    const receipts = { receipts: [], handOffsIn: "", handOffsOut: "" };
    this.#closing = Promise.resolve({
      request,
      model: lease.model,
      chain: lease.chain,
      generated: this.#generated(),
      receipts,
    });
    return why;
  }

  async #close(reason: "done" | "cancelled" | "failed"): Promise<Part> {
    const { doors, limits } = this.#house;
    const { session, lease, request } = this.#current;
    if (this.#pending !== undefined) {
      // A rank has signed, or is about to, for the token under way: what is billed must be what is signed.
      const last = await within(doors.clock, limits.closeGraceMs, this.#pending);
      if (typeof last === "object" && last.ok) this.#tokens.push(last.value.tokenId);
    }
    const receipts = await session.close(reason).catch((error: unknown) => {
      doors.log("close-failed", { session: request.id, detail: String(error) });
      return { receipts: [], handOffsIn: "", handOffsOut: "" };
    });
    lease.release("served"); // a chain that was lost is released where it was lost
    return { request, model: lease.model, chain: lease.chain, generated: this.#generated(), receipts };
  }
}

type Opening = {
  readonly prompt: readonly number[];
  readonly lost: Refusal | undefined; // why an earlier session of this answer ended
  readonly begun?: Fit["begun"];
  readonly deadlineMs: number;
};

/** One session on whichever chain takes it; chains that have no slot or do not answer are asked again until the deadline. */
async function openSession(house: House, ask: Ask, opening: Opening): Promise<Result<Opened>> {
  const { doors, admission } = house;
  const { key, signal } = ask;
  const { prompt, lost, begun } = opening;
  let { deadlineMs } = opening;
  const positionCount = ask.prompt.length + ask.maxTokens;
  const fit: Fit = { root: ask.root, positionCount, ...(begun === undefined ? {} : { begun }) };
  let ticket: Lease["ticket"] | undefined;
  for (let last = lost; ; ) {
    const waitMs = Math.max(0, deadlineMs - doors.clock.monotonicMs());
    // Once a chain was lost under it, a new request is in the same place as one whose answer had begun.
    const lease = await admission.enter({ key, fit, resumed: last !== undefined, waitMs, signal, ticket });
    if (!lease.ok) {
      return last === undefined || signal.aborted
        ? lease
        : refuse(lease.code, `${lease.detail} (after ${last.detail})`);
    }
    const request = requestOn(doors, ask, lease.value, prompt);
    const session = await doors.wire
      .open(request)
      .catch((error: unknown) => refuse("Weather", `opening the session broke: ${String(error)}`));
    if (session.ok) return ok({ session: session.value, lease: lease.value, request });
    const isFinal = FINAL.has(session.code);
    lease.value.release(isFinal ? "served" : session.code === "NoSlot" ? "noSlot" : "lost");
    if (isFinal) return session;
    ticket = lease.value.ticket;
    if (session.code === "NoSlot") continue;
    if (last === undefined) deadlineMs = doors.clock.monotonicMs() + recoveryWaitMs(house, ask);
    last = session;
    const chain = lease.value.chain.index;
    doors.log("open-failed", { session: request.id, model: key, chain, code: session.code, detail: session.detail });
  }
}

/** A model that fell asleep under a session wakes for it as for a new one. */
const recoveryWaitMs = ({ limits, admission }: House, { key }: Ask): number =>
  Math.max(limits.recoveryWaitMs, admission.wakeWaitMs(key));

function requestOn(doors: Doors, ask: Ask, { model, chain }: Lease, prompt: readonly number[]): SessionRequest {
  return {
    id: Buffer.from(doors.random(16)).toString("base64url"),
    nonce: doors.random(32),
    modelRoot: model.root,
    chain: chain.segments,
    prompt,
    sampler: ask.sampler,
    maxPositions: ask.prompt.length + ask.maxTokens,
    handOffDtype: model.handOffDtype,
    epoch: Math.floor(doors.unixMs() / 1000 / model.epochSeconds),
  };
}
