/**
 * A model of whole numbers: six layers over eight columns, everything modulo 251, so that sums are exact in any order and
 * in any dtype. It has what a real one has — an embedding and a head split by vocabulary, two partial sums a layer, a cache
 * that makes every position depend on all before it — and can be held still to see what a rank does meanwhile.
 */
import { present } from "../../core/assert.ts";
import type { LayerRange, Range } from "../../core/ranges.ts";
import { splitByWeights } from "../../core/ranges.ts";
import { RefusalError, refuse } from "../../core/result.ts";
import type { Batch, EngineFacts, Output } from "../../shard-runtime/engine/engine.ts";
import type { EngineThread, Exchange } from "../../shard-runtime/engine/engine-thread.ts";

export const LAYER_COUNT = 6;
export const HIDDEN_SIZE = 8;
export const VOCABULARY_SIZE = 37;
const PRIME = 251;

const noise = (...numbers: readonly number[]): number =>
  numbers.reduce((mixed, number) => Math.imul(mixed ^ (number + 0x9e37), 0x85eb_ca6b) ^ (mixed >>> 13), 7) >>> 8;
const weight = (layer: number, from: number, to: number): number => noise(layer, from, to) % 7;
const embedding = (token: number, column: number): number => noise(token, column, 99) % PRIME;
const headWeight = (token: number, column: number): number => noise(token, column, 77) % 11;

type Cache = { position: number; readonly state: Float32Array[] };

export type FakeShard = {
  readonly layers: LayerRange;
  readonly rankIndex: number;
  readonly sliceWeights: readonly number[];
  readonly slotCount?: number;
  readonly contextLength?: number;
  readonly maxBatchRows?: number;
};

export const columnsOf = (weights: readonly number[]): readonly Range[] => splitByWeights(HIDDEN_SIZE, weights);
export const vocabulariesOf = (weights: readonly number[]): readonly Range[] =>
  splitByWeights(VOCABULARY_SIZE, weights);

export class FakeEngine implements EngineThread {
  readonly facts: EngineFacts;
  readonly ended: Promise<Error | undefined>;
  /** Rows of every batch that ran, and how many sessions each had. */
  readonly batches: { readonly rows: number; readonly steps: number }[] = [];
  /** Awaited before each batch. */
  before: (batch: Batch) => Promise<void> = async () => {};
  readonly #columns: Range;
  readonly #caches = new Map<string, Cache>();
  #queue: Promise<unknown> = Promise.resolve();
  #end: (error: Error | undefined) => void = () => {};

  constructor({ layers, rankIndex, sliceWeights, slotCount = 8, contextLength = 512, maxBatchRows = 64 }: FakeShard) {
    this.ended = new Promise((resolve) => (this.#end = resolve));
    this.#columns = present(columnsOf(sliceWeights)[rankIndex], "a rank has columns");
    this.facts = {
      layers,
      first: layers.start === 0,
      last: layers.end === LAYER_COUNT,
      rankIndex,
      rankCount: sliceWeights.length,
      hiddenSize: HIDDEN_SIZE,
      vocabularySize: VOCABULARY_SIZE,
      vocabulary: present(vocabulariesOf(sliceWeights)[rankIndex], "a rank has rows of the head"),
      contextLength,
      slotCount,
      maxBatchRows,
      shardDigest: `sha256:${noise(layers.start, layers.end, rankIndex).toString(16).padStart(64, "0")}`,
      driftClass: "fake/whole-numbers",
    };
  }

  get freeSlotCount(): number {
    return this.facts.slotCount - this.#caches.size;
  }

  acquire(session: string): Promise<void> {
    return this.#enqueue(async () => {
      if (this.freeSlotCount === 0) throw new RefusalError(refuse("NoFreeSlot", "all taken"));
      const state = Array.from({ length: LAYER_COUNT }, () => new Float32Array(HIDDEN_SIZE));
      if (!this.#caches.has(session)) this.#caches.set(session, { position: 0, state });
    });
  }

  release(session: string): Promise<void> {
    return this.#enqueue(async () => void this.#caches.delete(session));
  }

  run(batch: Batch, exchange?: Exchange): Promise<Output> {
    return this.#enqueue(async () => {
      await this.before(batch);
      let exchangeIndex = 0;
      const sum = async (partial: Float32Array): Promise<Float32Array> => {
        if (this.facts.rankCount > 1) await present(exchange, "several ranks exchange")(partial, exchangeIndex++);
        return partial;
      };
      return this.#forward(batch, sum);
    });
  }

  close(): Promise<void> {
    this.#end(undefined);
    return Promise.resolve();
  }

  /** As if the native engine had crashed. */
  die(): void {
    this.#end(new Error("the engine died"));
  }

  async #forward({ steps, input }: Batch, sum: (partial: Float32Array) => Promise<Float32Array>): Promise<Output> {
    for (const { session, position } of steps)
      if (this.#caches.get(session)?.position !== position)
        throw new RefusalError(refuse("WrongPosition", `${session} is not at ${position}`));
    this.batches.push({ rows: steps.reduce((total, step) => total + step.rowCount, 0), steps: steps.length });
    let rows = input instanceof Uint32Array ? await sum(this.#embed(input)) : Float32Array.from(input);
    for (let layer = this.facts.layers.start; layer < this.facts.layers.end; layer += 1) {
      rows = await sum(this.#multiply(rows, layer));
      this.#remember(steps, rows, layer);
      rows = (await sum(this.#multiply(rows, layer + 100))).map((value) => value % PRIME);
    }
    for (const { session, rowCount } of steps) present(this.#caches.get(session), "checked above").position += rowCount;
    if (!this.facts.last) return { hidden: rows, logits: new Float32Array(0) };
    return { hidden: new Float32Array(0), logits: this.#head(steps, rows) };
  }

  #embed(tokens: Uint32Array): Float32Array {
    const rows = new Float32Array(tokens.length * HIDDEN_SIZE);
    const { start, end } = this.facts.vocabulary;
    for (const [row, token] of tokens.entries())
      if (token >= start && token < end)
        for (let column = 0; column < HIDDEN_SIZE; column += 1)
          rows[row * HIDDEN_SIZE + column] = embedding(token, column);
    return rows;
  }

  /** This rank's share of a product: from its own columns only. */
  #multiply(rows: Float32Array, layer: number): Float32Array {
    const out = new Float32Array(rows.length);
    for (let row = 0; row < rows.length; row += HIDDEN_SIZE)
      for (let to = 0; to < HIDDEN_SIZE; to += 1)
        for (let from = this.#columns.start; from < this.#columns.end; from += 1)
          out[row + to] = (out[row + to] ?? 0) + weight(layer, from, to) * ((rows[row + from] ?? 0) % PRIME);
    return out;
  }

  /** Adds what came before, row after row, and remembers. */
  #remember(steps: Batch["steps"], rows: Float32Array, layer: number): void {
    let row = 0;
    for (const { session, rowCount } of steps) {
      const state = present(this.#caches.get(session)?.state[layer], "a session has a cache for every layer");
      for (const end = row + rowCount; row < end; row += 1)
        for (let column = 0; column < HIDDEN_SIZE; column += 1) {
          const at = row * HIDDEN_SIZE + column;
          rows[at] = ((rows[at] ?? 0) + 3 * (state[column] ?? 0)) % PRIME;
          state[column] = ((state[column] ?? 0) + (rows[at] ?? 0) + 1) % PRIME;
        }
    }
  }

  #head(steps: Batch["steps"], rows: Float32Array): Float32Array {
    const logits: number[] = [];
    let row = 0;
    for (const { rowCount, sample } of steps) {
      row += rowCount;
      if (!sample) continue;
      for (let token = this.facts.vocabulary.start; token < this.facts.vocabulary.end; token += 1) {
        let logit = 0;
        for (let column = 0; column < HIDDEN_SIZE; column += 1)
          logit += headWeight(token, column) * (rows[(row - 1) * HIDDEN_SIZE + column] ?? 0);
        logits.push((logit % 1009) / 64);
      }
    }
    return Float32Array.from(logits);
  }

  #enqueue<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#queue.then(work);
    this.#queue = result.catch(() => {});
    return result;
  }
}

/** What a chain must answer, greedily: the whole model as one engine. */
export async function referenceTokens(prompt: readonly number[], count: number): Promise<readonly number[]> {
  const engine = new FakeEngine({ layers: { start: 0, end: LAYER_COUNT }, rankIndex: 0, sliceWeights: [1] });
  await engine.acquire("reference");
  const tokens = [...prompt];
  let input = Uint32Array.from(prompt);
  while (tokens.length < prompt.length + count) {
    const position = tokens.length - input.length;
    const { logits } = await engine.run({
      steps: [{ session: "reference", position, rowCount: input.length, sample: true }],
      input,
    });
    const token = logits.indexOf(Math.max(...logits));
    tokens.push(token);
    input = Uint32Array.of(token);
  }
  return tokens.slice(prompt.length);
}
