/** The bench's checkpoint as one packed shard, int4, in the bench's own cache. */
import { join } from "node:path";
import { present } from "../../core/assert.ts";
import type { ModelConfig } from "../../core/model-config.ts";
import { valueOrThrow } from "../../core/result.ts";
import { cutSlices } from "../../core/slice.ts";
import { systemClock } from "../../core/wire/clock.ts";
import { packShard } from "../../shard-runtime/engine/pack.ts";
import { openModel } from "../../shard-runtime/weights/open-model.ts";
import { benchCache } from "./bench-cache.ts";

/** The whole model on one rank, as packShard and withPackedShard want it. */
export async function wholeShard(checkpoint: string, cacheDirectory: string = join(benchCache(), "packed")) {
  const model = valueOrThrow(await openModel({ path: checkpoint }, { clock: systemClock }));
  const layers = { start: 0, end: model.config.layerCount };
  const slice = present(cutSlices(model.config, [1])[0], "one weight, one slice");
  const options = { modelRoot: model.root, quantization: "int4", cacheDirectory } as const;
  return { tensors: model.tensors, config: model.config, shard: { layers, slice }, options };
}

/** Packs, or checks what is packed. */
export async function packWhole(
  checkpoint: string,
  cacheDirectory?: string,
): Promise<{ readonly directory: string; readonly config: ModelConfig }> {
  const { tensors, config, shard, options } = await wholeShard(checkpoint, cacheDirectory);
  const { directory } = await packShard(tensors, config, shard, options);
  return { directory, config };
}
