/**
 * One machine that plays a cluster of unlike ones: a rank takes at least as long as the node that it plays would, and holds
 * back what it sends for as long as the way would take. Local mode only; what is computed, signed and sent is the same. See
 * docs/simulation.md.
 */
import type { Clock } from "../core/clock.ts";
import type { ModelConfig } from "../core/model-config.ts";
import type { RankConfig, Rehearsal } from "../core/rank-config.ts";
import { type Slice, shardBytes } from "../core/slice.ts";
import type { EngineThread } from "./engine/engine-thread.ts";

/** What the engine reads of its weights in a batch. */
export type PlayedWeights = { readonly layerBytes: number; readonly headBytes: number };

export function playedWeights(
  { layers, quantization }: Pick<RankConfig, "layers" | "quantization">,
  model: ModelConfig,
  slice: Slice,
): PlayedWeights {
  const bytes = (last: boolean) => shardBytes(model, layers, slice, quantization, { first: false, last });
  return {
    layerBytes: bytes(false),
    headBytes: layers.end === model.layerCount ? bytes(true) - bytes(false) : 0,
  };
}

/** The engine as the played node has it: slower, never faster. Waiting for other ranks counts as nobody's work. */
export function rehearsedEngine(
  engine: EngineThread,
  { bytesPerSecond, rowBytesPerSecond }: Rehearsal,
  { layerBytes, headBytes }: PlayedWeights,
  clock: Clock,
): EngineThread {
  const msOf = (rowCount: number, sampleCount: number): number => {
    const head = sampleCount === 0 ? 0 : headBytes;
    const read = (layerBytes + head) / bytesPerSecond;
    const multiplied = (rowCount * layerBytes + sampleCount * head) / rowBytesPerSecond;
    return 1000 * (read + multiplied);
  };
  let busy = Promise.resolve(); // until the batch before is over, as others see it
  return {
    facts: engine.facts,
    get freeSlotCount() {
      return engine.freeSlotCount;
    },
    acquire: (session) => engine.acquire(session),
    release: (session) => engine.release(session),
    run: async (batch, exchange) => {
      const before = busy;
      const startedMs = clock.monotonicMs();
      let elsewhereMs = 0;
      const output = await engine.run(
        batch,
        exchange === undefined
          ? undefined
          : async (partial, index) => {
              const sinceMs = clock.monotonicMs();
              await before;
              await exchange(partial, index);
              elsewhereMs += clock.monotonicMs() - sinceMs;
            },
      );
      const rowCount = batch.steps.reduce((sum, step) => sum + step.rowCount, 0);
      const sampleCount = batch.steps.filter(({ sample }) => sample).length;
      const leftMs = msOf(rowCount, sampleCount) - (clock.monotonicMs() - startedMs - elsewhereMs);
      busy = leftMs > 0 ? clock.sleep(leftMs) : Promise.resolve();
      await busy;
      return output;
    },
    close: () => engine.close(),
    ended: engine.ended,
  };
}
