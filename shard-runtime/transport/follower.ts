/**
 * A rank that follows: runs what its leader says, in the leader's order, adds its share to every sum, and keeps its own
 * hashes of what it was shown and what came out. It never sees a step from outside the segment and never samples.
 *
 * Its engine's slots are the leader's to give; a gateway's Open and Close only begin and end what is to be signed. So a
 * gateway that closes early, or twice, or only here, cannot bring the segment out of step.
 */
import type { BatchRow__Output } from "../../core/gen/proto/tessellate/shard/v1/BatchRow.ts";
import type { GroupBatch__Output } from "../../core/gen/proto/tessellate/shard/v1/GroupBatch.ts";
import type { Step__Output } from "../../core/gen/proto/tessellate/shard/v1/Step.ts";
import { RefusalError, type Result, ok, refuse } from "../../core/result.ts";
import type { Receipt } from "../../core/statement.ts";
import type { EngineThread } from "../engine/engine-thread.ts";
import { Group } from "./group.ts";
import type { DialRank } from "./hand-off-link.ts";
import type { Meters } from "./meters.ts";
import { type SessionPlan, samePlan } from "./open-request.ts";
import { encodeHidden, joinValues, parsePayload } from "./payload.ts";
import type { RankFacts } from "./rank-facts.ts";
import { IDLE_SESSION_MS, type Role, SETTLE_TIMEOUT_MS, SWEEP_MS } from "./role.ts";
import { Session, type Upstream } from "./session.ts";

export type FollowerOptions = {
  readonly facts: RankFacts;
  readonly engine: EngineThread;
  readonly dial: DialRank;
  readonly meters: Meters;
  readonly nowMs: () => number;
  readonly onTrouble: (error: unknown) => void; // weather, for the log
  readonly sweepMs?: number; // between looks for sessions that nobody speaks of
};

/** A row of a batch, understood. */
type Row = BatchRow__Output & { readonly values: Uint32Array | Float32Array; readonly data: Buffer };

export class Follower implements Role {
  onPressure: (paused: boolean) => void = () => {};
  readonly group: Group;
  readonly #facts: RankFacts;
  readonly #engine: EngineThread;
  readonly #meters: Meters;
  readonly #nowMs: () => number;
  readonly #onTrouble: (error: unknown) => void;
  readonly #sessions = new Map<string, Session>();
  /** Sessions that hold a slot of the engine, as the leader said. */
  readonly #slots = new Set<string>();
  readonly #sweep: NodeJS.Timeout;
  #batch = 0;
  #generation = 0; // counts the times that the group broke

  constructor({ facts, engine, dial, meters, nowMs, onTrouble, sweepMs = SWEEP_MS }: FollowerOptions) {
    this.#facts = facts;
    this.#engine = engine;
    this.#meters = meters;
    this.#nowMs = nowMs;
    this.#onTrouble = onTrouble;
    this.group = new Group(facts, dial, {
      onBatch: (batch) => this.#receive(batch),
      inUse: () => [...this.#sessions.values()].some((session) => session.failure === undefined),
      onBroken: (refusal, lost) => this.#reset({ code: refusal.code, detail: refusal.detail, rank: lost }),
    });
    this.#sweep = setInterval(() => this.#expire(), sweepMs).unref();
  }

  get sessionCount(): number {
    return this.#sessions.size;
  }

  get freeSlotCount(): number {
    return Math.max(0, this.#facts.engine.slotCount - this.#sessions.size);
  }

  async open(plan: SessionPlan): Promise<Result<undefined>> {
    const known = this.#sessions.get(plan.id);
    if (known !== undefined)
      return samePlan(known.plan, plan) ? ok(undefined) : refuse("SessionExists", "another session has this id");
    // The leader refuses when its slots are taken; this only bounds what a confused gateway can pile up here.
    const limit = 2 * this.#facts.engine.slotCount + 8;
    if (this.#sessions.size >= limit) return refuse("NoSlot", `${limit} sessions are open here; close some`);
    const joined = await this.group.join(plan.group);
    if (!joined.ok) return joined;
    this.#sessions.set(plan.id, new Session(this.#facts, plan, this.#nowMs()));
    return ok(undefined);
  }

  async close(id: string, opener: string, positions: number): Promise<Result<Receipt | undefined>> {
    const session = this.#sessions.get(id);
    if (session === undefined)
      return refuse("UnknownSession", "the session is not open here; it was closed, expired, or never opened");
    if (session.plan.opener !== opener)
      return refuse("ForeignSession", "only the gateway that opened a session closes it");
    await session.settled(positions, SETTLE_TIMEOUT_MS);
    this.#sessions.delete(id);
    return ok(session.log.receipt());
  }

  take(step: Step__Output, from: Upstream): void {
    const detail = `${this.#facts.name} is rank ${this.#facts.rankIndex} of its segment; steps go to rank 0`;
    from.refuse({ session: step.session, position: step.position, code: "NotLeader", detail, rank: this.#facts.name });
  }

  left(): void {}

  tokens(): Result<undefined> {
    return refuse(
      "NotLeader",
      `${this.#facts.name} is rank ${this.#facts.rankIndex} of its segment; tokens come from rank 0`,
    );
  }

  shutdown(): void {
    clearInterval(this.#sweep);
    this.group.close();
    this.#reset({ code: "Draining", detail: `${this.#facts.name} is shutting down`, rank: this.#facts.name });
    this.#sessions.clear();
  }

  #receive(batch: GroupBatch__Output): void {
    const rows = this.#rowsOf(batch);
    if (!rows.ok) return this.group.break(rows, this.#facts.name);
    this.#batch = batch.batch;
    for (const session of batch.released) {
      this.#slots.delete(session);
      this.#quietly(this.#engine.release(session));
    }
    // Calls to the engine run in their order, so nothing is awaited before the batch: its refusal would come after theirs.
    for (const session of batch.acquired) {
      this.#slots.add(session);
      this.#quietly(this.#engine.acquire(session));
    }
    const generation = this.#generation;
    this.#run(batch.batch, rows.value).catch((error: unknown) => {
      if (!(error instanceof RefusalError)) this.#onTrouble(error);
      if (this.#generation === generation)
        this.group.break(refuse("RankLost", `${this.#facts.name} failed a batch`), this.#facts.name);
    });
  }

  async #run(batch: number, rows: readonly Row[]): Promise<void> {
    const startedMs = this.#nowMs();
    for (const { session } of rows) this.#touch(session, 1);
    let exchangeCount = 0;
    try {
      const steps = rows.map(({ session, position, tokenCount, sample }) => ({
        session,
        position,
        rowCount: tokenCount,
        sample,
      }));
      const { hidden, logits } = await this.#engine.run({ steps, input: joinValues(rows) }, (partial, exchange) => {
        exchangeCount = exchange + 1;
        return this.group.allReduce(batch, exchange, partial);
      });
      if (logits.length > 0) this.group.sendLogits(batch, exchangeCount, logits);
      const rowCount = rows.reduce((sum, row) => sum + row.tokenCount, 0);
      this.#meters.batch(rows.length, rowCount, (this.#nowMs() - startedMs) / 1000);
      this.#hash(rows, hidden);
    } finally {
      for (const { session } of rows) this.#touch(session, -1);
    }
  }

  #touch(id: string, pending: 1 | -1): void {
    const session = this.#sessions.get(id);
    if (session === undefined) return;
    session.lastSeenMs = this.#nowMs();
    session.pendingCount = Math.max(0, session.pendingCount + pending);
    session.changed();
  }

  #hash(rows: readonly Row[], hidden: Float32Array): void {
    const width = this.#facts.engine.hiddenSize;
    let at = 0;
    for (const { session: id, position, tokenCount, data } of rows) {
      const own = hidden.subarray(at * width, (at + tokenCount) * width);
      at += tokenCount;
      const session = this.#sessions.get(id);
      if (session === undefined || session.failure !== undefined || position !== session.doneEnd) continue;
      session.log.took(position, tokenCount, data);
      session.doneEnd = position + tokenCount;
      if (this.#facts.engine.last) continue;
      const encoded = encodeHidden(own, session.plan.handOffDtype);
      if (encoded.ok) session.log.gave(position, tokenCount, encoded.value);
      else session.failure = { code: encoded.code, detail: encoded.detail, rank: this.#facts.name };
    }
  }

  /** The batch as the engine takes it; its form is checked like any payload from another rank. */
  #rowsOf({ batch, rows, inputs }: GroupBatch__Output): Result<readonly Row[], "BadFrame"> {
    if (batch !== this.#batch + 1) return refuse("BadFrame", `the leader sent batch ${batch} after ${this.#batch}`);
    if (rows.length === 0 || rows.length !== inputs.length)
      return refuse("BadFrame", `batch ${batch} has ${rows.length} rows and ${inputs.length} inputs`);
    const { engine } = this.#facts;
    const understood: Row[] = [];
    for (const [index, row] of rows.entries()) {
      const input = inputs[index] ?? null;
      const dtype = engine.first ? "u32" : input?.dtype === "f16" ? "f16" : "f32";
      const form = {
        dtype,
        rowsMax: engine.maxBatchRows,
        vocabularySize: engine.vocabularySize,
        columns: engine.hiddenSize,
      } as const;
      const values = parsePayload(input, form);
      if (!values.ok) return refuse("BadFrame", `batch ${batch}, row ${index}: ${values.detail}`);
      if (input?.rows !== row.tokenCount)
        return refuse(
          "BadFrame",
          `batch ${batch}, row ${index}: ${row.tokenCount} positions, ${input?.rows} rows of input`,
        );
      understood.push({ ...row, values: values.value, data: input.data });
    }
    return ok(understood);
  }

  /** The group is no more: slots are free, and no session can go on. */
  #reset(failure: { readonly code: string; readonly detail: string; readonly rank: string }): void {
    this.#batch = 0;
    this.#generation += 1;
    for (const session of this.#slots) this.#quietly(this.#engine.release(session));
    this.#slots.clear();
    for (const session of this.#sessions.values()) {
      session.failure ??= failure;
      session.changed();
    }
  }

  #expire(): void {
    const nowMs = this.#nowMs();
    for (const [id, session] of this.#sessions)
      if (session.pendingCount === 0 && nowMs - session.lastSeenMs > IDLE_SESSION_MS + 2 * SWEEP_MS)
        this.#sessions.delete(id);
  }

  /** A refusal here shows as the refusal of the batch that follows; an engine that ended is told to whoever started it. */
  #quietly(work: Promise<void>): void {
    work.catch(() => {});
  }
}
