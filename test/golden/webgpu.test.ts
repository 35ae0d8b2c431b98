/**
 * The engine on a GPU: SwiftShader, a Vulkan driver that computes on the processor, runs the very kernels that a GPU
 * would. First the door (memory, copies, what is refused), then whole models against the cpu.
 */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect } from "chai";
import fc from "fast-check";
import { present } from "../../core/assert.ts";
import { splitByWeights } from "../../core/ranges.ts";
import { RefusalError, valueOrThrow } from "../../core/result.ts";
import { cutSlices } from "../../core/slice.ts";
import { systemClock } from "../../core/wire/clock.ts";
import { checkDevice } from "../../shard-runtime/engine/check-device.ts";
import { ProviderDevice } from "../../shard-runtime/engine/device-memory.ts";
import { type Device, type DeviceBuffer, readRows } from "../../shard-runtime/engine/device.ts";
import { deviceClass } from "../../shard-runtime/engine/drift-class.ts";
import { GraphBuilder } from "../../shard-runtime/engine/graph/onnx.ts";
import { startEngineThread } from "../../shard-runtime/engine/engine-thread.ts";
import { LocalChain, type LocalChainOptions, type LocalModel } from "../../shard-runtime/engine/local-chain.ts";
import { openDevice } from "../../shard-runtime/engine/open-device.ts";
import { Ort, floats } from "../../shard-runtime/engine/ort.ts";
import { packShard } from "../../shard-runtime/engine/pack.ts";
import { openUnpacked } from "../../shard-runtime/weights/pack.ts";
import { faultsOf, generate } from "../chain/evidence.ts";
import { RealChain } from "../chain/real-chain.ts";
import { useSwiftShader } from "../swiftshader.ts";
import { randomCheckpoint } from "./families/random-weights.ts";
import { distance, indexOfLargest } from "./reference.ts";
import { roundedModel } from "./rounded-model.ts";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
/** How far a logit may be from the cpu's: both add the same f32 numbers in another order (seen: 3e-5, of logits to 25). */
const BAND = 1e-4;
const TOKEN_COUNT = 32;
/** Keys and values keep eleven bits then; models of random weights make much of little. */
const HALF_BAND = 0.2;

describe("webgpu: the device", () => {
  let ort: Ort;
  let device: Device;
  before(function () {
    useSwiftShader(this);
    ort = new Ort({ threadCount: 2, spin: false });
    device = openDevice("webgpu", ort);
  });
  after(() => {
    device?.close();
    ort?.close();
  });

  const WIDTH = 12;
  const counting = (rowCount: number, from: number) =>
    floats(rowCount * WIDTH).map((_, at) => from + at) as Float32Array<ArrayBuffer>;
  const put = (buffer: DeviceBuffer, row: number, values: Float32Array) =>
    device.copyRows(device.shared(values, WIDTH), 0, buffer, row, values.length / WIDTH);

  it("has memory of its own, zeroed also where it was used before", () => {
    for (let time = 0; time < 3; time += 1) {
      const buffer = device.buffer(5, WIDTH);
      expect(buffer.values).to.equal(undefined);
      expect(readRows(device, buffer, 0, 5)).to.deep.equal(new Float32Array(5 * WIDTH));
      put(buffer, 0, counting(5, 1));
    }
  });

  it("copies any rows between any buffers as arrays would", () => {
    const COUNTS = [7, 5, 9];
    const buffers = COUNTS.map((rowCount) => device.buffer(rowCount, WIDTH));
    const arrays = COUNTS.map((rowCount, index) => counting(rowCount, 1000 * index));
    for (const [index, values] of arrays.entries()) put(buffers[index] ?? expect.fail(), 0, values);
    const index = fc.nat({ max: COUNTS.length - 1 });
    const row = fc.nat({ max: 8 });
    fc.assert(
      fc.property(index, row, index, row, fc.integer({ min: 1, max: 9 }), (from, fromRow, to, toRow, wanted) => {
        const rowCount = Math.min(wanted, (COUNTS[from] ?? 0) - fromRow, (COUNTS[to] ?? 0) - toRow);
        fc.pre(rowCount > 0 && from !== to);
        const [source, target] = [buffers[from] ?? expect.fail(), buffers[to] ?? expect.fail()];
        device.copyRows(source, fromRow, target, toRow, rowCount);
        arrays[to]?.set(arrays[from]?.subarray(fromRow * WIDTH, (fromRow + rowCount) * WIDTH) ?? [], toRow * WIDTH);
        expect(readRows(device, target, 0, target.rowCount)).to.deep.equal(arrays[to]);
      }),
      { numRuns: 200 },
    );
  });

  it("runs over rows in the middle of a buffer, in place, and sees what the host wrote since it was bound", () => {
    const graph = new GraphBuilder("add");
    graph.node("Add", [graph.input("x", ["S", WIDTH]), graph.input("by", [WIDTH])], ["y"]);
    graph.output("y", ["S", WIDTH]);
    const buffer = device.buffer(8, WIDTH);
    put(buffer, 0, counting(8, 0));
    const by = floats(WIDTH).fill(100);
    const tensors = {
      x: device.tensor(buffer, 4, [2, WIDTH]),
      by: device.tensor(device.shared(by, WIDTH), 0, [WIDTH]),
    };
    const binding = device.session(graph.encode()).bind(tensors, { y: tensors.x });
    binding.run();
    by.fill(-3);
    binding.run();
    const expected = counting(8, 0).map((value, at) => (at >= 4 * WIDTH && at < 6 * WIDTH ? value + 97 : value));
    expect(readRows(device, buffer, 0, 8)).to.deep.equal(expected);
    for (const each of [binding, tensors.x, tensors.by]) each.close();
  });

  it("names the adapter and what it computes in its drift class, and what it leaves to the processor", () => {
    expect(deviceClass(device)).to.match(/^webgpu-vulkan-swiftshader-[a-z0-9-]+-[0-9a-f]{8}$/);
    const graph = new GraphBuilder("two");
    graph.contrib("FusedMatMul", [graph.input("x", ["S", 4]), graph.input("w", [4, 4])], ["h"], { transB: 1 });
    graph.node("Tanh", ["h"], ["y"]);
    graph.output("y", ["S", 4]);
    expect(device.session(graph.encode()).onTheCpu).to.deep.equal(["FusedMatMul"]);
    expect(device.onTheCpu).to.deep.equal(["FusedMatMul"]);
    expect(deviceClass(device)).to.match(/-[0-9a-f]{8}\+cpu-[a-z0-9-]+-FusedMatMul$/);
  });

  it("can be opened again after it was closed", () => {
    const again = new Ort({ threadCount: 2, spin: false });
    const other = openDevice("webgpu", again);
    const buffer = other.buffer(2, WIDTH);
    expect(readRows(other, buffer, 0, 2)).to.deep.equal(new Float32Array(2 * WIDTH));
    other.close();
    again.close();
    expect(readRows(device, device.buffer(1, WIDTH), 0, 1)).to.deep.equal(new Float32Array(WIDTH));
  });
});

describe("webgpu: whole models", () => {
  let cache: string;
  let model: LocalModel;
  let prompts: readonly { readonly tokenIds: readonly number[]; readonly greedy: readonly number[] }[];
  const chains: LocalChain[] = [];
  const folders: string[] = [];

  before(async function () {
    useSwiftShader(this);
    cache = await mkdtemp(join(tmpdir(), "tessellate-webgpu-"));
    folders.push(cache);
    const name = "test/golden/gqa-7to1-untied";
    model = valueOrThrow(await openUnpacked(join(ROOT, name), { clock: systemClock, tokenizer: "optional" }));
    prompts = JSON.parse(await readFile(join(ROOT, name, "goldens.json"), "utf8")).prompts;
  });
  afterEach(() => {
    for (const chain of chains.splice(0)) chain.close();
  });
  after(async () => {
    for (const folder of folders) await rm(folder, { recursive: true });
  });

  async function load(
    device: string,
    {
      of = model,
      cut = [[1]],
      ...options
    }: Partial<LocalChainOptions> & { of?: LocalModel; cut?: readonly (readonly number[])[] } = {},
  ): Promise<LocalChain> {
    const layers = splitByWeights(of.config.layerCount, new Array<number>(cut.length).fill(1));
    const plan = layers.map((range, index) => ({ layers: range, sliceWeights: cut[index] ?? [1] }));
    const defaults = { quantization: "f32", contextLength: 128, slotCount: 3, threadCount: 2, spin: false } as const;
    const chain = await LocalChain.load(of, plan, { ...defaults, cacheDirectory: cache, device, ...options });
    chains.push(chain);
    return chain;
  }

  async function family(name: string): Promise<LocalModel> {
    const folder = await randomCheckpoint(join(ROOT, "test/golden/families", name));
    folders.push(folder);
    return valueOrThrow(await openUnpacked(folder, { clock: systemClock, tokenizer: "optional" }));
  }

  /** Both are fed the expected chain's greedy tokens; every token is the same, every logit within the band. */
  function expectSame(chain: LocalChain, expected: LocalChain, prompt: readonly number[], count: number, band = BAND) {
    for (const each of [chain, expected]) each.acquire("s");
    let [logits, wanted] = [chain.feed("s", prompt, 7), expected.feed("s", prompt, 7)];
    for (let token = 0; token < count; token += 1) {
      const chosen = indexOfLargest(wanted);
      expect(indexOfLargest(logits), `token ${token}`).to.equal(chosen);
      expect(distance(logits, wanted), `logits after ${token} tokens`).to.be.below(band);
      [logits, wanted] = [chain.feed("s", [chosen]), expected.feed("s", [chosen])];
    }
    for (const each of [chain, expected]) each.release("s");
  }

  const prompt = () => present(prompts[0], "a golden prompt").tokenIds;

  it("f32: 32 tokens are the cpu's, logits within 1e-4, and no operator is left to the processor", async () => {
    const chain = await load("webgpu");
    expectSame(chain, await load("cpu"), prompt(), TOKEN_COUNT);
    expect(chain.engines[0]?.facts.driftClass).to.match(
      /\/webgpu-vulkan-swiftshader-[^/+]*-attention16\/f32\/f32\/tp1$/,
    );
  });

  for (const bits of [8, 4] as const)
    it(`int${bits}: 32 tokens are those of f32 arithmetic over the rounded weights, logits within 1e-3`, async () => {
      const chain = await load("webgpu", { quantization: bits === 8 ? "int8" : "int4" });
      expectSame(chain, await load("cpu", { of: roundedModel(model, bits) }), prompt(), TOKEN_COUNT, 1e-3);
    });

  it("a prompt of many rows at once, which this driver's attention would get wrong, gives the cpu's tokens", async () => {
    const [chain, cpu] = [await load("webgpu"), await load("cpu")];
    const long = Array.from({ length: 75 }, (_, at) => (at * 37) % 250);
    for (const each of [chain, cpu]) each.acquire("s");
    const [logits, wanted] = [chain.feed("s", long), cpu.feed("s", long)];
    expect(logits.reduce((most, value, at) => Math.max(most, Math.abs(value - (wanted[at] ?? 0))), 0)).to.be.below(
      BAND,
    );
  });

  it("two segments of uneven slices give the cpu's tokens", async () => {
    expectSame(await load("webgpu", { cut: [[1, 2], [1]] }), await load("cpu"), prompt(), 8);
  });

  it("sessions of unlike length in one batch give the cpu's logits, each as alone", async () => {
    const [chain, alone] = [await load("webgpu"), await load("cpu")];
    const lengths = [5, 1, 9];
    const names = lengths.map((length) => `s${length}`);
    for (const each of [chain, alone]) for (const name of names) each.acquire(name);
    for (const [turn, rowCounts] of [lengths, [1, 1, 1], [1, 4, 2]].entries()) {
      const rows = rowCounts.map((count, index) => Array.from({ length: count }, (_, at) => 3 + turn + 5 * index + at));
      const places = chain.engines[0] ?? expect.fail("an engine");
      const steps = names.map((session, index) => ({
        session,
        position: present(places.positionOf(session), "an open session"),
        rowCount: present(rows[index], "rows").length,
        sample: true,
      }));
      const together = chain.run(steps, Uint32Array.from(rows.flat()));
      for (const [index, name] of names.entries()) {
        const wanted = alone.feed(name, present(rows[index], "rows"));
        const logits = present(together[index], "logits of each step");
        const worst = logits.reduce((most, value, at) => Math.max(most, Math.abs(value - (wanted[at] ?? 0))), 0);
        expect(worst).to.be.below(BAND);
      }
    }
  });

  // Windows, sinks, experts, norms of heads, biases: what the first model has none of.
  for (const name of ["gpt-oss-all", "qwen3-all"])
    it(`${name}: the cpu's tokens, and no operator is left to the processor`, async () => {
      const of = await family(name);
      const chain = await load("webgpu", { of });
      expectSame(
        chain,
        await load("cpu", { of }),
        Array.from({ length: 24 }, (_, at) => (at * 7) % 60),
        4,
      );
      expect(chain.engines[0]?.facts.driftClass).not.to.include("+");
    });

  it("what its kernels cannot compute is refused by name before anything runs", async () => {
    const refusal = (work: Promise<unknown>) => work.catch((cause: unknown) => cause);
    const softcap = await refusal(load("webgpu", { of: await family("gemma2-all") }));
    expect(softcap).to.be.instanceOf(RefusalError).with.property("code", "DeviceMissing");
    expect(softcap)
      .to.have.property("message")
      .that.matches(/computes this gemma2 model.s attention with its soft cap wrongly/);
    const halves = await refusal(load("webgpu", { quantization: "f16" }));
    expect(halves).to.have.property("message").that.includes("computes without f16; choose f32, int8 or int4");
  });

  it("is looked at on a thread of its own before anything is fetched", async () => {
    const check = (of: LocalModel, quantization: "f16" | "int4") =>
      checkDevice({ device: "webgpu", config: of.config, quantization }).catch((cause: unknown) => cause);
    expect(await check(model, "int4")).to.equal(undefined);
    expect(await check(model, "f16")).to.be.instanceOf(RefusalError);
    expect(await check(await family("gemma2-all"), "int4")).to.be.instanceOf(RefusalError);
  });

  it("serves from the engine's own thread", async () => {
    const [slice] = cutSlices(model.config, [1]);
    const shard = { layers: { start: 0, end: model.config.layerCount }, slice: present(slice, "a slice") };
    const packing = { modelRoot: model.root, quantization: "f32", cacheDirectory: cache } as const;
    const { directory } = await packShard(model.tensors, model.config, shard, packing);
    const options = { shardDirectory: directory, device: "webgpu", contextLength: 32, slotCount: 1, threadCount: 1 };
    const thread = await startEngineThread({ ...options, spin: false });
    await thread.acquire("s");
    const tokens = Uint32Array.from(prompt());
    const steps = [{ session: "s", position: 0, rowCount: tokens.length, sample: true }];
    const { logits } = await thread.run({ steps, input: tokens });
    await thread.close();
    const cpu = await load("cpu");
    cpu.acquire("s");
    expect(indexOfLargest(logits)).to.equal(indexOfLargest(cpu.feed("s", prompt())));
  });

  it("two ranks as processes answer through gRPC as transformers does, with receipts that fit", async () => {
    const chain = await RealChain.start({
      checkpoint: "test/golden/gqa-7to1-untied",
      shape: [[1], [1]],
      tell: (config) => ({ ...config, device: "webgpu" }),
    });
    try {
      await chain.serving();
      const { tokenIds, greedy } = present(prompts[0], "a golden prompt");
      const answer = await generate(chain.wire, chain.request(tokenIds), 8);
      expect(answer.tokens).to.deep.equal(greedy.slice(0, 8));
      const keys = chain.ranks.map(({ key }) => key.publicKey);
      expect(faultsOf(answer, keys, { name: "default/model", layerCount: chain.layerCount })).to.deep.equal([]);
    } finally {
      await chain.stop();
    }
  });

  /** Addresses that can be added to, and attention in f16: all that CUDA does otherwise than WebGPU, in host memory. */
  const asCuda =
    (attentionType: "f32" | "f16") =>
    (_: string, ort: Ort): Device =>
      new ProviderDevice(ort, {
        kind: "cuda",
        name: "cuda-in-host-memory",
        provider: () => {},
        memoryName: "Cpu",
        addressable: true,
        attentionType,
      });

  it("over memory that has addresses: the cpu's tokens", async () => {
    const chain = await load("cuda", { openDevice: asCuda("f32"), cut: [[1], [1, 1]] });
    expectSame(chain, await load("cpu"), prompt(), TOKEN_COUNT);
  });

  it("with attention in f16: tokens and logits within what that rounds", async () => {
    expectSame(await load("cuda", { openDevice: asCuda("f16") }), await load("cpu"), prompt(), 8, HALF_BAND);
    const of = await family("gpt-oss-all");
    const chain = await load("cuda", { openDevice: asCuda("f16"), of });
    expectSame(chain, await load("cpu", { of }), [3, 1, 4, 1, 5, 9, 2, 6], 8, HALF_BAND);
  });
});
