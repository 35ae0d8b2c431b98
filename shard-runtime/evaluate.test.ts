import { expect } from "chai";
import { RefusalError } from "../core/result.ts";
import { systemClock } from "../core/wire/clock.ts";
import { type EvaluateOptions, evaluate } from "./evaluate.ts";
import { aCheckpoint, removed } from "./weights/checkpoint-builder.ts";

describe("evaluate", () => {
  let modelDirectory: string;
  before(async () => {
    modelDirectory = await aCheckpoint();
  });
  after(() => removed(modelDirectory));

  const run = (part: Partial<EvaluateOptions> = {}) =>
    evaluate({
      modelDirectory,
      tokenIds: [1, 2, 3],
      maxTokens: 4,
      segments: 1,
      tensorParallel: 1,
      quantization: "f32",
      kvDtype: "f32",
      clock: systemClock,
      ...part,
    });

  it("gives logits of the whole vocabulary and as many tokens as asked for", async () => {
    const { lastLogits, greedy } = await run();
    expect(lastLogits).to.have.lengthOf(40);
    expect(greedy).to.have.lengthOf(4);
    expect(greedy[0]).to.equal(lastLogits.indexOf(Math.max(...lastLogits)));
  });

  it("gives no tokens where none are asked for", async () => {
    expect((await run({ maxTokens: 0 })).greedy).to.deep.equal([]);
  });

  it("gives the same however the model is cut", async () => {
    const whole = await run();
    expect(await run({ segments: 2 })).to.deep.equal(whole);
    expect(whole.driftClass).to.match(/^ort-.*\/f32\/f32\/tp1$/);
    expect((await run({ segments: 2, tensorParallel: 3 })).greedy).to.deep.equal(whole.greedy);
  });

  for (const quantization of ["f16", "int8", "int4"] as const)
    it(`runs with ${quantization} weights`, async () => {
      expect((await run({ quantization })).lastLogits.every(Number.isFinite)).to.equal(true);
    });

  const bad: readonly [about: string, part: Partial<EvaluateOptions>, code: string, says: string][] = [
    [
      "more segments than layers",
      { segments: 3 },
      "InvalidArgument",
      "--segments is 3; this model can be cut into 1 to 2",
    ],
    ["more ranks than heads", { tensorParallel: 5 }, "InvalidArgument", "--tensor-parallel is 5"],
    ["no segments", { segments: 0 }, "InvalidArgument", "--segments is 0"],
    ["no token ids", { tokenIds: [] }, "InvalidArgument", "--token-ids is empty"],
    ["a token outside the vocabulary", { tokenIds: [1, 40] }, "InvalidArgument", "ids go from 0 to 39"],
    ["a negative length", { maxTokens: -1 }, "InvalidArgument", "--max-tokens is -1"],
    ["more positions than the model has", { maxTokens: 62 }, "ContextTooLong", "more than the model's 64 positions"],
    ["a folder that is none", { modelDirectory: "/nowhere" }, "MissingFile", "/nowhere/config.json"],
  ];
  for (const [about, part, code, says] of bad)
    it(`refuses ${about}`, async () => {
      const refusal = await run(part).catch((cause: unknown) => cause);
      if (!(refusal instanceof RefusalError)) return expect.fail(String(refusal));
      expect(refusal.code).to.equal(code);
      expect(refusal.message).to.include(says);
    });
});
