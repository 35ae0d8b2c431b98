import { expect } from "chai";
import { type HeldBytes, bytesInOwnBlocks, heldScale, parseHeld } from "./held-bytes.ts";
import { aModelConfig } from "./model-config-fixture.ts";
import { cutSlices, shardBytes } from "./slice.ts";

const held: HeldBytes = { quantization: "int4", layersBytes: 5000, headBytes: 700 };

describe("bytes of what is held as the checkpoint has it", () => {
  it("are read as they were written, or are none", () => {
    expect(parseHeld([held])).to.deep.equal([held]);
    expect(parseHeld(undefined)).to.deep.equal([]);
  });

  const bad: readonly (readonly [value: unknown, says: string])[] = [
    [3, "held is 3"],
    [[held, held, held], "held is"],
    [[3], "held[0].quantization"],
    [[{ ...held, quantization: "f16" }], `held[0].quantization is "f16"`],
    [[{ ...held, layersBytes: -1 }], "held[0].layersBytes is -1"],
    [[held, { ...held, headBytes: 0.5 }], "held[1].headBytes is 0.5"],
  ];
  for (const [value, says] of bad)
    it(`are refused: ${says}`, () => {
      expect(parseHeld(value)).to.be.a("string").and.include(says);
    });

  it("change what a rank takes in proportion, the embedding excepted, and only in their own form", () => {
    const config = aModelConfig({});
    const own = bytesInOwnBlocks(config, "int4");
    const double = { quantization: "int4", layersBytes: 2 * own.layersBytes, headBytes: 3 * own.headBytes } as const;
    expect(heldScale(config, "int4", [double])).to.deep.equal({ layers: 2, head: 3 });
    expect(heldScale(config, "int8", [double])).to.equal(undefined);
    const [slice = expect.fail("a slice")] = cutSlices(config, [1, 1]);
    const bytes = (ends: { first: boolean; last: boolean }, scale = heldScale(config, "int4", [double])) =>
      shardBytes(config, { start: 0, end: 1 }, slice, "int4", ends, scale);
    const plain = { layers: 1, head: 1 };
    const [inner, first] = [
      { first: false, last: false },
      { first: true, last: false },
    ];
    expect(bytes(inner)).to.equal(2 * bytes(inner, plain));
    expect(bytes(first) - bytes(inner)).to.equal(bytes(first, plain) - bytes(inner, plain));
  });
});
