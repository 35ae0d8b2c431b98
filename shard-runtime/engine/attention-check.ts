/**
 * Whether a device's attention is attention: run over fixed numbers with the model's own window, soft cap, sinks and
 * angles, and compared with the definition. Kernels have been seen to ignore what they do not know (WebGPU's, a soft cap)
 * and to be wrong where an adapter is not as they take it to be (WebGPU's for 32 rows and more, on SwiftShader with its
 * four lanes), each without a word.
 */
import { present } from "../../core/assert.ts";
import type { AttentionKind, ModelConfig } from "../../core/model-config.ts";
import { type Slice, cutSlices, paddedHeadSize } from "../../core/slice.ts";
import type { Device, DeviceBuffer } from "./device.ts";
import { attentionGraph } from "./graph/attention.ts";
import { rotaryTables } from "./graph/rotary.ts";
import { type OrtTensor, floats, integers } from "./ort.ts";

/** Rows of one session at a time, tried from the best down; each adds up to POSITION_COUNT with a token at the end. */
const PLANS: readonly { readonly rowCountMax: number; readonly rowCounts: readonly number[] }[] = [
  { rowCountMax: Number.MAX_SAFE_INTEGER, rowCounts: [64, 13, 2] },
  { rowCountMax: 16, rowCounts: [16, 16, 16, 16, 13, 2] },
];
const POSITION_COUNT = 79;
/** Of the largest value: sums of f32 in another order, or eleven bits in scores of several units. */
const ERROR_MAX = { f32: 1e-3, f16: 5e-2 } as const;
/** Scores as wide as this (or as the soft cap) tell tokens apart. */
const SCORE_SPREAD = 3;

/** A driver does not change under a process. */
const known = new Map<string, number>();

/** How many rows of one session the device's attention may be given at once for this model; 0 where it is never right. */
export function attentionRowCountMax(device: Device, config: ModelConfig): number {
  const { headCount, kvHeadCount, headSize, attentionKinds, attentionScale, attentionSoftcap, sinks } = config;
  const shape = [headCount / kvHeadCount, headSize, attentionKinds, attentionScale, attentionSoftcap, sinks];
  const key = `${device.name} ${device.attentionType} ${JSON.stringify(shape)}`;
  const rowCount = known.get(key) ?? tried(device, config);
  known.set(key, rowCount);
  return rowCount;
}

function tried(device: Device, config: ModelConfig): number {
  const slice = oneGroup(config);
  const used = new Set(config.layerKinds.map(({ attention }) => attention));
  const cases = [...used].map((index) => new Case(config, slice, present(config.attentionKinds[index], "a kind")));
  for (const { rowCountMax, rowCounts } of PLANS)
    if (cases.every((each) => each.errorOn(device, rowCounts) <= ERROR_MAX[device.attentionType])) return rowCountMax;
  return 0;
}

/** One KV head and the query heads that read it: what a kernel does with each group alike. */
function oneGroup(config: ModelConfig): Slice {
  const whole = present(cutSlices(config, [1])[0], "a model in one piece");
  return { ...whole, heads: { start: 0, end: config.headCount / config.kvHeadCount }, kvHeads: [0] };
}

class Case {
  readonly #config: ModelConfig;
  readonly #slice: Slice;
  readonly #kind: AttentionKind;
  readonly #headSize: number;
  readonly #headCount: number;
  readonly #qkv: Float32Array<ArrayBuffer>; // [positions, (heads + 2) × headSize]
  readonly #sinks: Float32Array<ArrayBuffer>; // [heads]
  readonly #largest: number;
  readonly #tables: { readonly cosine: Float32Array; readonly sine: Float32Array } | undefined;
  #defined: Float32Array | undefined;

  constructor(config: ModelConfig, slice: Slice, kind: AttentionKind) {
    this.#config = config;
    this.#slice = slice;
    this.#kind = kind;
    this.#headSize = paddedHeadSize(config);
    this.#headCount = slice.heads.end;
    // Scores of values spread evenly to ± a have a standard deviation of a² × scale × √headSize / 3.
    const spread = config.attentionSoftcap ?? SCORE_SPREAD;
    this.#largest = Math.sqrt((3 * spread) / (config.attentionScale * Math.sqrt(this.#headSize)));
    this.#qkv = this.#values(POSITION_COUNT * (this.#headCount + 2) * this.#headSize);
    this.#sinks = this.#values(this.#headCount);
    this.#tables = kind.rope && rotaryTables(config, kind.rope, POSITION_COUNT);
  }

  /** Multiples of the golden ratio never repeat, and of its square neither: no row is like another. */
  #values(count: number): Float32Array<ArrayBuffer> {
    const values = floats(count);
    for (let at = 0; at < count; at += 1)
      values[at] = (((at * 0.618_033_988_75 + at * at * 0.000_137) % 1) * 2 - 1) * this.#largest;
    return values;
  }

  /** The largest difference from the definition, as a part of the largest value. NaN and failures are infinite. */
  errorOn(device: Device, rowCounts: readonly number[]): number {
    this.#defined ??= this.#attend();
    const defined = this.#defined;
    const given = this.#run(device, rowCounts);
    let worst = 0;
    for (const [at, value] of given.entries()) {
      const error = Math.abs(value - (defined[at] ?? 0)) / this.#largest;
      worst = Number.isNaN(error) ? Number.POSITIVE_INFINITY : Math.max(worst, error);
    }
    return worst;
  }

  #run(device: Device, rowCounts: readonly number[]): Float32Array {
    const type = device.attentionType;
    const [headCount, headSize] = [this.#headCount, this.#headSize];
    const attended = floats(POSITION_COUNT * headCount * headSize);
    const [last, count] = [integers(1), integers(1)];
    const tensors: OrtTensor[] = [];
    const tensor = (buffer: DeviceBuffer, startRow: number, dims: readonly number[]): OrtTensor => {
      const made = device.tensor(buffer, startRow, dims);
      tensors.push(made);
      return made;
    };
    const table = (values: Float32Array) =>
      tensor(device.constant(values, headSize / 2, type), 0, [POSITION_COUNT, headSize / 2]);
    const cache = () => tensor(device.buffer(POSITION_COUNT, headSize, type), 0, [1, 1, POSITION_COUNT, headSize]);
    const [key, value] = [cache(), cache()];
    const inputs = {
      past_key: key,
      past_value: value,
      last_position: tensor(device.shared(last, 1), 0, [1]),
      position_count: tensor(device.shared(count, 1), 0, []),
      ...(this.#tables && { cosine: table(this.#tables.cosine), sine: table(this.#tables.sine) }),
      ...(this.#config.sinks && { sinks: tensor(device.constant(this.#sinks, headCount, type), 0, [headCount]) }),
    };
    const from = device.shared(this.#qkv, (headCount + 2) * headSize);
    const to = device.shared(attended, headCount * headSize);
    const session = device.session(attentionGraph(this.#config, this.#slice, this.#kind, type));
    let position = 0;
    for (const rowCount of rowCounts) {
      last[0] = position + rowCount - 1;
      count[0] = position + rowCount;
      const qkv = tensor(from, position, [1, rowCount, from.width]);
      const out = tensor(to, position, [1, rowCount, to.width]);
      const binding = session.bind({ ...inputs, qkv }, { attended: out, key, value });
      binding.run();
      binding.close();
      position += rowCount;
    }
    for (const each of tensors) each.close();
    return attended;
  }

  /** Scaled dot-product attention as it is defined, in double precision. */
  #attend(): Float32Array {
    const [headCount, headSize] = [this.#headCount, this.#headSize];
    const attended = new Float32Array(POSITION_COUNT * headCount * headSize);
    for (let head = 0; head < headCount; head += 1)
      for (let position = 0; position < POSITION_COUNT; position += 1) {
        const row = this.#attendOne(head, position);
        attended.set(row, (position * headCount + head) * headSize);
      }
    return attended;
  }

  #attendOne(head: number, position: number): readonly number[] {
    const { attentionScale, attentionSoftcap: cap, sinks } = this.#config;
    const first = Math.max(0, position + 1 - (this.#kind.window ?? POSITION_COUNT));
    const query = this.#turned(position, head);
    const scores: number[] = [];
    for (let at = first; at <= position; at += 1) {
      const score = this.#turned(at, this.#headCount).reduce((sum, each, i) => sum + each * (query[i] ?? 0), 0);
      scores.push(cap === undefined ? score * attentionScale : cap * Math.tanh((score * attentionScale) / cap));
    }
    const sink = sinks ? [this.#sinks[head] ?? 0] : [];
    const largest = Math.max(...scores, ...sink);
    const weights = scores.map((score) => Math.exp(score - largest));
    const total = [...weights, ...sink.map((score) => Math.exp(score - largest))].reduce((a, b) => a + b, 0);
    const row = new Array<number>(this.#headSize).fill(0);
    for (const [index, weight] of weights.entries())
      for (const [i, each] of this.#head(first + index, this.#headCount + 1).entries())
        row[i] = (row[i] ?? 0) + (weight / total) * each;
    return row;
  }

  /** Values of one head of a position: queries, then the key, then the value. */
  #head(position: number, head: number): Float32Array {
    const start = (position * (this.#headCount + 2) + head) * this.#headSize;
    return this.#qkv.subarray(start, start + this.#headSize);
  }

  #turned(position: number, head: number): readonly number[] {
    const values = this.#head(position, head);
    const tables = this.#tables;
    if (tables === undefined) return [...values];
    const half = this.#headSize / 2;
    return Array.from(values, (value, i) => {
      const pair = position * half + (i % half);
      const other = (i < half ? -1 : 1) * (values[(i + half) % this.#headSize] ?? 0);
      return value * (tables.cosine[pair] ?? 1) + other * (tables.sine[pair] ?? 0);
    });
  }
}
