/**
 * The leader of a segment: takes steps as they come, batches whatever waits when the engine is free, hands the rows on to
 * the next segment or samples, and keeps everybody's order. In a tensor-parallel segment it also tells the followers what
 * runs.
 *
 * PERF: one decoded token passes here once per segment. Between a step's arrival and the engine's start, and between the
 * engine's end and the hand-off, nothing is awaited and nothing hashed; hashing happens while others compute.
 */
import { assert } from "../../core/assert.ts";
import type { Step, Step__Output } from "../../core/gen/proto/tessellate/shard/v1/Step.ts";
import type { StepRefusal__Output } from "../../core/gen/proto/tessellate/shard/v1/StepRefusal.ts";
import type { Identity } from "../../core/identity.ts";
import { Pace } from "../../core/pace.ts";
import { RefusalError, type Refusal, type Result, ok, refuse } from "../../core/result.ts";
import { sampleToken } from "../../core/sampler.ts";
import type { Receipt } from "../../core/statement.ts";
import type { EngineThread } from "../engine/engine-thread.ts";
import { lingerMs } from "../schedule/linger.ts";
import type { Budget } from "../schedule/next-batch.ts";
import { type DialRank, type HandOffLink, HandOffLinks } from "./hand-off-link.ts";
import { LeaderEngine } from "./leader-engine.ts";
import type { Meters } from "./meters.ts";
import { type SessionPlan, samePlan } from "./open-request.ts";
import { encodeHidden } from "./payload.ts";
import type { RankFacts } from "./rank-facts.ts";
import { IDLE_SESSION_MS, ORPHAN_SESSION_MS, type Role, SETTLE_TIMEOUT_MS, SWEEP_MS } from "./role.ts";
import { type Failure, Session, type TokenTaker, type Upstream } from "./session.ts";
import { checkStep } from "./step-check.ts";
import { type Part, WaitingSteps } from "./waiting-steps.ts";

/** Bytes of steps that may wait before streams are paused; they go on at half. */
const WAITING_BYTES_MAX = 64 << 20;

export type LeaderOptions = {
  readonly facts: RankFacts;
  readonly engine: EngineThread;
  readonly dial: DialRank;
  readonly budget: Budget;
  readonly meters: Meters;
  readonly nowMs: () => number;
  readonly onTrouble: (error: unknown) => void; // weather, for the log
  readonly sweepMs?: number; // between looks for sessions that nobody speaks of
  readonly sendDelayMs?: number; // a rehearsed distance, see rehearsal.ts; default 0
};

export class Leader implements Role {
  onPressure: (paused: boolean) => void = () => {};
  readonly #facts: RankFacts;
  readonly #engine: LeaderEngine;
  readonly #links: HandOffLinks;
  readonly #budget: Budget;
  readonly #meters: Meters;
  readonly #nowMs: () => number;
  readonly #onTrouble: (error: unknown) => void;
  readonly #sessions = new Map<string, Session>();
  readonly #opening = new Map<string, Promise<Result<undefined>>>();
  readonly #sweep: NodeJS.Timeout;
  readonly #sendDelayMs: number;
  readonly #waiting = new WaitingSteps();
  #paused = false;
  #running = false;
  #pumping = false;
  readonly #pace = new Pace();
  #batchMs = 0; // what the last batch took
  #lingerUntilMs: number | undefined; // for sessions that are about to come back
  #lingering: NodeJS.Timeout | undefined;

  constructor({ facts, engine, dial, budget, meters, nowMs, onTrouble, ...rest }: LeaderOptions) {
    const { sweepMs = SWEEP_MS, sendDelayMs = 0 } = rest;
    this.#sendDelayMs = sendDelayMs;
    this.#facts = facts;
    this.#budget = budget;
    this.#meters = meters;
    this.#nowMs = nowMs;
    this.#onTrouble = onTrouble;
    this.#engine = new LeaderEngine(facts, engine, dial, {
      onBroken: (refusal, lost) => this.#failAll({ ...refusal, rank: lost }),
      inUse: () => [...this.#sessions.values()].some((session) => session.failure === undefined),
    });
    this.#links = new HandOffLinks(dial, {
      onRefusal: (refusal) => this.#refusedBehind(refusal),
      onLost: (link, refusal) => this.#lost(link, refusal),
      onDrain: () => this.#pump(),
    });
    this.#sweep = setInterval(() => this.#expire(), sweepMs).unref();
  }

  get sessionCount(): number {
    return this.#sessions.size;
  }

  get freeSlotCount(): number {
    return this.#engine.freeSlotCount;
  }

  open(plan: SessionPlan): Promise<Result<undefined>> {
    const known = this.#sessions.get(plan.id);
    if (known !== undefined)
      return Promise.resolve(
        samePlan(known.plan, plan) ? ok(undefined) : refuse("SessionExists", "another session has this id"),
      );
    // Asked again before it is open: the second waits for the first, and is then asked as if it came later.
    const opening = this.#opening.get(plan.id);
    if (opening !== undefined) return opening.then(() => this.open(plan));
    const opened = this.#open(plan).finally(() => this.#opening.delete(plan.id));
    this.#opening.set(plan.id, opened);
    return opened;
  }

  async #open(plan: SessionPlan): Promise<Result<undefined>> {
    const acquired = await this.#engine.acquire(plan.id, plan.group);
    if (!acquired.ok) return acquired;
    const session = new Session(this.#facts, plan, this.#nowMs());
    if (plan.next !== undefined) session.link = this.#links.use(plan.next);
    this.#sessions.set(plan.id, session);
    return ok(undefined);
  }

  async close(id: string, opener: string, positions: number): Promise<Result<Receipt | undefined>> {
    const session = this.#sessions.get(id);
    if (session === undefined)
      return refuse("UnknownSession", "the session is not open here; it was closed, expired, or never opened");
    if (session.plan.opener !== opener)
      return refuse("ForeignSession", "only the gateway that opened a session closes it");
    await session.settled(positions, SETTLE_TIMEOUT_MS);
    session.tokenTaker?.end();
    this.#forget(session);
    return ok(session.log.receipt());
  }

  take(step: Step__Output, from: Upstream, caller: Identity): void {
    const checked = checkStep(step, this.#sessions.get(step.session), caller, this.#facts);
    const failure = checked.ok ? checked.value.session.failure : checked;
    if (failure !== undefined) {
      const { code, detail } = failure;
      const rank = "rank" in failure ? failure.rank : this.#facts.name;
      return from.refuse({ session: step.session, position: step.position, code, detail, rank });
    }
    assert(checked.ok, "what was refused has been answered");
    const { session } = checked.value;
    session.lastSeenMs = this.#nowMs();
    session.cameBack(session.lastSeenMs);
    session.upstream = from;
    if (checked.value.repeated) return session.resend?.();
    const { values, data, rows } = checked.value;
    session.lastStep = { position: step.position, rows, data };
    session.resend = undefined;
    session.acceptedEnd += rows;
    this.#waiting.add({
      session,
      position: step.position,
      rowCount: rows,
      sample: step.sample,
      divisible: session.plan.previous === undefined,
      values,
      data,
    });
    this.#breathe();
    this.#pumpSoon();
  }

  left(gone: Upstream | TokenTaker): void {
    const lastSeenMs = this.#nowMs() - IDLE_SESSION_MS + ORPHAN_SESSION_MS;
    for (const session of this.#sessions.values()) {
      if (session.upstream !== gone && session.tokenTaker !== gone) continue;
      if (session.upstream === gone) session.upstream = undefined;
      else session.tokenTaker = undefined;
      session.lastSeenMs = Math.min(session.lastSeenMs, lastSeenMs);
    }
  }

  tokens(id: string, opener: string, taker: TokenTaker): Result<undefined> {
    const session = this.#sessions.get(id);
    if (session === undefined)
      return refuse("UnknownSession", "the session is not open here; it was closed, expired, or never opened");
    if (session.plan.opener !== opener)
      return refuse("ForeignSession", "only the gateway that opened a session takes its tokens");
    if (!this.#facts.engine.last) return refuse("BadRequest", "tokens come from the last segment, and this is none");
    session.tokenTaker = taker;
    for (const token of session.tokens) taker.take(token);
    if (session.failure !== undefined) taker.refuse(session.failureRefusal());
    return ok(undefined);
  }

  shutdown(): void {
    clearInterval(this.#sweep);
    clearTimeout(this.#lingering);
    this.#failAll({ ...refuse("Draining", `${this.#facts.name} is shutting down`), rank: this.#facts.name });
    this.#sessions.clear();
    this.#links.close();
    this.#engine.close();
  }

  /** After everything that arrived together was read, so that steps of one burst make one batch. */
  #pumpSoon(): void {
    if (this.#running || this.#pumping) return;
    this.#pumping = true;
    setImmediate(() => {
      this.#pumping = false;
      this.#pump();
    });
  }

  #pump(): void {
    if (this.#running || this.#waiting.isEmpty || this.#lingers()) return;
    const decodeRowsMax = this.#pace.rowsMax(this.#sessions.size);
    const parts = this.#waiting.take({ ...this.#budget, decodeRowsMax });
    if (parts.length === 0) return;
    this.#running = true;
    this.#lingerUntilMs = undefined;
    clearTimeout(this.#lingering);
    const startedMs = this.#nowMs();
    this.#engine.run(parts).then(
      (output) => {
        const rowCount = parts.reduce((sum, part) => sum + part.rowCount, 0);
        this.#batchMs = this.#nowMs() - startedMs;
        this.#pace.ran(this.#batchMs);
        this.#meters.batch(parts.length, rowCount, this.#batchMs / 1000);
        this.#deliver(parts, output.hidden, output.logits);
      },
      (error: unknown) => this.#failBatch(parts, error),
    );
  }

  /** Whether it is worth a moment for others to come; that moment is never prolonged. */
  #lingers(): boolean {
    const nowMs = this.#nowMs();
    if (this.#lingerUntilMs !== undefined && nowMs >= this.#lingerUntilMs) return false;
    const waitingCount = this.#waiting.sessionCount;
    if (this.#sessions.size <= waitingCount) return false;
    let segmentCount = 1;
    const returnsAtMs: number[] = [];
    for (const session of this.#sessions.values()) {
      const atMs = session.failure === undefined ? session.returnsAtMs() : undefined;
      if (atMs !== undefined) returnsAtMs.push(atMs);
      segmentCount = session.plan.segmentCount;
    }
    const waitMs = lingerMs({ nowMs, waitingCount, returnsAtMs, segmentCount, batchMs: this.#batchMs });
    if (waitMs === 0) return false;
    this.#lingerUntilMs ??= nowMs + waitMs;
    clearTimeout(this.#lingering);
    this.#lingering = setTimeout(() => this.#pump(), Math.max(0, this.#lingerUntilMs - nowMs));
    return true;
  }

  /** Hands on first, starts the next batch, and hashes then. */
  #deliver(parts: readonly Part[], hidden: Float32Array, logits: readonly Float32Array[]): void {
    const given: (() => void)[] = [];
    const width = this.#facts.engine.hiddenSize;
    let row = 0;
    let sampled = 0;
    for (const part of parts) {
      const rows = hidden.subarray(row * width, (row + part.rowCount) * width);
      row += part.rowCount;
      const slice = this.#facts.engine.last && part.sample ? logits[sampled++] : undefined;
      if (part.session.failure !== undefined) continue;
      const gave = this.#facts.engine.last ? this.#sample(part, slice) : this.#handOn(part, rows);
      if (gave.ok) given.push(gave.value);
      else this.#fail(part.session, { ...gave, rank: this.#facts.name });
    }
    this.#running = false;
    const nowMs = this.#nowMs();
    for (const { session } of parts) {
      if (session.lastLeftMs !== undefined) this.#pace.left(nowMs - session.lastLeftMs);
      session.leave(nowMs);
    }
    this.#breathe();
    this.#pump();
    for (const part of parts) {
      if (part.session.failure === undefined) {
        part.session.log.took(part.position, part.rowCount, part.data);
        part.session.doneEnd = part.position + part.rowCount;
      }
      part.session.pendingCount -= 1;
    }
    for (const log of given) log();
    for (const { session } of parts) this.#looked(session);
  }

  /** Sends the rows to the next segment; returns what is left to do once nobody waits for it. */
  #handOn({ session, position, rowCount, sample }: Part, rows: Float32Array): Result<() => void> {
    const { link, plan } = session;
    assert(link !== undefined, "a segment that is not the last hands on");
    const data = encodeHidden(rows, plan.handOffDtype);
    if (!data.ok) return data;
    const payload = {
      dtype: plan.handOffDtype,
      rows: rowCount,
      columns: this.#facts.engine.hiddenSize,
      data: data.value,
    };
    const step: Step = { session: plan.id, position, payload, sample };
    this.#send(() => link.send(step, data.value.length));
    session.resend = () => link.send(step, data.value.length);
    return ok(() => session.log.gave(position, rowCount, data.value));
  }

  /** Samples where that was asked for, and sends the token straight to the gateway. */
  #sample({ session, position, rowCount }: Part, logits: Float32Array | undefined): Result<() => void> {
    const { sampler } = session.plan;
    if (logits === undefined || sampler === undefined) return ok(() => {});
    const at = position + rowCount;
    const chosen = sampleToken(logits, sampler, at);
    if (!chosen.ok) return chosen;
    const token = { position: at, ...chosen.value };
    session.tokens.push(token);
    this.#send(() => session.tokenTaker?.take(token));
    session.resend = () => session.tokenTaker?.take(token);
    return ok(() => session.log.sampled(at, token.tokenId));
  }

  /** At once, but where a distance is rehearsed; timers of one length keep their order. */
  #send(send: () => void): void {
    if (this.#sendDelayMs === 0) send();
    else setTimeout(send, this.#sendDelayMs);
  }

  #failBatch(parts: readonly Part[], error: unknown): void {
    const refusal =
      error instanceof RefusalError
        ? refuse(error.code, error.message)
        : refuse("EngineFailed", "the engine failed; this rank's log says why");
    if (!(error instanceof RefusalError)) this.#onTrouble(error);
    for (const part of parts) part.session.pendingCount -= 1;
    for (const { session } of parts) {
      if (session.failure === undefined) this.#fail(session, { ...refusal, rank: this.#facts.name });
      this.#looked(session);
    }
    this.#running = false;
    this.#pump();
  }

  /** A session goes no further: the way it came is told, what waits of it is dropped, its slot is free. */
  #fail(session: Session, failure: Failure): void {
    if (session.failure !== undefined) return;
    session.failure = { code: failure.code, detail: failure.detail, rank: failure.rank };
    session.upstream?.refuse({ session: session.plan.id, position: session.acceptedEnd, ...session.failure });
    session.tokenTaker?.refuse(session.failureRefusal());
    this.#waiting.drop(session);
    this.#breathe();
    this.#looked(session);
  }

  #failAll(failure: Failure): void {
    for (const session of [...this.#sessions.values()]) this.#fail(session, failure);
  }

  /** Frees what a failed session holds once nothing of it runs, and wakes those that wait for it. */
  #looked(session: Session): void {
    if (session.failure !== undefined && session.pendingCount === 0) this.#release(session);
    session.changed();
  }

  #forget(session: Session): void {
    if (this.#sessions.get(session.plan.id) !== session) return;
    this.#sessions.delete(session.plan.id);
    // Not a failure that anybody needs to hear of; it only stops what is still waiting or on its way.
    session.upstream = undefined;
    session.tokenTaker = undefined;
    this.#fail(session, { ...refuse("UnknownSession", "the session was closed"), rank: this.#facts.name });
  }

  #release(session: Session): void {
    if (session.released) return;
    session.released = true;
    if (session.link !== undefined) this.#links.release(session.link, this.#nowMs());
    this.#engine.release(session.plan.id);
  }

  /** A rank behind this one refused: on towards the gateway. */
  #refusedBehind({ session: id, code, detail, rank }: StepRefusal__Output): void {
    const session = this.#sessions.get(id);
    if (session !== undefined) this.#fail(session, { code, detail, rank });
  }

  #lost(link: HandOffLink, { detail }: Refusal): void {
    for (const session of [...this.#sessions.values()])
      if (session.link === link) this.#fail(session, { code: "RankLost", detail, rank: link.to.name });
  }

  #expire(): void {
    const nowMs = this.#nowMs();
    for (const session of [...this.#sessions.values()]) {
      if (session.pendingCount > 0 || nowMs - session.lastSeenMs < IDLE_SESSION_MS) continue;
      this.#fail(session, { ...refuse("Expired", `no step for ${IDLE_SESSION_MS / 1000} s`), rank: this.#facts.name });
      this.#forget(session);
    }
    this.#links.sweep(nowMs);
  }

  #breathe(): void {
    const paused = this.#waiting.byteCount > (this.#paused ? WAITING_BYTES_MAX / 2 : WAITING_BYTES_MAX);
    if (paused === this.#paused) return;
    this.#paused = paused;
    this.onPressure(paused);
  }
}
