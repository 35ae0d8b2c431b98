/** What quantisations of the demo model cost: nothing in f32, and the more the fewer bits. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect } from "chai";
import { valueOrThrow } from "../../core/result.ts";
import { systemClock as clock } from "../../core/wire/clock.ts";
import { measureCosts, measureDivergences, sampleOf } from "../../shard-runtime/weights/measure-costs.ts";
import { openUnpacked } from "../../shard-runtime/weights/pack.ts";

const DEMO = fileURLToPath(new URL("../../models/demo", import.meta.url));
const timeLimitMs = 3_600_000;

describe("costs of quantisation, of the demo model", () => {
  it("are nothing in f32", async () => {
    const model = valueOrThrow(await openUnpacked(DEMO, { clock }));
    const sample = await sampleOf(model);
    expect(sample.kind).to.equal("text");
    const directory = await mkdtemp(join(tmpdir(), "tessellate-costs-"));
    try {
      const options = { clock, timeLimitMs, directory };
      expect(await measureDivergences(model, sample, [{ quantization: "f32" }], options)).to.deep.equal([0]);
    } finally {
      await rm(directory, { recursive: true });
    }
  });

  it("are the more the fewer bits, and the same wherever the model is cut", async () => {
    const model = valueOrThrow(await openUnpacked(DEMO, { clock }));
    const quantizations = ["f16", "int8", "int4"] as const;
    const kvDtypes = ["int8"] as const;
    const { costs, unmeasured } = await measureCosts(model, { quantizations, kvDtypes, clock, timeLimitMs });
    expect(costs.map(({ quantization }) => quantization).slice(0, 3)).to.deep.equal(quantizations);
    const [f16, int8, int4, kvInt8] = costs.map(({ meanKlNats }) => meanKlNats);
    if (kvInt8 === undefined) expect(unmeasured).to.include("KV cache in int8");
    else expect(kvInt8).to.be.within(1e-9, 1e-3);
    if (f16 === undefined || int8 === undefined || int4 === undefined) throw new Error("three were asked for");
    expect(f16).to.be.below(int8);
    expect(int8).to.be.below(int4);
    expect(int4).to.be.within(1e-6, 1);
    expect(costs[0]?.tokenCount).to.be.within(100, 256);
    const cut = await measureCosts(model, { quantizations: ["int4"], clock, timeLimitMs, segmentBytes: 1 });
    expect(cut.costs).to.deep.equal([costs[2]]);
  });
});
