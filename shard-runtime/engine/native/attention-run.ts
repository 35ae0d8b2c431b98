/**
 * For attention.test.ts, one variant a process: `node attention-run.ts LIBRARY THREADS`. Reads cases as a line of JSON,
 * runs each through a graph with one GroupQueryAttention over an empty cache, in one piece and then in pieces, and prints
 * the two results' bytes as base64, a line each.
 */
import { createInterface } from "node:readline";
import { present } from "../../../core/assert.ts";
import { attentionGraph } from "../graph/attention.ts";
import { Ort, floats, integers } from "../ort.ts";
import { type AttentionCase, configOf, inputsOf, sliceOf } from "./attention-cases.ts";

const [library = "", threads = "1"] = process.argv.slice(2);
const ort = new Ort({ threadCount: Number(threads), spin: false, products: library });

function runCase(given: AttentionCase, pieces: readonly number[]): Float32Array {
  const { rows, capacity, heads, kvHeads, headSize } = given;
  const [config, slice] = [configOf(given), sliceOf(given)];
  const graph = attentionGraph(config, slice, present(config.attentionKinds[0], "one kind"));
  const session = ort.session(graph);
  const { qkv, cosine, sine, sinks } = inputsOf(given);
  const off = <T extends Float32Array>(values: T): Float32Array => {
    const copy = floats(values.length);
    copy.set(values);
    return copy;
  };
  const [last, count] = [integers(1), integers(1)];
  const cacheDims = [1, kvHeads, capacity, headSize];
  const cache = () => ort.tensor(floats(kvHeads * capacity * headSize), cacheDims);
  const [key, value] = [cache(), cache()];
  const tables = given.turns
    ? {
        cosine: ort.tensor(off(cosine), [capacity, headSize / 2]),
        sine: ort.tensor(off(sine), [capacity, headSize / 2]),
      }
    : {};
  const shared = {
    past_key: key,
    past_value: value,
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
    const binding = session.bind({ ...shared, qkv: tensors.qkv }, { attended: tensors.attended, key, value });
    binding.run();
    binding.close();
    for (const tensor of Object.values(tensors)) tensor.close();
    all.set(attended, start * outWidth);
    start += length;
  }
  for (const tensor of Object.values(shared)) tensor.close();
  return all;
}

for await (const line of createInterface({ input: process.stdin }))
  for (const given of JSON.parse(line) as readonly AttentionCase[])
    for (const pieces of [[given.rows], [3, ...new Array<number>(given.rows).fill(1)]])
      console.log(Buffer.from(runCase(given, pieces).buffer).toString("base64"));
ort.close();
