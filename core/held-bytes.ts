/**
 * What a model's matrices take where they are held as the checkpoint has them: a Q4_0 file's blocks of 32 values take 5
 * bits a value, not the 4.25 of our own blocks of 128. Whoever packs looks; it stands in the manifest beside the root and
 * not under it, and planning counts with it.
 */
import { present } from "./assert.ts";
import { isJsonObject, shown } from "./json.ts";
import type { ModelConfig } from "./model-config.ts";
import type { Quantization } from "./rank-config.ts";
import { cutSlices, shardBytes } from "./slice.ts";

export const HELD_IN_BLOCKS = ["int8", "int4"] as const satisfies readonly Quantization[];

/** Bytes of the whole model on one rank, packed so. */
export type HeldBytes = {
  readonly quantization: (typeof HELD_IN_BLOCKS)[number];
  readonly layersBytes: number; // of all layers together
  readonly headBytes: number; // final norm and head
};

/** By how much a rank's layers and its head are larger than in blocks of our own. */
export type HeldScale = { readonly layers: number; readonly head: number };

/** What {@link HeldBytes} would be in blocks of our own. */
export function bytesInOwnBlocks(config: ModelConfig, quantization: Quantization): Omit<HeldBytes, "quantization"> {
  const slice = present(cutSlices(config, [1])[0], "one weight makes one slice");
  const all = { start: 0, end: config.layerCount };
  const bytes = (last: boolean) => shardBytes(config, all, slice, quantization, { first: false, last });
  return { layersBytes: bytes(false), headBytes: bytes(true) - bytes(false) };
}

/** Undefined where nothing is held as the checkpoint has it. */
export function heldScale(
  config: ModelConfig,
  quantization: Quantization,
  held: readonly HeldBytes[] = [],
): HeldScale | undefined {
  const found = held.find((each) => each.quantization === quantization);
  if (found === undefined) return undefined;
  const own = bytesInOwnBlocks(config, quantization);
  return { layers: found.layersBytes / own.layersBytes, head: found.headBytes / own.headBytes };
}

/** Those of a manifest's `held` (none where it is absent), or what is wrong with it. */
export function parseHeld(value: unknown): readonly HeldBytes[] | string {
  if (value === undefined) return [];
  if (!Array.isArray(value) || value.length > HELD_IN_BLOCKS.length)
    return `held is ${shown(value)}, expected a short list`;
  const held: HeldBytes[] = [];
  for (const [index, entry] of value.entries()) {
    const { quantization, layersBytes, headBytes } = isJsonObject(entry) ? entry : {};
    const known = HELD_IN_BLOCKS.find((each) => each === quantization);
    if (known === undefined)
      return `held[${index}].quantization is ${shown(quantization)}, expected ${HELD_IN_BLOCKS.join(", ")}`;
    if (!isByteCount(layersBytes)) return `held[${index}].layersBytes is ${shown(layersBytes)}, expected bytes`;
    if (!isByteCount(headBytes)) return `held[${index}].headBytes is ${shown(headBytes)}, expected bytes`;
    held.push({ quantization: known, layersBytes, headBytes });
  }
  return held;
}

const isByteCount = (value: unknown): value is number =>
  typeof value === "number" && Number.isSafeInteger(value) && value > 0;
