/** The GGUF files of test/golden/formats by themselves: their metadata amounts to the config.json they were made from. */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect } from "chai";
import { valueOrThrow } from "../../core/result.ts";
import { systemClock } from "../../core/wire/clock.ts";
import { openModel } from "../../shard-runtime/weights/open-model.ts";
import { openUnpacked, packModel } from "../../shard-runtime/weights/pack.ts";
import { randomCheckpoint } from "./families/random-weights.ts";

const GOLDEN = fileURLToPath(new URL("./formats/", import.meta.url));

describe("GGUF by itself", () => {
  for (const name of ["gguf-f16", "gguf-q8-0", "gguf-q4-0", "gguf-k", "gguf-qwen2"])
    it(`is the same model: ${name}`, async () => {
      const folder = await randomCheckpoint(join(GOLDEN, name));
      try {
        const { config } = valueOrThrow(await openUnpacked(folder, { clock: systemClock }));
        await rm(join(folder, "config.json"));
        const packed = valueOrThrow(await packModel(folder, { clock: systemClock }));
        expect(packed.written).to.include("config.json").and.include("tokenizer.json");
        expect(packed.notes.join()).to.match(name === "gguf-k" ? /Q4_K, Q6_K .*rounded once more/ : /^$|Q6_K/);
        const model = valueOrThrow(await openModel({ path: folder }, { clock: systemClock }));
        expect(model.config).to.deep.equal(config);
      } finally {
        await rm(folder, { recursive: true });
      }
    });
});
