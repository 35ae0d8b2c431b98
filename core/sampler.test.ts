import { expect } from "chai";
import fc from "fast-check";
import { valueOrThrow } from "./result.ts";
import { type SamplingSettings, philox4x32, sampleToken } from "./sampler.ts";

const seedOf = (n: number) => {
  const seed = new Uint8Array(8);
  new DataView(seed.buffer).setUint32(0, n, true);
  return seed;
};
const settings = (part: Partial<SamplingSettings> = {}): SamplingSettings => ({
  temperature: 1,
  topP: 1,
  seed: seedOf(7),
  ...part,
});
const draw = (logits: readonly number[], part: Partial<SamplingSettings>, position: number) =>
  valueOrThrow(sampleToken(Float32Array.from(logits), settings(part), position)).tokenId;

/** The obvious twin: noise for every token, no shortcut. */
function slowDraw(logits: Float32Array, { temperature, seed }: SamplingSettings, position: number): number {
  const view = new DataView(seed.buffer);
  const lanes = new Uint32Array(4);
  const scores = [...logits].map((logit, token) => {
    philox4x32([token >> 2, position, 0, 0], [view.getUint32(0, true), view.getUint32(4, true)], lanes);
    const uniform = ((lanes[token % 4] ?? 0) + 0.5) / 2 ** 32;
    return logit / temperature - Math.log(-Math.log(uniform));
  });
  return scores.indexOf(Math.max(...scores));
}

describe("sampler", () => {
  describe("philox4x32 gives the published vectors (Random123, kat_vectors)", () => {
    const vectors = [
      ["00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"],
      ["ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"],
      ["243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"],
    ] as const;
    for (const [counter, key, expected] of vectors)
      it(counter, () => {
        const [a = 0, b = 0, c = 0, d = 0] = counter.split(" ").map((word) => Number.parseInt(word, 16));
        const [k0 = 0, k1 = 0] = key.split(" ").map((word) => Number.parseInt(word, 16));
        const out = new Uint32Array(4);
        philox4x32([a, b, c, d], [k0, k1], out);
        expect([...out].map((word) => word.toString(16).padStart(8, "0")).join(" ")).to.equal(expected);
      });
  });

  describe("what is chosen", () => {
    const cases: readonly [
      about: string,
      logits: readonly number[],
      part: Partial<SamplingSettings>,
      tokenId: number,
    ][] = [
      ["greedy takes the largest", [0, 3, 2], { temperature: 0 }, 1],
      ["greedy takes the first of equals", [1, 3, 3], { temperature: 0 }, 1],
      ["a tiny topP leaves only the largest", [0, 3, 2], { topP: 1e-9 }, 1],
      ["a tiny temperature leaves only the largest", [0, 3, 2], { temperature: 1e-6 }, 1],
      ["-Infinity is never chosen", [-Infinity, 0, -Infinity], { temperature: 100 }, 1],
      ["one token has no rival", [5], {}, 0],
    ];
    for (const [about, logits, part, tokenId] of cases)
      it(about, () => {
        for (let position = 0; position < 50; position += 1) expect(draw(logits, part, position)).to.equal(tokenId);
      });
  });

  for (const [about, logits] of [
    ["NaN", [0, Number.NaN]],
    ["+Infinity", [0, Number.POSITIVE_INFINITY]],
    ["nothing finite", [-Infinity, -Infinity]],
    ["no logits", []],
  ] as const)
    it(`refuses ${about}`, () => {
      expect(sampleToken(Float32Array.from(logits), settings(), 0)).to.include({ ok: false, code: "BrokenLogits" });
    });

  it("draws tokens as often as their probability says", () => {
    const logits = [2, 1, 0, -1];
    const total = logits.reduce((sum, logit) => sum + Math.exp(logit / 0.8), 0);
    const counts = [0, 0, 0, 0];
    for (let position = 0; position < 20_000; position += 1) {
      const token = draw(logits, { temperature: 0.8 }, position);
      counts[token] = (counts[token] ?? 0) + 1;
    }
    for (const [token, logit] of logits.entries())
      expect((counts[token] ?? 0) / 20_000).to.be.closeTo(Math.exp(logit / 0.8) / total, 0.012);
  });

  it("topP keeps the fewest tokens that reach it", () => {
    const logits = [0.5, 0.3, 0.15, 0.05].map(Math.log);
    const seen = (topP: number) =>
      new Set(Array.from({ length: 500 }, (_, position) => draw(logits, { topP }, position))).size;
    expect([0.4, 0.5, 0.6, 0.79, 0.9, 0.96, 1].map(seen)).to.deep.equal([1, 1, 2, 2, 3, 4, 4]);
  });

  it("the shortcut never changes the choice", () => {
    const logits = fc.float32Array({ minLength: 1, maxLength: 300, noNaN: true, min: -30, max: 30 });
    const temperature = fc.double({ min: 0.05, max: 5, noNaN: true });
    fc.assert(
      fc.property(logits, temperature, fc.nat(), fc.nat(100_000), (values, degree, seed, position) => {
        const chosen = settings({ temperature: degree, seed: seedOf(seed) });
        expect(valueOrThrow(sampleToken(values, chosen, position)).tokenId).to.equal(
          slowDraw(values, chosen, position),
        );
      }),
      { numRuns: 300 },
    );
  });

  it("another seed or position draws anew, the same ones draw the same", () => {
    const logits = new Array<number>(1000).fill(0);
    const tokens = [0, 1, 2, 3].flatMap((position) => [1, 2].map((n) => draw(logits, { seed: seedOf(n) }, position)));
    expect(new Set(tokens).size).to.equal(8);
    expect(draw(logits, { seed: seedOf(2) }, 3)).to.equal(tokens.at(-1));
  });

  it("tells the log-probability without temperature", () => {
    const { logProbability } = valueOrThrow(sampleToken(Float32Array.of(1, 3, 2), settings({ temperature: 0 }), 0));
    expect(logProbability).to.be.closeTo(3 - Math.log(Math.exp(1) + Math.exp(3) + Math.exp(2)), 1e-9);
  });
});
