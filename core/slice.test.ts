import { expect } from "chai";
import fc from "fast-check";
import { aModelConfig } from "./model-config-fixture.ts";
import type { ModelConfig } from "./model-config.ts";
import { lengthOf } from "./ranges.ts";
import { blockSizes, cutSlices, rankCountMax, shardBytes } from "./slice.ts";

const llama = (part: Partial<ModelConfig> = {}): ModelConfig =>
  aModelConfig({
    hiddenSize: 2048,
    layerCount: 22,
    headCount: 32,
    kvHeadCount: 4,
    headSize: 64,
    ffnSize: 5632,
    vocabularySize: 32_000,
    ...part,
  });

const shapes = fc
  .record({
    kvHeadCount: fc.integer({ min: 1, max: 9 }),
    groupSize: fc.integer({ min: 1, max: 9 }),
    headSize: fc.constantFrom(8, 16, 64, 80, 128),
    ffnSize: fc.integer({ min: 12, max: 4000 }),
    vocabularySize: fc.integer({ min: 12, max: 40_000 }),
  })
  .map(({ groupSize, ...part }) => llama({ ...part, headCount: part.kvHeadCount * groupSize }));

const cuts = shapes.chain((config) =>
  fc
    .array(fc.double({ min: 0.05, max: 20, noNaN: true }), {
      minLength: 1,
      maxLength: Math.min(8, rankCountMax(config)),
    })
    .map((weights) => ({ config, weights })),
);

describe("slices", () => {
  it("cover every head, column and vocabulary row exactly once, and leave no rank without", () => {
    fc.assert(
      fc.property(cuts, ({ config, weights }) => {
        const slices = cutSlices(config, weights);
        for (const [part, count] of [
          ["heads", config.headCount],
          ["columns", config.ffnSize],
          ["vocabulary", config.vocabularySize],
        ] as const) {
          let next = 0;
          for (const slice of slices) {
            expect(slice[part].start).to.equal(next);
            expect(lengthOf(slice[part])).to.be.at.least(1);
            next = slice[part].end;
          }
          expect(next).to.equal(count);
        }
      }),
    );
  });

  it("give every query head the KV head of its group", () => {
    fc.assert(
      fc.property(cuts, ({ config, weights }) => {
        const groupSize = config.headCount / config.kvHeadCount;
        for (const { heads, kvHeads, headsPerKvHead } of cutSlices(config, weights)) {
          expect(kvHeads.length * headsPerKvHead).to.equal(lengthOf(heads));
          for (let i = 0; i < lengthOf(heads); i += 1)
            expect(kvHeads[Math.floor(i / headsPerKvHead)]).to.equal(Math.floor((heads.start + i) / groupSize));
        }
      }),
    );
  });

  it("have shares that sum to exactly a million, and follow from the arguments alone", () => {
    fc.assert(
      fc.property(cuts, ({ config, weights }) => {
        const slices = cutSlices(config, weights);
        expect(slices.reduce((sum, slice) => sum + slice.shareMillionths, 0)).to.equal(1_000_000);
        expect(cutSlices(config, weights)).to.deep.equal(slices);
      }),
    );
  });

  it("cut FFN columns between quantisation blocks wherever there are enough", () => {
    fc.assert(
      fc.property(cuts, ({ config, weights }) => {
        const block = blockSizes(config).ffn;
        if (Math.ceil(config.ffnSize / block) < weights.length) return;
        for (const { columns } of cutSlices(config, weights)) expect(columns.start % block).to.equal(0);
      }),
    );
  });

  describe("with experts", () => {
    const EXPERTS = { perToken: 2, size: 768, weights: "softmaxOfChosen", routerBias: false, bias: true } as const;
    const mixture = (count: number): ModelConfig =>
      llama({
        experts: { ...EXPERTS, count },
        layerKinds: Array.from({ length: 22 }, (_, layer) => ({ attention: 0, experts: layer % 2 === 0 })),
      });
    const mixtures = fc
      .integer({ min: 2, max: 40 })
      .chain((count) =>
        fc
          .array(fc.double({ min: 0.05, max: 20, noNaN: true }), { minLength: 1, maxLength: 8 })
          .map((weights) => ({ config: mixture(count), count, weights })),
      );

    it("deal every expert out once, whole, in order", () => {
      fc.assert(
        fc.property(mixtures, ({ config, count, weights }) => {
          let next = 0;
          for (const { experts } of cutSlices(config, weights)) {
            expect(experts.start).to.equal(next);
            next = experts.end;
          }
          expect(next).to.equal(count);
        }),
      );
    });

    it("come near each rank's weight, in bytes", () => {
      fc.assert(
        fc.property(fc.array(fc.double({ min: 1, max: 3, noNaN: true }), { minLength: 2, maxLength: 4 }), (weights) => {
          const config = mixture(64);
          const ends = { first: false, last: false };
          const bytes = cutSlices(config, weights).map((slice) =>
            shardBytes(config, { start: 0, end: 22 }, slice, "int8", ends),
          );
          const [all, total] = [bytes, weights].map((values) => values.reduce((a, b) => a + b, 0));
          for (const [rank, weight] of weights.entries())
            expect((bytes[rank] ?? 0) / (all ?? 1)).to.be.closeTo(weight / (total ?? 1), 0.03);
        }),
      );
    });

    it("count what a token runs through as work, not what lies there", () => {
      const [all] = cutSlices(mixture(8), [1]);
      expect(all?.shareMillionths).to.equal(1_000_000);
      expect(all?.experts).to.deep.equal({ start: 0, end: 8 });
      const dense = cutSlices(llama(), [1, 1]).map(({ experts }) => experts);
      expect(dense).to.deep.equal([
        { start: 0, end: 0 },
        { start: 0, end: 0 },
      ]);
    });
  });

  describe("tables", () => {
    const cases: readonly {
      readonly about: string;
      readonly config?: Partial<ModelConfig>;
      readonly weights: readonly number[];
      readonly heads: readonly number[];
      readonly kvHeads: readonly (readonly number[])[];
    }[] = [
      { about: "one rank has all", weights: [3], heads: [32], kvHeads: [[0, 1, 2, 3]] },
      {
        about: "even halves copy nothing",
        weights: [1, 1],
        heads: [16, 16],
        kvHeads: [
          [0, 1],
          [2, 3],
        ],
      },
      { about: "near groups, whole groups", weights: [2, 3], heads: [8, 24], kvHeads: [[0], [1, 2, 3]] },
      {
        about: "a group split copies its KV head",
        weights: [1, 2, 5],
        heads: [2, 6, 24],
        kvHeads: [[0], [0], [1, 2, 3]],
      },
      {
        about: "seven to one on three ranks",
        config: { headCount: 14, kvHeadCount: 2 },
        weights: [1, 1, 1],
        heads: [5, 4, 5],
        kvHeads: [[0], [0, 1], [1]],
      },
      {
        about: "as many KV heads as query heads",
        config: { headCount: 3, kvHeadCount: 3 },
        weights: [1, 1, 1],
        heads: [1, 1, 1],
        kvHeads: [[0], [1], [2]],
      },
    ];
    for (const { about, config, weights, heads, kvHeads } of cases)
      it(about, () => {
        const slices = cutSlices(llama(config), weights);
        expect(slices.map((slice) => lengthOf(slice.heads))).to.deep.equal(heads);
        expect(slices.map((slice) => slice.kvHeads)).to.deep.equal(kvHeads);
      });
  });

  it("columns make up for heads that cannot be dealt out evenly", () => {
    const shares = cutSlices(llama({ headCount: 6, kvHeadCount: 2, hiddenSize: 192, ffnSize: 5632 }), [1, 1, 1, 1]);
    for (const slice of shares) expect(slice.shareMillionths).to.be.closeTo(250_000, 15_000);
  });

  describe("bytes", () => {
    const all = { start: 0, end: 22 };
    const bytesOf = (quantization: "f32" | "int8" | "int4", weights = [1]) =>
      cutSlices(llama(), weights).map((slice) =>
        shardBytes(llama(), all, slice, quantization, { first: true, last: true }),
      );

    it("are those of the parameters and scales", () => {
      const parameters = 1_100_048_384;
      expect(bytesOf("f32")[0]).to.equal(parameters * 4);
      expect(bytesOf("int4")[0]).to.be.closeTo(parameters * 0.53 + 32_000 * 2048 * 1.47, 2e7);
    });

    it("of the ranks sum to those of the whole, less what is copied", () => {
      const sum = bytesOf("int8", [1, 1]).reduce((total, part) => total + part, 0);
      expect(sum).to.be.closeTo(bytesOf("int8")[0] ?? 0, 22 * 3 * 2048 * 4);
    });
  });
});
