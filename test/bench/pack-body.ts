/** What runs in a process of pack.ts: packs the first rank of the first segment of a checkpoint and tells what it took. */
import { createInterface } from "node:readline";
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { present } from "../../core/assert.ts";
import { splitByWeights } from "../../core/ranges.ts";
import { valueOrThrow } from "../../core/result.ts";
import { cutSlices, shardBytes } from "../../core/slice.ts";
import { systemClock } from "../../core/wire/clock.ts";
import { packShard } from "../../shard-runtime/engine/pack.ts";
import { openModel } from "../../shard-runtime/weights/open-model.ts";
import { bytesRead, memoryOf } from "./machine.ts";

type Command = {
  readonly checkpoint: string;
  readonly cacheDirectory: string;
  readonly segments: number;
  readonly ranks: number;
};

async function pack({ checkpoint, cacheDirectory, segments, ranks }: Command) {
  const readBefore = bytesRead();
  const start = performance.now();
  const { config, tensors, root } = valueOrThrow(await openModel({ path: checkpoint }, { clock: systemClock }));
  const ones = (count: number) => new Array<number>(count).fill(1);
  const layers = present(splitByWeights(config.layerCount, ones(segments))[0], "a first segment");
  const slice = present(cutSlices(config, ones(ranks))[0], "a first rank");
  const options = { modelRoot: root, quantization: "int4", cacheDirectory } as const;
  const { directory } = await packShard(tensors, config, { layers, slice }, options);
  const ends = { first: true, last: layers.end === config.layerCount };
  return {
    seconds: (performance.now() - start) / 1000,
    peakBytes: memoryOf("self", "VmHWM"),
    readBytes: bytesRead() - readBefore,
    sourceBytes: shardBytes(config, layers, slice, "f16", ends), // bf16 is as wide
    shardBytes: readdirSync(directory).reduce((sum, name) => sum + statSync(join(directory, name)).size, 0),
  };
}

for await (const line of createInterface({ input: process.stdin })) {
  const command: Command = JSON.parse(line);
  console.log(JSON.stringify(await pack(command)));
}
