/** The engine of a segment as its leader sees it: alone, or with the followers in lock-step. */
import { lengthOf } from "../../core/ranges.ts";
import { RefusalError, type Refusal, type Result, ok, refuse } from "../../core/result.ts";
import type { Batch } from "../engine/engine.ts";
import type { EngineThread } from "../engine/engine-thread.ts";
import { Group } from "./group.ts";
import type { DialRank } from "./hand-off-link.ts";
import type { Address } from "./open-request.ts";
import { joinValues } from "./payload.ts";
import type { RankFacts } from "./rank-facts.ts";
import type { Part } from "./waiting-steps.ts";

export type SegmentOutput = {
  readonly hidden: Float32Array; // [rows, hiddenSize]; empty on the last segment
  readonly logits: readonly Float32Array[]; // whole vocabulary, one for each part that samples; last segment only
};

export class LeaderEngine {
  readonly #facts: RankFacts;
  readonly #engine: EngineThread;
  readonly #group: Group | undefined;
  /** What the followers' engines have yet to be told about slots. */
  readonly #acquired = new Set<string>();
  readonly #released = new Set<string>();
  #batch = 0;

  constructor(
    facts: RankFacts,
    engine: EngineThread,
    dial: DialRank,
    events: { onBroken(refusal: Refusal, lost: string): void; inUse(): boolean },
  ) {
    this.#facts = facts;
    this.#engine = engine;
    if (facts.rankCount === 1) return;
    this.#group = new Group(facts, dial, {
      onBatch: () => {},
      inUse: events.inUse,
      onBroken: (refusal, lost) => {
        // Followers that join anew hold nothing.
        this.#acquired.clear();
        this.#released.clear();
        this.#batch = 0;
        events.onBroken(refusal, lost);
      },
    });
  }

  get freeSlotCount(): number {
    return this.#engine.freeSlotCount;
  }

  /** A KV slot on every rank of the segment. */
  async acquire(session: string, group: readonly Address[]): Promise<Result<undefined>> {
    if (this.freeSlotCount === 0) return noSlot(this.#facts.engine.slotCount);
    const joined = await this.#group?.join(group);
    if (joined?.ok === false) return joined;
    try {
      await this.#engine.acquire(session);
    } catch (error) {
      if (error instanceof RefusalError && error.code === "NoFreeSlot") return noSlot(this.#facts.engine.slotCount);
      throw error;
    }
    this.#acquired.add(session);
    return ok(undefined);
  }

  release(session: string): void {
    void this.#engine.release(session).catch(() => {}); // an engine that ended says so to whoever started it
    // One that came and went between two batches is none of the followers' business.
    if (!this.#acquired.delete(session)) this.#released.add(session);
  }

  async run(parts: readonly Part[]): Promise<SegmentOutput> {
    const steps = parts.map(({ session, position, rowCount, sample }) => ({
      session: session.plan.id,
      position,
      rowCount,
      sample,
    }));
    const batch: Batch = { steps, input: joinValues(parts) };
    const group = this.#group;
    if (group === undefined) {
      const { hidden, logits } = await this.#engine.run(batch);
      return { hidden, logits: this.#whole([logits], parts) };
    }
    this.#batch += 1;
    const number = this.#batch;
    this.#tell(group, number, parts);
    let exchangeCount = 0;
    try {
      const { hidden, logits } = await this.#engine.run(batch, (partial, exchange) => {
        exchangeCount = exchange + 1;
        return group.allReduce(number, exchange, partial);
      });
      const sampleCount = this.#facts.engine.last ? parts.filter(({ sample }) => sample).length : 0;
      if (sampleCount === 0) return { hidden, logits: [] };
      const valueCounts = this.#facts.vocabularies.map((range) => sampleCount * lengthOf(range));
      return {
        hidden,
        logits: this.#whole(await group.gatherLogits(number, exchangeCount, logits, valueCounts), parts),
      };
    } catch (error) {
      // Nobody can say how far each follower got; begin anew.
      if (this.#batch === number) group.break(refuse("RankLost", "a batch of the segment failed"), this.#facts.name);
      throw error;
    }
  }

  close(): void {
    this.#group?.close();
  }

  #tell(group: Group, batch: number, parts: readonly Part[]): void {
    const columns = this.#facts.engine.first ? 1 : this.#facts.engine.hiddenSize;
    group.sendBatch({
      batch,
      rows: parts.map(({ session, position, rowCount, sample }) => ({
        session: session.plan.id,
        position,
        tokenCount: rowCount,
        sample,
      })),
      inputs: parts.map(({ session, rowCount, data }) => ({
        dtype: this.#facts.engine.first ? "u32" : session.plan.handOffDtype,
        rows: rowCount,
        columns,
        data,
      })),
      released: [...this.#released],
      acquired: [...this.#acquired],
    });
    this.#released.clear();
    this.#acquired.clear();
  }

  /** Logits over the whole vocabulary from the ranks' slices [sampled parts, slice], in rank order. */
  #whole(slices: readonly Float32Array[], parts: readonly Part[]): readonly Float32Array[] {
    const { last, vocabularySize } = this.#facts.engine;
    if (!last) return [];
    const sampled = parts.filter(({ sample }) => sample);
    const only = slices.length === 1 ? slices[0] : undefined;
    if (only !== undefined)
      return sampled.map((_, index) => only.subarray(index * vocabularySize, (index + 1) * vocabularySize));
    return sampled.map((_, index) => {
      const logits = new Float32Array(vocabularySize);
      for (const [rank, slice] of slices.entries()) {
        const range = this.#facts.vocabularies[rank];
        if (range !== undefined)
          logits.set(slice.subarray(index * lengthOf(range), (index + 1) * lengthOf(range)), range.start);
      }
      return logits;
    });
  }
}

const noSlot = (slotCount: number): Refusal =>
  refuse("NoSlot", `all ${slotCount} KV slots are taken; try again, another chain, or raise the model's slots`);
