import { expect } from "chai";
import { cutSlices } from "../../core/slice.ts";
import { aCheckpoint, hurriedClock, removed } from "./checkpoint-builder.ts";
import { openModel } from "./open-model.ts";
import { packModel } from "./pack.ts";
import { shardReads } from "./shard-reads.ts";
import { valueOrThrow } from "../../core/result.ts";

const clock = hurriedClock();
const config = {
  hidden_size: 256,
  intermediate_size: 1024,
  num_hidden_layers: 4,
  num_attention_heads: 8,
  vocab_size: 4000,
};

describe("what a rank will read", () => {
  it("is what progress counts up to, and it ends there", async () => {
    const directory = await aCheckpoint({ config: { ...config, num_key_value_heads: 4 }, dtype: "F16" });
    try {
      valueOrThrow(await packModel(directory, { clock }));
      for (const layers of [
        { start: 0, end: 2 },
        { start: 2, end: 4 },
      ])
        for (const weights of [[1], [2, 1]]) {
          const { config: own } = valueOrThrow(await openModel({ path: directory }, { clock }));
          for (const slice of cutSlices(own, weights)) {
            const model = valueOrThrow(await openModel({ path: directory }, { clock }));
            const reads = shardReads(own, layers, slice);
            await model.expectReads(reads);
            const { totalBytes } = model.progress();
            for (const { role, part } of reads) await model.tensors.read(role, part);
            expect(model.progress()).to.include({ doneBytes: totalBytes, totalBytes });
          }
        }
    } finally {
      await removed(directory);
    }
  }).timeout(60_000);
});
