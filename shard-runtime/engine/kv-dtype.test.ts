import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { digestOf } from "../../core/digest.ts";
import { aModelConfig } from "../../core/model-config-fixture.ts";
import { cutSlices } from "../../core/slice.ts";
import { checkKvDtype } from "./kv-dtype.ts";
import { loadEngine } from "./ort-engine.ts";
import { DESCRIPTION_FILE, DIGEST_FILE } from "./shard.ts";

describe("a cache of codes", () => {
  const library = { path: "/x.so" };
  const none = { reason: "TESSELLATE_PRODUCTS is off" };
  const cases = [
    { kvDtype: "f32", device: "webgpu", found: none, says: undefined },
    { kvDtype: "int8", device: "cpu", found: library, says: undefined },
    { kvDtype: "int8", device: "cpu", found: none, says: /needs attention of our own.*PRODUCTS is off.*compiler/s },
    { kvDtype: "int8", device: "webgpu", found: library, says: /device "webgpu" keeps.*use f32, or nodes/s },
    { kvDtype: "int8", device: "cuda", found: none, says: /device "cuda"/ },
  ] as const;
  for (const { kvDtype, device, found, says } of cases)
    it(`${kvDtype} on ${device}, ${"path" in found ? "with" : "without"} our operators: ${says ?? "yes"}`, () => {
      const result = checkKvDtype(kvDtype, device, found);
      if (says === undefined) expect(result.ok).to.equal(true);
      else expect(result).to.include({ ok: false, code: "KvCacheUnsupported" }).and.property("detail").to.match(says);
    });

  it("is refused before the engine is opened", async () => {
    const shardDirectory = await mkdtemp(join(tmpdir(), "tessellate-kv-"));
    try {
      const config = aModelConfig({});
      const [slice] = cutSlices(config, [1]);
      const shard = { kind: "tessellate/shard/v2", config, slice, layers: { start: 0, end: 1 }, files: [] };
      const text = Buffer.from(JSON.stringify({ ...shard, matrices: [] }));
      await writeFile(join(shardDirectory, DESCRIPTION_FILE), text);
      await writeFile(join(shardDirectory, DIGEST_FILE), digestOf(text));
      const options = { shardDirectory, contextLength: 8, slotCount: 1, threadCount: 1, spin: false } as const;
      for (const device of ["cpu", "webgpu"]) {
        const failure = await loadEngine({ ...options, device, kvDtype: "int8" }).catch((cause: unknown) => cause);
        expect(failure).to.include({ code: "KvCacheUnsupported" });
      }
    } finally {
      await rm(shardDirectory, { recursive: true });
    }
  });
});
