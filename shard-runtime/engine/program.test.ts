import { expect } from "chai";
import fc from "fast-check";
import { aModelConfig } from "../../core/model-config-fixture.ts";
import type { ModelConfig } from "../../core/model-config.ts";
import { cutSlices } from "../../core/slice.ts";
import { INPUT, OUTPUT, type Program, type Step, ZEROS, programOf, readsOf } from "./program.ts";

const EXPERTS = {
  count: 8,
  perToken: 2,
  size: 64,
  weights: "softmaxOfChosen",
  routerBias: false,
  bias: false,
} as const;

const programs = fc
  .record({
    layerCount: fc.integer({ min: 1, max: 4 }),
    qkNorm: fc.constantFrom(undefined, "head", "row"),
    norms: fc.record({
      attentionIn: fc.boolean(),
      attentionOut: fc.boolean(),
      ffnIn: fc.boolean(),
      ffnOut: fc.boolean(),
    }),
    expertLayers: fc.array(fc.boolean(), { minLength: 4, maxLength: 4 }),
    rankCount: fc.integer({ min: 1, max: 3 }),
  })
  .chain(({ qkNorm, expertLayers, rankCount, ...part }) => {
    const config: ModelConfig = aModelConfig({
      ...part,
      ...(qkNorm === undefined ? {} : { qkNorm }),
      experts: EXPERTS,
      layerKinds: expertLayers.slice(0, part.layerCount).map((experts) => ({ attention: 0, experts })),
    });
    return fc
      .tuple(fc.nat(part.layerCount - 1), fc.nat(part.layerCount - 1), fc.nat(rankCount - 1))
      .map(([one, other, rank]) => {
        const layers = { start: Math.min(one, other), end: Math.max(one, other) + 1 };
        const slices = cutSlices(config, new Array<number>(rankCount).fill(1));
        const slice = slices[rank] ?? expect.fail("a slice");
        return { config, layers, slice, program: programOf(config, { layers, slice }) };
      });
  });

const writesOf = (step: Step): readonly string[] =>
  step.step === "run"
    ? step.graph.outputs
    : step.step === "attend"
      ? [step.attended]
      : step.step === "experts"
        ? [step.delta]
        : [];

describe("the program of a shard", () => {
  it("reads only what was made before, and makes the hidden state that goes out", () => {
    fc.assert(
      fc.property(programs, ({ program }) => {
        const made = new Set([INPUT, ZEROS]);
        for (const step of program.steps) {
          for (const name of readsOf(step)) expect([...made], `${step.step} reads ${name}`).to.include(name);
          for (const name of writesOf(step)) made.add(name);
        }
        expect([...made]).to.include(OUTPUT);
      }),
    );
  });

  /** What every buffer holds, run symbolically: each read must find the value it names. */
  it("never overwrites a value that is still to be read, nor reads and writes one buffer in one step", () => {
    fc.assert(
      fc.property(programs, ({ program }) => {
        const held = new Map<number, string>();
        const bufferOf = (name: string) => program.bufferOf[name] ?? expect.fail(`${name} has a buffer`);
        for (const name of [INPUT, ZEROS]) held.set(bufferOf(name), name);
        for (const step of program.steps) {
          const read = readsOf(step).map(bufferOf);
          for (const name of readsOf(step)) expect(held.get(bufferOf(name))).to.equal(name);
          const written = writesOf(step).map(bufferOf);
          expect(new Set([...read, ...written]).size, step.step).to.equal(new Set(read).size + written.length);
          for (const name of writesOf(step)) held.set(bufferOf(name), name);
        }
        expect(held.get(bufferOf(OUTPUT))).to.equal(OUTPUT);
        expect(held.get(bufferOf(ZEROS))).to.equal(ZEROS);
      }),
    );
  });

  it("puts what other threads add in shared memory, and attends over one pair of buffers", () => {
    fc.assert(
      fc.property(programs, ({ program, slice }) => {
        const attends = program.steps.filter((step) => step.step === "attend");
        for (const name of ["qkv", "attended"] as const)
          expect(new Set(attends.map((step) => program.bufferOf[step[name]])).size).to.equal(1);
        const exchanged = program.steps.flatMap((step) =>
          step.step === "exchange" || step.step === "rankZero" ? [step.value] : [],
        );
        for (const name of exchanged) expect(placeOf(program, name)).to.equal("shared");
        if (slice.rankCount === 1) expect(exchanged).to.deep.equal([]);
      }),
    );
  });

  it("names every graph once", () => {
    fc.assert(
      fc.property(programs, ({ program }) => {
        const names = program.steps.flatMap((step) => (step.step === "run" ? [step.graph.name] : []));
        expect(new Set(names).size).to.equal(names.length);
      }),
    );
  });

  it("ranks of a segment exchange the same values in the same order", () => {
    fc.assert(
      fc.property(programs, ({ config, layers, slice }) => {
        const exchanges = cutSlices(config, new Array<number>(slice.rankCount).fill(1)).map((each) =>
          programOf(config, { layers, slice: each }).steps.filter(
            ({ step }) => step === "exchange" || step === "rankZero",
          ),
        );
        for (const each of exchanges) expect(each).to.deep.equal(exchanges[0]);
      }),
    );
  });

  it("of one rank is broken at attention only", () => {
    const config = aModelConfig({ layerCount: 2 });
    const [slice = expect.fail("a slice")] = cutSlices(config, [1]);
    const { steps } = programOf(config, { layers: { start: 0, end: 2 }, slice });
    expect(steps.map((step) => (step.step === "run" ? step.graph.name : step.step))).to.deep.equal([
      "attention-in-0.onnx",
      "attend",
      "attention-out-0.onnx",
      "attend",
      "attention-out-1.onnx",
    ]);
  });
});

const placeOf = (program: Program, name: string) => program.buffers[program.bufferOf[name] ?? -1]?.place;
