/** The bench's checkpoint as one packed shard, int4, in the bench's own cache. */
import { join } from "node:path";
import { present } from "../../core/assert.ts";
import type { ModelConfig } from "../../core/model-config.ts";
import { valueOrThrow } from "../../core/result.ts";
import { cutSlices } from "../../core/slice.ts";
import { systemClock } from "../../core/wire/clock.ts";
import { packShard } from "../../shard-runtime/engine/pack.ts";
import { openModel } from "../../shard-runtime/weights/open-model.ts";
import { benchCache } from "./random-checkpoint.ts";

/** Packs, or checks what is packed. */
export async function packWhole(
  checkpoint: string,
  cacheDirectory: string = join(benchCache(), "packed"),
): Promise<{ readonly directory: string; readonly config: ModelConfig }> {
  const model = valueOrThrow(await openModel({ path: checkpoint }, { clock: systemClock }));
  const layers = { start: 0, end: model.config.layerCount };
  const slice = present(cutSlices(model.config, [1])[0], "one weight, one slice");
  const { directory } = await packShard(
    model.tensors,
    model.config,
    { layers, slice },
    { modelRoot: model.root, quantization: "int4", cacheDirectory },
  );
  return { directory, config: model.config };
}
