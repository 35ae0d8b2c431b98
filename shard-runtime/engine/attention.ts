/**
 * Attention of a shard: KV cache, angles, and the graphs that every layer and session runs for itself, one for each kind
 * of attention in the model.
 *
 * Without attention of our own (native/attention.c) a decoded token is run as two rows, itself twice. With one row ONNX
 * Runtime would take a matrix-vector kernel, which adds in another order than the matrix kernel of a prompt's rows;
 * with two it gives the bits that prefilling the same tokens gives. So a session can be replayed or audited by prefill,
 * many rows at once, and be compared bit for bit. The second row is a copy of the first, not a neighbour's: its key and
 * value meet the first row with weight zero, and zero times a neighbour's NaN would be NaN. What it leaves in the cache
 * lies at the next position, which the next step overwrites.
 *
 * Ours takes a cache that is shorter than the session where attention has a window: positions go round and round in it, and
 * no bit changes. So layers with a window keep the window and the rows that come at once, and no more.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { present } from "../../core/assert.ts";
import { type KvDtype, WINDOWED_ROWS_MAX, keptPositions } from "../../core/kv-cache.ts";
import { lengthOf } from "../../core/ranges.ts";
import { paddedHeadSize } from "../../core/slice.ts";
import { BoundCache, type BoundGraphs, type RowRules } from "./bound-cache.ts";
import type { Device, DeviceBuffer } from "./device.ts";
import { type CachePart, attentionGraph, cacheParts } from "./graph/attention.ts";
import { rotaryTables } from "./graph/rotary.ts";
import { type Bound, type OrtSession, type OrtTensor, floats, integers } from "./ort.ts";
import { GRAPHS, attentionWidths } from "./program.ts";
import { SINKS_FILE, type ShardDescription } from "./shard.ts";

/** The rows of one session among the rows of a batch. */
export type PlacedRows = {
  readonly slot: number;
  readonly position: number; // of the first row, 0-based
  readonly rowStart: number;
  readonly rowCount: number;
};

export type AttentionOptions = {
  readonly shardDirectory: string;
  readonly contextLength: number; // positions of a session
  readonly slotCount: number;
  readonly kvDtype: KvDtype;
  readonly rules: RowRules;
};

type AttentionLayer = {
  readonly session: OrtSession;
  readonly inputs: Bound; // those that all slots share
  readonly rowCountMax: number; // of one session at once
  readonly caches: readonly (readonly CacheRoom[])[]; // by slot
};

type CacheRoom = { readonly part: CachePart; readonly buffer: DeviceBuffer; readonly dims: readonly number[] };

/** Prefill chunks come in few sizes at a time; each kept arrangement has one binding per layer. */
const KEPT_CHUNK_COUNT = 16;

export class Attention {
  readonly #device: Device;
  readonly #qkv: DeviceBuffer; // [rows, (heads + 2 × kvHeads) × headSize], filled by the caller
  readonly #attended: DeviceBuffer; // [rows, heads × headSize]
  readonly #layers: readonly AttentionLayer[];
  readonly #pair: { readonly qkv: DeviceBuffer; readonly attended: DeviceBuffer }; // two rows each
  readonly #copyCount: number; // of a decoded token
  readonly #lastPosition = integers(1);
  readonly #positionCount = integers(1);
  readonly #tensors: OrtTensor[] = [];
  readonly #decoding: BoundCache; // by slot
  readonly #chunks: BoundCache; // by slot, start and length

  constructor(
    device: Device,
    shard: ShardDescription,
    options: AttentionOptions & { readonly qkv: DeviceBuffer; readonly attended: DeviceBuffer },
  ) {
    const { slice, config } = shard;
    const widths = attentionWidths(config, slice);
    this.#device = device;
    this.#qkv = options.qkv;
    this.#attended = options.attended;
    this.#pair = { qkv: device.buffer(2, widths.qkv), attended: device.buffer(2, widths.attended) };
    this.#copyCount = options.rules.attention ? 1 : 2;
    this.#layers = this.#openLayers(shard, options);
    this.#decoding = new BoundCache(device, options.slotCount);
    this.#chunks = new BoundCache(device, KEPT_CHUNK_COUNT);
  }

  #openLayers({ config, layers, slice }: ShardDescription, options: AttentionOptions): readonly AttentionLayer[] {
    const device = this.#device;
    const { shardDirectory, contextLength, slotCount, kvDtype, rules } = options;
    const type = device.attentionType;
    const cacheType = kvDtype === "int8" ? kvDtype : type;
    const [kvHeadCount, headSize] = [slice.kvHeads.length, paddedHeadSize(config)];
    // One position more than the context where a token comes as two rows, for the second row of the last one.
    const positionCount = rules.attention ? contextLength : contextLength + 1;
    const places = {
      last_position: this.#keep(device.shared(this.#lastPosition, 1), [1]),
      position_count: this.#keep(device.shared(this.#positionCount, 1), []),
    };
    const kindOf = (index: number) => {
      const kind = present(config.attentionKinds[index], "a layer's kind of attention");
      const packed = join(shardDirectory, GRAPHS.attention(index));
      const session = device.session(cacheType === "f32" ? packed : attentionGraph(config, slice, kind, cacheType));
      const kept = rules.attention ? keptPositions(positionCount, kind.window) : positionCount;
      const rowCountMax = kept < positionCount ? WINDOWED_ROWS_MAX : Number.MAX_SAFE_INTEGER;
      if (kind.rope === undefined) return { session, kept, rowCountMax, inputs: places };
      const { cosine, sine } = rotaryTables(config, kind.rope, positionCount);
      const table = (angles: Float32Array) =>
        this.#keep(device.constant(angles, headSize / 2, type), [positionCount, headSize / 2]);
      return { session, kept, rowCountMax, inputs: { ...places, cosine: table(cosine), sine: table(sine) } };
    };
    const cache = (kept: number): readonly CacheRoom[] =>
      cacheParts(cacheType, headSize).map((part) => ({
        part,
        buffer: device.buffer(kvHeadCount * kept, part.width, part.type),
        dims: [1, kvHeadCount, kept, part.width],
      }));
    const kinds = new Map<number, ReturnType<typeof kindOf>>();
    const sinks = config.sinks ? readSinks(join(shardDirectory, SINKS_FILE)) : undefined;
    const headCount = lengthOf(slice.heads);
    return Array.from({ length: lengthOf(layers) }, (_, index) => {
      const kindIndex = present(config.layerKinds[layers.start + index], "a layer has a kind").attention;
      const kind = kinds.get(kindIndex) ?? kindOf(kindIndex);
      kinds.set(kindIndex, kind);
      const own = sinks?.subarray(index * headCount, (index + 1) * headCount);
      return {
        session: kind.session,
        rowCountMax: kind.rowCountMax,
        inputs:
          own === undefined
            ? kind.inputs
            : { ...kind.inputs, sinks: this.#keep(device.constant(own, headCount, type), [headCount]) },
        caches: Array.from({ length: slotCount }, () => cache(kind.kept)),
      };
    });
  }

  #keep(buffer: DeviceBuffer, dims: readonly number[]): OrtTensor {
    const tensor = this.#device.tensor(buffer, 0, dims);
    this.#tensors.push(tensor);
    return tensor;
  }

  /** From `qkv` to `attended` for the rows of one session in the layer at `index` of this shard. */
  run(index: number, { slot, position, rowStart, rowCount }: PlacedRows): void {
    const layer = present(this.#layers[index], "a layer of this shard");
    const most = Math.min(this.#device.attentionRowCountMax, layer.rowCountMax);
    for (let done = 0; done < rowCount; done += most) {
      const part = {
        slot,
        position: position + done,
        rowStart: rowStart + done,
        rowCount: Math.min(most, rowCount - done),
      };
      if (part.rowCount === 1) this.#runOne(index, part);
      else this.#runChunk(index, part);
    }
  }

  #runOne(index: number, { slot, position, rowStart }: PlacedRows): void {
    const bindings = this.#decoding.of(slot, (graphs) => {
      const qkv = graphs.rows(this.#pair.qkv, 0, this.#copyCount, true);
      this.#bind(graphs, slot, qkv, graphs.rows(this.#pair.attended, 0, this.#copyCount, true));
    });
    for (let copy = 0; copy < this.#copyCount; copy += 1)
      this.#device.copyRows(this.#qkv, rowStart, this.#pair.qkv, copy, 1);
    this.#place(position + this.#copyCount - 1);
    present(bindings[index], "one binding per layer").run();
    this.#device.copyRows(this.#pair.attended, 0, this.#attended, rowStart, 1);
  }

  #runChunk(index: number, { slot, position, rowStart, rowCount }: PlacedRows): void {
    const key = (slot * 2 ** 16 + rowStart) * 2 ** 16 + rowCount;
    const bindings = this.#chunks.of(key, (graphs) => {
      const qkv = graphs.rows(this.#qkv, rowStart, rowCount, true);
      this.#bind(graphs, slot, qkv, graphs.rows(this.#attended, rowStart, rowCount, true));
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
    for (const { session, inputs, caches } of this.#layers) {
      const rooms = present(caches[slot], "a slot has a cache").map(
        ({ part, buffer, dims }) => [part.name, graphs.tensor(buffer, 0, dims)] as const,
      );
      const past = Object.fromEntries(rooms.map(([name, tensor]) => [`past_${name}`, tensor]));
      graphs.bind(session, { ...inputs, ...past, qkv }, { attended, ...Object.fromEntries(rooms) });
    }
  }

  close(): void {
    this.#decoding.close();
    this.#chunks.close();
    for (const tensor of this.#tensors) tensor.close();
  }
}

function readSinks(path: string): Float32Array {
  const bytes = readFileSync(path);
  const sinks = floats(bytes.length / 4);
  new Uint8Array(sinks.buffer).set(bytes);
  return sinks;
}
