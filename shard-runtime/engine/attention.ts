/**
 * Attention of a shard: KV cache, angles, and the one graph that every layer and session runs for itself.
 *
 * A decoded token is run as two rows, itself twice. With one row the engine would take a matrix-vector kernel, which adds
 * in another order than the matrix kernel of a prompt's rows; with two it gives the bits that prefilling the same tokens
 * gives. So a session can be replayed or audited by prefill, many rows at once, and be compared bit for bit. The second
 * row is a copy of the first, not a neighbour's: its key and value meet the first row with weight zero, and zero times a
 * neighbour's NaN would be NaN. What it leaves in the cache lies at the next position, which the next step overwrites.
 */
import { join } from "node:path";
import { present } from "../../core/assert.ts";
import { lengthOf } from "../../core/ranges.ts";
import { paddedHeadSize } from "../../core/slice.ts";
import { BoundCache, type BoundGraphs } from "./bound-cache.ts";
import { attentionWidths } from "./graph/llama.ts";
import { rotaryTables } from "./graph/rotary.ts";
import { type Bound, type Ort, type OrtSession, type OrtTensor, floats, integers } from "./ort.ts";
import { GRAPHS } from "./pack-graphs.ts";
import type { ShardDescription } from "./shard.ts";

/** The rows of one session among the rows of a batch. */
export type PlacedRows = {
  readonly slot: number;
  readonly position: number; // of the first row, 0-based
  readonly rowStart: number;
  readonly rowCount: number;
};

/** Prefill chunks come in few sizes at a time; each kept arrangement has one binding per layer. */
const KEPT_CHUNK_COUNT = 16;

export class Attention {
  readonly qkv: Float32Array; // [rows, (heads + 2 × kvHeads) × headSize], filled by the caller
  readonly attended: Float32Array; // [rows, heads × headSize]
  readonly #session: OrtSession;
  readonly #widths: { readonly qkv: number; readonly attended: number };
  readonly #pair: { readonly qkv: Float32Array; readonly attended: Float32Array }; // two rows each
  readonly #keys: readonly Float32Array[]; // per layer [slots, kvHeads, positions, headSize]
  readonly #values: readonly Float32Array[];
  readonly #slotDims: readonly number[];
  readonly #lastPosition = integers(1);
  readonly #positionCount = integers(1);
  readonly #shared: Readonly<Record<"cosine" | "sine" | "last_position" | "position_count", OrtTensor>>;
  readonly #decoding: BoundCache; // by slot
  readonly #chunks: BoundCache; // by slot, start and length

  constructor(
    ort: Ort,
    shard: ShardDescription,
    options: {
      readonly shardDirectory: string;
      readonly contextLength: number;
      readonly slotCount: number;
      readonly rowCountMax: number;
    },
  ) {
    const { slice } = shard;
    const config = { ...shard.config, headSize: paddedHeadSize(shard.config) };
    this.#widths = attentionWidths(config, slice);
    this.qkv = floats(options.rowCountMax * this.#widths.qkv);
    this.attended = floats(options.rowCountMax * this.#widths.attended);
    this.#pair = { qkv: floats(2 * this.#widths.qkv), attended: floats(2 * this.#widths.attended) };
    this.#session = ort.session(join(options.shardDirectory, GRAPHS.attention));
    // One position more than the context, for the second row of its last token.
    const positionCount = options.contextLength + 1;
    this.#slotDims = [1, slice.kvHeads.length, positionCount, config.headSize];
    const valueCount = options.slotCount * this.#slotLength;
    const buffers = () => Array.from({ length: lengthOf(shard.layers) }, () => floats(valueCount));
    this.#keys = buffers();
    this.#values = buffers();
    const rope = present(shard.config.attentionKinds[0]?.rope, "one kind of attention, with positions");
    const { cosine, sine } = rotaryTables(shard.config, rope, positionCount);
    const tableDims = [positionCount, config.headSize / 2];
    this.#shared = {
      cosine: ort.tensor(cosine, tableDims),
      sine: ort.tensor(sine, tableDims),
      last_position: ort.tensor(this.#lastPosition, [1]),
      position_count: ort.tensor(this.#positionCount, []),
    };
    this.#decoding = new BoundCache(ort, options.slotCount);
    this.#chunks = new BoundCache(ort, KEPT_CHUNK_COUNT);
  }

  get #slotLength(): number {
    return this.#slotDims.reduce((a, b) => a * b, 1);
  }

  /** From `qkv` to `attended` for the rows of one session in the layer at `index` of this shard. */
  run(index: number, rows: PlacedRows): void {
    if (rows.rowCount === 1) this.#runPair(index, rows);
    else this.#runChunk(index, rows);
  }

  #runPair(index: number, { slot, position, rowStart }: PlacedRows): void {
    const bindings = this.#decoding.of(slot, (graphs) => {
      const qkv = graphs.rows(this.#pair.qkv, 0, 2, this.#widths.qkv);
      this.#bind(graphs, slot, qkv, graphs.rows(this.#pair.attended, 0, 2, this.#widths.attended));
    });
    const row = this.qkv.subarray(rowStart * this.#widths.qkv, (rowStart + 1) * this.#widths.qkv);
    this.#pair.qkv.set(row);
    this.#pair.qkv.set(row, this.#widths.qkv);
    this.#place(position + 1);
    present(bindings[index], "one binding per layer").run();
    this.attended.set(this.#pair.attended.subarray(0, this.#widths.attended), rowStart * this.#widths.attended);
  }

  #runChunk(index: number, { slot, position, rowStart, rowCount }: PlacedRows): void {
    const key = (slot * 2 ** 16 + rowStart) * 2 ** 16 + rowCount;
    const bindings = this.#chunks.of(key, (graphs) => {
      const qkv = graphs.rows(this.qkv, rowStart, rowCount, this.#widths.qkv);
      this.#bind(graphs, slot, qkv, graphs.rows(this.attended, rowStart, rowCount, this.#widths.attended));
    });
    this.#place(position + rowCount - 1);
    present(bindings[index], "one binding per layer").run();
  }

  #place(lastPosition: number): void {
    this.#lastPosition[0] = lastPosition;
    this.#positionCount[0] = lastPosition + 1;
  }

  /** One binding per layer, over the same rows and the layer's own cache of the slot. */
  #bind(graphs: BoundGraphs, slot: number, qkv: OrtTensor, attended: OrtTensor): void {
    const length = this.#slotLength;
    const view = (buffer: Float32Array) =>
      graphs.tensor(buffer.subarray(slot * length, (slot + 1) * length), this.#slotDims);
    for (const [index, keys] of this.#keys.entries()) {
      const key = view(keys);
      const value = view(present(this.#values[index], "keys and values"));
      const inputs: Bound = { ...this.#shared, qkv, past_key: key, past_value: value };
      graphs.bind(this.#session, inputs, { attended, key, value });
    }
  }

  close(): void {
    this.#decoding.close();
    this.#chunks.close();
    for (const tensor of Object.values(this.#shared)) tensor.close();
  }
}
