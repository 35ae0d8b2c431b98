/** What the planner counts for a checkpoint in blocks is what the packer makes of it, byte for byte. */
import { readFileSync, readdirSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect } from "chai";
import { heldScale } from "../../core/held-bytes.ts";
import { cutSlices, shardBytes } from "../../core/slice.ts";
import { valueOrThrow } from "../../core/result.ts";
import { systemClock as clock } from "../../core/wire/clock.ts";
import { packShard } from "../../shard-runtime/engine/pack.ts";
import { openModel } from "../../shard-runtime/weights/open-model.ts";
import { packModel } from "../../shard-runtime/weights/pack.ts";
import { randomCheckpoint } from "./families/random-weights.ts";

const GOLDEN = fileURLToPath(new URL("./formats/", import.meta.url));

/** Bytes of all weights that the graphs of a packed shard point at, once each: the file has pages' ends between them. */
function weightBytesIn(directory: string): number {
  const lengths = new Map<number, number>();
  for (const name of readdirSync(directory).filter((each) => each.endsWith(".onnx")))
    for (const [, offset, length] of readFileSync(join(directory, name), "latin1").matchAll(
      /offset\W+(\d+)j\W+length\W+(\d+)/g,
    ))
      lengths.set(Number(offset), Number(length));
  return lengths.values().reduce((sum, length) => sum + length, 0);
}

describe("bytes of matrices that are held as the checkpoint has them", () => {
  for (const name of readdirSync(GOLDEN))
    it(`are counted as they are packed: ${name}`, async function () {
      this.timeout(60_000);
      const folder = await randomCheckpoint(join(GOLDEN, name));
      try {
        valueOrThrow(await packModel(folder, { clock, tokenizer: "optional", columns: false }));
        const model = valueOrThrow(await openModel({ path: folder }, { clock }));
        const { config, manifest } = model;
        const [slice = expect.fail("a slice")] = cutSlices(config, [1]);
        const layers = { start: 0, end: config.layerCount };
        for (const quantization of ["int4", "int8"] as const) {
          const options = { modelRoot: model.root, quantization, cacheDirectory: join(folder, "cache") };
          const { directory } = await packShard(model.tensors, config, { layers, slice }, options);
          const scale = heldScale(config, quantization, manifest.held);
          const counted = shardBytes(config, layers, slice, quantization, { first: false, last: true }, scale);
          expect(weightBytesIn(directory), `${quantization}, ${JSON.stringify(manifest.held)}`).to.equal(counted);
        }
      } finally {
        await rm(folder, { recursive: true });
      }
    });
});
