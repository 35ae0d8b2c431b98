/**
 * For attention.slow.test.ts, one variant a process: `node attention-run.ts LIBRARY THREADS`. Reads cases as a line of JSON,
 * runs each through a graph with one GroupQueryAttention over an empty cache, in one piece and then in pieces, and prints
 * the two results' bytes as base64, a line each.
 */
import { createInterface } from "node:readline";
import { present } from "../../../core/assert.ts";
import { attentionGraph, cacheParts } from "../graph/attention.ts";
import { Ort, type OrtTensor, floats, integers } from "../ort.ts";
import { type AttentionCase, configOf, inputsOf, sliceOf } from "./attention-cases.ts";

const [library = "", threads = "1"] = process.argv.slice(2);
const ort = new Ort({ threadCount: Number(threads), spin: false, products: library });

function runCase(given: AttentionCase, pieces: readonly number[]): Float32Array {
  const { rows, capacity, heads, kvHeads, headSize } = given;
  const [config, slice] = [configOf(given), sliceOf(given)];
  const graph = attentionGraph(config, slice, present(config.attentionKinds[0], "one kind"), given.kvDtype);
  const session = ort.session(graph);
  const { qkv, cosine, sine, sinks } = inputsOf(given);
  const off = <T extends Float32Array>(values: T): Float32Array => {
    const copy = floats(values.length);
    copy.set(values);
    return copy;
  };
  const [last, count] = [integers(1), integers(1)];
  const cache: Record<string, OrtTensor> = {};
  for (const { name, type, width } of cacheParts(given.kvDtype, headSize)) {
    const count = kvHeads * capacity * width;
    // What was never written must not be read: NaN, or the largest code.
    const room = type === "int8" ? new Int8Array(new ArrayBuffer(count)).fill(127) : floats(count).fill(Number.NaN);
    cache[name] = ort.tensor(room, [1, kvHeads, capacity, width]);
  }
  const tables = given.turns
    ? {
        cosine: ort.tensor(off(cosine), [rows, headSize / 2]),
        sine: ort.tensor(off(sine), [rows, headSize / 2]),
      }
    : {};
  const shared = {
    ...Object.fromEntries(Object.entries(cache).map(([name, tensor]) => [`past_${name}`, tensor])),
    last_position: ort.tensor(last, [1]),
    position_count: ort.tensor(count, []),
    ...tables,
    ...(given.sinks ? { sinks: ort.tensor(off(sinks), [heads]) } : {}),
  };
  const [width, outWidth] = [(heads + 2 * kvHeads) * headSize, heads * headSize];
  const all = new Float32Array(rows * outWidth);
  let start = 0;
  for (const wanted of pieces) {
    const length = Math.min(wanted, rows - start);
    if (length === 0) break;
    const input = off(qkv.subarray(start * width, (start + length) * width));
    const attended = floats(length * outWidth);
    last[0] = start + length - 1;
    count[0] = start + length;
    const tensors = {
      qkv: ort.tensor(input, [1, length, width]),
      attended: ort.tensor(attended, [1, length, outWidth]),
    };
    const binding = session.bind({ ...shared, qkv: tensors.qkv }, { attended: tensors.attended, ...cache });
    binding.run();
    binding.close();
    for (const tensor of Object.values(tensors)) tensor.close();
    all.set(attended, start * outWidth);
    start += length;
  }
  for (const tensor of Object.values(shared)) tensor.close();
  return all;
}

/** As many rows at once as the cache allows. */
function wholeOf({ rows, capacity, window = 0 }: AttentionCase): readonly number[] {
  if (capacity >= rows) return [rows];
  const most = capacity - window + 1;
  return new Array<number>(Math.ceil(rows / most)).fill(most);
}

for await (const line of createInterface({ input: process.stdin }))
  for (const given of JSON.parse(line) as readonly AttentionCase[])
    for (const pieces of [wholeOf(given), [3, ...new Array<number>(given.rows).fill(1)]])
      console.log(Buffer.from(runCase(given, pieces).buffer).toString("base64"));
ort.close();
