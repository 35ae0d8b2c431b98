/**
 * A few products and norms over fixed numbers, run on the device itself: two devices of one name that round differently
 * (another driver, another path through the kernels) give other bits, and so another drift class. Equal bits here do not
 * prove equal bits everywhere; attention is not among what is run.
 */
import { createHash } from "node:crypto";
import type { Device } from "./device.ts";
import { FLOAT, FLOAT16, GraphBuilder, UINT8 } from "./graph/onnx.ts";
import { type OrtTensor, type TensorArray, floats } from "./ort.ts";

const WIDTH = 64;
const BLOCK_SIZE = 32;
const BLOCK_COUNT = WIDTH / BLOCK_SIZE;
const BLOCK_BYTES = BLOCK_SIZE / 2;
/** A decoded token's two rows, and as many as take the kernels of a prompt. */
const ROW_COUNTS = [2, 40];
const DIGEST_CHARACTERS = 8;

/** Whether the device's kernels can read f16: WebGPU's need an adapter with `shader-f16`. */
export function readsHalves(device: Device): boolean {
  const graph = new GraphBuilder("widen");
  graph.node("Cast", [graph.input("half", [2], FLOAT16)], ["wide"], { to: FLOAT });
  graph.output("wide", [2]);
  const half = device.tensor(device.shared(new Uint16Array(new ArrayBuffer(4)), 2), 0, [2]);
  const wide = device.tensor(device.shared(floats(2), 2), 0, [2]);
  try {
    const binding = device.session(graph.encode()).bind({ half }, { wide });
    try {
      binding.run();
    } finally {
      binding.close();
    }
    return true;
  } catch {
    return false;
  } finally {
    half.close();
    wide.close();
  }
}

/** A driver does not change under a process. */
const known = new Map<string, string>();

/** The first hexadecimal digits of a digest over what the device computed. */
export function probe(device: Device): string {
  const digest = known.get(device.name) ?? run(device);
  known.set(device.name, digest);
  return digest;
}

function run(device: Device): string {
  const session = device.session(probeGraph());
  const digest = createHash("sha256");
  const weights = new Uint8Array(new ArrayBuffer(WIDTH * BLOCK_COUNT * BLOCK_BYTES));
  const inputs = [
    { name: "weights", values: fill(weights, 256), dims: [WIDTH, BLOCK_COUNT, BLOCK_BYTES] },
    { name: "scales", values: fill(floats(WIDTH * BLOCK_COUNT), 1 / 64), dims: [WIDTH * BLOCK_COUNT] },
    { name: "gain", values: fill(floats(WIDTH), 2), dims: [WIDTH] },
  ];
  for (const rowCount of ROW_COUNTS) {
    const y = floats(rowCount * WIDTH);
    const tensor = (values: TensorArray, dims: readonly number[]): OrtTensor =>
      device.tensor(device.shared(values, values.length), 0, dims);
    const bound = Object.fromEntries(inputs.map(({ name, values, dims }) => [name, tensor(values, dims)]));
    const x = tensor(fill(floats(rowCount * WIDTH), 3), [rowCount, WIDTH]);
    const out = tensor(y, [rowCount, WIDTH]);
    const binding = session.bind({ ...bound, x }, { y: out });
    binding.run();
    digest.update(new Uint8Array(y.buffer));
    binding.close();
    for (const each of [...Object.values(bound), x, out]) each.close();
  }
  return digest.digest("hex").slice(0, DIGEST_CHARACTERS);
}

/** The golden ratio's multiples, which never repeat, in [0, scale). */
function fill<T extends Float32Array | Uint8Array>(values: T, scale: number): T {
  for (let at = 0; at < values.length; at += 1) values[at] = (((at + 1) * 0.618_033_988_749_895) % 1) * scale;
  return values;
}

/** (x [S, 64], weights, scales, gain) → (y): a product, its sum with x normed, and what a gate makes of it. */
function probeGraph(): Uint8Array {
  const graph = new GraphBuilder("probe");
  const x = graph.input("x", ["S", WIDTH]);
  const weights = graph.input("weights", [WIDTH, BLOCK_COUNT, BLOCK_BYTES], UINT8);
  const attributes = { K: WIDTH, N: WIDTH, bits: 4, block_size: BLOCK_SIZE, accuracy_level: 4 };
  const scales = graph.input("scales", [WIDTH * BLOCK_COUNT]);
  graph.contrib("MatMulNBits", [x, weights, scales], ["product"], attributes);
  graph.contrib("SkipSimplifiedLayerNormalization", ["product", x, graph.input("gain", [WIDTH])], ["normed"], {
    epsilon: { float: 1e-5 },
  });
  graph.node("Sigmoid", ["normed"], ["gate"]);
  graph.node("Mul", ["normed", "gate"], ["y"]);
  graph.output("y", ["S", WIDTH]);
  return graph.encode();
}
