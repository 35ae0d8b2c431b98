/** What we rely on the native engine for, checked on the machine that runs the tests. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { present } from "../../core/assert.ts";
import { FLOAT, GraphBuilder, INT32, UINT8 } from "./graph/onnx.ts";
import { Ort, type OrtSession, floats, integers } from "./ort.ts";
import { type BlockBits, dequantizeRows, quantizeRows } from "./quantize.ts";

/** Other processors' kernels may round inputs by the row instead of by the block. */
const PRODUCT_ERROR_MAX = process.arch === "x64" ? 1e-5 : 2e-2;

let state = 11;
/** Roughly normal, from a linear congruential generator. */
const random = (count: number): Float32Array =>
  Float32Array.from({ length: count }, () => {
    let sum = 0;
    for (let i = 0; i < 6; i += 1) {
      state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff;
      sum += state / 2 ** 31 - 0.5;
    }
    return sum;
  });

describe("the native engine", () => {
  let ort: Ort;
  let folder: string;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "tessellate-ort-"));
    ort = new Ort({ threadCount: 2, spin: false });
  });
  after(async () => {
    ort.close();
    await rm(folder, { recursive: true });
  });

  async function session(graph: GraphBuilder): Promise<OrtSession> {
    const path = join(folder, "graph.onnx");
    await writeFile(path, graph.encode());
    return ort.session(path);
  }

  it("tells its version and what it was built for", () => {
    expect(ort.version).to.match(/^1\.\d+\.\d+$/);
    expect(ort.providers).to.include("CPUExecutionProvider");
  });

  it("names the file that it cannot load", () => {
    expect(() => ort.session("/nowhere/body.onnx")).to.throw(/^\/nowhere\/body\.onnx cannot be loaded: .*exist/);
  });

  it("writes the same graph as the same bytes", () => {
    const build = () => {
      const graph = new GraphBuilder("g");
      graph.node("Add", [graph.input("a", [1, "S"]), graph.input("b", [1, "S"])], ["c"]);
      graph.output("c", [1, "S"]);
      return graph.encode();
    };
    expect(build()).to.deep.equal(build());
  });

  for (const bits of [4, 8] as const)
    for (const [inputCount, blockSize] of [
      [38, 16],
      [192, 64],
      [512, 32],
      [1024, 128],
    ] as const)
      describe(`${bits}-bit products, ${inputCount} inputs in blocks of ${blockSize}`, () => {
        const ROWS = 9;
        const outputCount = 100;
        const inputs = random(ROWS * inputCount);
        let product: (rows: readonly number[]) => Float32Array;
        let weights: Float32Array;
        before(async () => {
          ({ product, weights } = await quantizedProduct(bits, inputCount, outputCount, blockSize));
        });

        it("are those of the rounded weights and of inputs rounded to 8 bits in the same blocks", () => {
          const rounded = inputs.slice();
          for (let start = 0; start < rounded.length; start += inputCount)
            for (let at = 0; at < inputCount; at += blockSize) {
              const block = rounded.subarray(start + at, start + Math.min(at + blockSize, inputCount));
              const step = Math.max(...block.map(Math.abs)) / 127;
              block.set(block.map((value) => Math.round(value / step) * step));
            }
          const expected = multiply(rounded, weights, inputCount);
          const error = product([...Array(ROWS).keys()]).map((value, index) => value - (expected[index] ?? 0));
          expect(Math.hypot(...error) / Math.hypot(...expected)).to.be.below(PRODUCT_ERROR_MAX);
        });

        it("of a row are the same bits in any even number of rows", () => {
          const row = product([4, 4]).slice(0, outputCount);
          for (const rows of [
            [4, 1],
            [0, 4],
            [8, 7, 4, 2],
            [1, 2, 3, 5, 6, 4],
            [0, 1, 2, 3, 4, 5, 6, 7],
          ]) {
            const at = rows.indexOf(4) * outputCount;
            expect(product(rows).slice(at, at + outputCount)).to.deep.equal(row);
          }
        });

        async function quantizedProduct(width: BlockBits, inputWidth: number, outputWidth: number, block: number) {
          const quantized = quantizeRows(random(outputWidth * inputWidth), inputWidth, block, width);
          const bytes = Buffer.concat([quantized.values, Buffer.from(quantized.scales.buffer)]);
          const file = `weights-${width}-${inputWidth}.bin`;
          await writeFile(join(folder, file), bytes);
          const blockCount = Math.ceil(inputWidth / block);
          const length = quantized.values.length;
          const dims = [outputWidth, blockCount, (block * width) / 8];
          const scales = { file, offset: length, length: bytes.length - length };
          const graph = new GraphBuilder("product");
          const operands = [
            graph.input("x", ["S", inputWidth]),
            graph.stored({ name: "w", dataType: UINT8, dims, file, offset: 0, length }),
            graph.stored({ name: "s", dataType: FLOAT, dims: [outputWidth * blockCount], ...scales }),
          ];
          const attributes = { K: inputWidth, N: outputWidth, bits: width, block_size: block, accuracy_level: 4 };
          graph.contrib("MatMulNBits", operands, ["y"], attributes);
          graph.output("y", ["S", outputWidth]);
          const loaded = await session(graph);
          return {
            weights: dequantizeRows(quantized, inputWidth, block, width),
            product: (rows: readonly number[]) => {
              const x = floats(rows.length * inputWidth);
              for (const [at, row] of rows.entries())
                x.set(inputs.subarray(row * inputWidth, (row + 1) * inputWidth), at * inputWidth);
              const y = floats(rows.length * outputWidth);
              const tensors = {
                x: ort.tensor(x, [rows.length, inputWidth]),
                y: ort.tensor(y, [rows.length, outputWidth]),
              };
              const binding = loaded.bind({ x: tensors.x }, { y: tensors.y });
              binding.run();
              binding.close();
              tensors.x.close();
              tensors.y.close();
              return y;
            },
          };
        }
      });

  it("attention gives a token as one of two rows the bits that a prompt's row gets", async () => {
    const [headCount, headSize, positionCount] = [4, 32, 50];
    const width = 3 * headCount * headSize;
    const graph = new GraphBuilder("attention");
    const kvDims = [1, headCount, "T", headSize];
    const names = [graph.input("qkv", [1, "S", width]), "", "", graph.input("pk", kvDims), graph.input("pv", kvDims)];
    names.push(graph.input("last", [1], INT32), graph.input("count", [], INT32));
    graph.contrib("GroupQueryAttention", names, ["y", "k", "v"], { num_heads: headCount, kv_num_heads: headCount });
    graph.output("y", [1, "S", headCount * headSize]);
    for (const name of ["k", "v"]) graph.output(name, kvDims);
    const loaded = await session(graph);
    const qkv = random(positionCount * width);
    const newCache = () => [0, 1].map(() => floats(headCount * (positionCount + 1) * headSize));
    const attend = (cache: readonly Float32Array[], past: number, rows: Float32Array) => {
      const rowCount = rows.length / width;
      const x = floats(rows.length);
      x.set(rows);
      const y = floats(rowCount * headCount * headSize);
      const [key, value] = cache.map((each) => ort.tensor(each, [1, headCount, positionCount + 1, headSize]));
      const [k, v] = [present(key, "keys"), present(value, "values")];
      const last = integers(1).fill(past + rowCount - 1);
      const count = integers(1).fill(past + rowCount);
      loaded
        .bind(
          {
            qkv: ort.tensor(x, [1, rowCount, width]),
            pk: k,
            pv: v,
            last: ort.tensor(last, [1]),
            count: ort.tensor(count, []),
          },
          { y: ort.tensor(y, [1, rowCount, headCount * headSize]), k, v },
        )
        .run();
      return y;
    };
    const whole = attend(newCache(), 0, qkv);
    const cache = newCache();
    attend(cache, 0, qkv.subarray(0, 20 * width));
    for (let position = 20; position < positionCount; position += 1) {
      const row = qkv.subarray(position * width, (position + 1) * width);
      const pair = attend(cache, position, Float32Array.of(...row, ...row));
      const length = headCount * headSize;
      expect(pair.slice(0, length)).to.deep.equal(whole.slice(position * length, (position + 1) * length));
    }
  });
});

/** The obvious product: rows [n, inputs] times weights [outputs, inputs], in double precision. */
function multiply(rows: Float32Array, weights: Float32Array, inputCount: number): Float32Array {
  const outputCount = weights.length / inputCount;
  return Float32Array.from({ length: (rows.length / inputCount) * outputCount }, (_, index) => {
    const [row, output] = [Math.floor(index / outputCount) * inputCount, (index % outputCount) * inputCount];
    let sum = 0;
    for (let i = 0; i < inputCount; i += 1) sum += (rows[row + i] ?? 0) * (weights[output + i] ?? 0);
    return sum;
  });
}
