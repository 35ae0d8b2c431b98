/** The small pure parts of the engine: slots, sums, angles, drift classes, checks of a batch. */
import { expect } from "chai";
import { aModelConfig } from "../../core/model-config-fixture.ts";
import type { Rope, RopeScaling } from "../../core/model-config.ts";
import { driftClass, instructionSet } from "./drift-class.ts";
import type { Batch, EngineFacts } from "./engine.ts";
import { inverseFrequencies, rotaryTables } from "./graph/rotary.ts";
import { KvSlots } from "./kv-slots.ts";
import { checkBatch } from "./ort-engine.ts";
import { sumInRankOrder } from "./reduce.ts";

describe("KV slots", () => {
  it("the lowest free one goes first, again after a release", () => {
    const slots = new KvSlots(3);
    for (const session of ["a", "b", "c"]) slots.acquire(session);
    slots.release("b");
    slots.release("a");
    slots.acquire("d");
    slots.acquire("e");
    expect([slots.find("d")?.slot, slots.find("e")?.slot, slots.find("c")?.slot]).to.deep.equal([0, 1, 2]);
  });

  it("refuses when all are taken, and takes a session that has one for what it is", () => {
    const slots = new KvSlots(1);
    expect(slots.acquire("a").ok).to.equal(true);
    slots.advance("a", 5);
    expect(slots.acquire("a").ok).to.equal(true);
    expect(slots.find("a")?.position).to.equal(5);
    expect(slots.acquire("b")).to.include({ ok: false, code: "NoFreeSlot" });
  });

  it("releasing what is not there changes nothing", () => {
    const slots = new KvSlots(2);
    slots.release("nobody");
    expect(slots.freeCount).to.equal(2);
  });
});

describe("sum in rank order", () => {
  it("rounds to f32 after each rank", () => {
    // 2^24 + 1 is no f32: added one by one the ones vanish, added together first they would not.
    const partials = [Float32Array.of(2 ** 24), Float32Array.of(1), Float32Array.of(1)];
    const target = new Float32Array(1);
    sumInRankOrder(partials, target);
    expect(target[0]).to.equal(2 ** 24);
  });

  it("may write over a partial sum", () => {
    const own = Float32Array.of(1, 2);
    sumInRankOrder([Float32Array.of(10, 20), own], own);
    expect([...own]).to.deep.equal([11, 22]);
  });
});

describe("rotary angles", () => {
  const rope = (scaling: RopeScaling, rotarySize = 64): Rope => ({ theta: 10_000, rotarySize, scaling });

  it("start at one turn a radian and fall by powers of theta", () => {
    const frequencies = inverseFrequencies(rope({ kind: "none" }));
    expect(frequencies[0]).to.equal(1);
    expect(frequencies[16]).to.be.closeTo(0.01, 1e-8);
    expect(frequencies).to.have.lengthOf(32);
  });

  it("linear scaling divides every frequency", () => {
    const plain = inverseFrequencies(rope({ kind: "none" }));
    const scaled = inverseFrequencies(rope({ kind: "linear", factor: 4 }));
    for (const [pair, frequency] of scaled.entries()) expect(frequency).to.be.closeTo((plain[pair] ?? 0) / 4, 1e-9);
  });

  it("llama3 scaling keeps short waves, divides long ones, and never leaves the range between", () => {
    const scaling = {
      kind: "llama3",
      factor: 8,
      lowFrequencyFactor: 1,
      highFrequencyFactor: 4,
      originalPositions: 8192,
    } as const;
    const plain = inverseFrequencies(rope({ kind: "none" }, 128));
    const scaled = inverseFrequencies(rope(scaling, 128));
    for (const [pair, frequency] of scaled.entries()) {
      const before = plain[pair] ?? 0;
      const waves = (8192 * before) / (2 * Math.PI);
      if (waves >= 4) expect(frequency).to.equal(before);
      else if (waves <= 1) expect(frequency).to.be.closeTo(before / 8, 1e-12);
      else expect(frequency).to.be.within(before / 8, before);
    }
  });

  it("yarn keeps pairs that turn often, divides those that hardly turn, and goes over between", () => {
    const scaling = {
      kind: "yarn",
      factor: 4,
      betaFast: 32,
      betaSlow: 1,
      originalPositions: 4096,
      attentionFactor: 1.1,
      truncate: true,
    } as const;
    const [plain, scaled] = [{ kind: "none" } as const, scaling].map((each) => inverseFrequencies(rope(each, 128)));
    const kept = [...(scaled ?? [])].map((frequency, pair) => frequency / (plain?.[pair] ?? 1));
    expect(kept[0]).to.equal(1);
    expect(kept.at(-1)).to.be.closeTo(1 / 4, 1e-6);
    for (const [pair, share] of kept.entries()) expect(share).to.be.at.most((kept[pair - 1] ?? 1) + 1e-6);
    const { cosine, sine } = rotaryTables(aModelConfig({ headSize: 128 }), rope(scaling, 128), 2);
    expect(cosine[0]).to.be.closeTo(1.1, 1e-6);
    expect(sine[64]).to.be.closeTo(1.1 * Math.sin(1), 1e-6);
  });

  it("longrope takes its long factors where the context is beyond the original, for all positions alike", () => {
    const scaling = {
      kind: "longrope",
      shortFactors: [1, 1],
      longFactors: [2, 4],
      originalPositions: 16,
      attentionFactor: 1,
    } as const;
    const at = (contextLength: number) => [...inverseFrequencies(rope(scaling, 4), { contextLength })];
    expect(at(16)).to.deep.equal([...inverseFrequencies(rope({ kind: "none" }, 4))]);
    expect(at(17)[0]).to.equal(1 / 2);
    expect(at(17)[1]).to.be.closeTo(0.01 / 4, 1e-9);
  });

  it("tables hold cosine and sine of position times frequency", () => {
    const { cosine, sine } = rotaryTables(aModelConfig({ headSize: 4 }), rope({ kind: "none" }, 4), 3);
    // Two pairs of a head of 4, and six that pad it to 16.
    expect(cosine[16]).to.be.closeTo(Math.cos(2), 1e-7);
    expect(sine[17]).to.be.closeTo(Math.sin(0.02), 1e-7);
    expect([cosine[18], sine[18]]).to.deep.equal([1, 0]);
  });
});

describe("drift class", () => {
  const cases: readonly [cpuinfo: string, set: string | undefined][] = [
    ["flags\t\t: fpu avx2 fma avx512f avx512bw avx512dq avx512vl avx512_vnni", "avx512vnni"],
    ["flags\t\t: fpu avx2 fma avx512f avx512bw avx512dq avx512vl", "avx512"],
    ["flags\t\t: fpu avx2 fma avx_vnni", "avxvnni"],
    ["flags\t\t: fpu avx2 fma", "avx2"],
    ["flags\t\t: fpu sse2", undefined],
    ["Features\t: fp asimd asimddp i8mm", "i8mm"],
    ["Features\t: fp asimd asimddp", "dotprod"],
    ["Features\t: fp asimd", "neon"],
    ["", undefined],
  ];
  for (const [cpuinfo, set] of cases)
    it(`${cpuinfo.slice(0, 60)} is ${set}`, () => expect(instructionSet(cpuinfo)).to.equal(set));

  it("names everything that changes bits", () => {
    const facts = {
      engine: "ort-1.30.0-f2c39fe2f",
      device: "cpu-x64-avx2",
      quantization: "int4",
      rankCount: 2,
    } as const;
    const plain = "ort-1.30.0-f2c39fe2f/cpu-x64-avx2/f32/int4/tp2";
    expect(driftClass({ ...facts, kvDtype: "f32" })).to.equal(plain);
    expect(driftClass({ ...facts, kvDtype: "int8" })).to.equal(`${plain}/kv-int8`);
  });
});

describe("a batch is refused", () => {
  const facts: EngineFacts = {
    layers: { start: 0, end: 2 },
    first: true,
    last: true,
    rankIndex: 0,
    rankCount: 1,
    hiddenSize: 4,
    vocabularySize: 10,
    vocabulary: { start: 0, end: 10 },
    contextLength: 8,
    slotCount: 2,
    maxBatchRows: 6,
    shardDigest: "",
    driftClass: "",
  };
  const positions = new Map([
    ["new", 0],
    ["old", 7],
  ]);
  const step = (session: string, position: number, rowCount: number) => ({ session, position, rowCount, sample: true });
  const tokens = (...ids: number[]) => Uint32Array.from(ids);
  const later = { ...facts, layers: { start: 1, end: 2 }, first: false };
  const cases: readonly [about: string, batch: Batch, code: string | undefined, facts?: EngineFacts][] = [
    ["not when all is well", { steps: [step("new", 0, 2), step("old", 7, 1)], input: tokens(1, 2, 9) }, undefined],
    ["without steps", { steps: [], input: tokens() }, "MalformedBatch"],
    [
      "with one session twice",
      { steps: [step("new", 0, 1), step("new", 0, 1)], input: tokens(1, 2) },
      "MalformedBatch",
    ],
    ["with no rows for a step", { steps: [step("new", 0, 0)], input: tokens() }, "MalformedBatch"],
    ["with a fraction of a row", { steps: [step("new", 0, 1.5)], input: tokens(1) }, "MalformedBatch"],
    ["for a session without a slot", { steps: [step("who", 0, 1)], input: tokens(1) }, "UnknownSession"],
    ["for a position that was", { steps: [step("old", 6, 1)], input: tokens(1) }, "WrongPosition"],
    ["for a position too far", { steps: [step("new", 1, 1)], input: tokens(1) }, "WrongPosition"],
    ["past the context", { steps: [step("old", 7, 2)], input: tokens(1, 2) }, "ContextFull"],
    ["with too many rows", { steps: [step("new", 0, 7)], input: tokens(1, 1, 1, 1, 1, 1, 1) }, "MalformedBatch"],
    ["with too few token ids", { steps: [step("new", 0, 2)], input: tokens(1) }, "MalformedBatch"],
    ["with a token outside the vocabulary", { steps: [step("new", 0, 1)], input: tokens(10) }, "MalformedBatch"],
    [
      "with hidden states on the first segment",
      { steps: [step("new", 0, 1)], input: new Float32Array(4) },
      "MalformedBatch",
    ],
    ["with token ids on a later segment", { steps: [step("new", 0, 1)], input: tokens(1) }, "MalformedBatch", later],
    ["with a short hidden state", { steps: [step("new", 0, 1)], input: new Float32Array(3) }, "MalformedBatch", later],
    ["not with a whole hidden state", { steps: [step("new", 0, 1)], input: new Float32Array(4) }, undefined, later],
  ];
  for (const [about, batch, code, where] of cases)
    it(about, () => {
      const result = checkBatch(batch, where ?? facts, (session) => positions.get(session));
      expect(result.ok ? undefined : result.code).to.equal(code);
    });
});
