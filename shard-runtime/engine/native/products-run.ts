/**
 * For products.slow.test.ts, one variant a process: `node products-run.ts LIBRARY THREADS`. Reads cases as a line of JSON, runs
 * each through a graph with one MatMulNBits, and prints the results' bytes as base64, a line each.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { FLOAT, GraphBuilder, UINT8 } from "../graph/onnx.ts";
import { Ort, floats } from "../ort.ts";
import { type ProductCase, inputsOf } from "./product-cases.ts";

const [library = "", threads = "1"] = process.argv.slice(2);
const ort = new Ort({ threadCount: Number(threads), spin: false, ...(library === "" ? {} : { products: library }) });
const directory = mkdtempSync(join(tmpdir(), "tessellate-products-"));

function runCase(product: ProductCase, index: number): Float32Array {
  const { rows, inputs, outputs, bits, block } = product;
  const { input, weights, scales, zeros } = inputsOf(product);
  const file = `${index}.bin`;
  const parts = [weights, new Uint8Array(scales.buffer), ...(zeros === undefined ? [] : [zeros])];
  writeFileSync(join(directory, file), Buffer.concat(parts));
  const blockCount = Math.ceil(inputs / block);
  const graph = new GraphBuilder("product");
  let offset = 0;
  const stored = (name: string, dataType: number, dims: readonly number[], part: Uint8Array) => {
    const place = { name, dataType, dims, file, offset, length: part.length };
    offset += part.length;
    return graph.stored(place);
  };
  const operands = [
    graph.input("x", [1, "S", inputs]),
    stored("weights", UINT8, [outputs, blockCount, (block * bits) / 8], weights),
    stored("scales", FLOAT, [outputs * blockCount], new Uint8Array(scales.buffer)),
    ...(zeros === undefined ? [] : [stored("zeros", UINT8, [zeros.length], zeros)]),
  ];
  const attributes = { K: inputs, N: outputs, bits, block_size: block, accuracy_level: 4 };
  graph.contrib("MatMulNBits", operands, ["y"], attributes);
  graph.output("y", [1, "S", outputs]);
  const path = join(directory, `${index}.onnx`);
  writeFileSync(path, graph.encode());
  const [x, y] = [floats(rows * inputs), floats(rows * outputs)];
  x.set(input);
  const tensors = { x: ort.tensor(x, [1, rows, inputs]), y: ort.tensor(y, [1, rows, outputs]) };
  const binding = ort.session(path).bind({ x: tensors.x }, { y: tensors.y });
  binding.run();
  binding.close();
  for (const tensor of Object.values(tensors)) tensor.close();
  return y;
}

try {
  for await (const line of createInterface({ input: process.stdin })) {
    const cases: readonly ProductCase[] = JSON.parse(line);
    for (const [index, product] of cases.entries()) {
      const y = runCase(product, index);
      console.log(Buffer.from(y.buffer, y.byteOffset, y.byteLength).toString("base64"));
    }
  }
} finally {
  ort.close();
  rmSync(directory, { recursive: true, force: true });
}
