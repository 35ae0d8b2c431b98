/**
 * The angles of rotary position embedding (Su et al., RoFormer), stretched as the checkpoint says. Rounded to f32 where
 * the reference implementation rounds (inverse frequency, angle): at position 10,000 one rounding more or less is an
 * angle's fourth digit, and the model was trained with those.
 */
import type { ModelConfig, Rope, RopeScaling } from "../../../core/model-config.ts";
import { paddedHeadSize } from "../../../core/slice.ts";
import { floats } from "../ort.ts";

/** `contextLength` decides between the factors of longrope; the others take no notice. */
export type RotaryReach = { readonly contextLength: number };

/** Turns per position of each pair of a head, f32 [rotarySize / 2], scaling applied. */
export function inverseFrequencies(rope: Rope, reach: RotaryReach = { contextLength: 0 }): Float32Array {
  const { theta, rotarySize, scaling } = rope;
  const half = rotarySize / 2;
  const powers = Float32Array.from({ length: half }, (_, pair) => theta ** Math.fround(pair / half));
  const plain = powers.map((power) => 1 / power);
  switch (scaling.kind) {
    case "none":
      return plain;
    case "linear":
      return plain.map((frequency) => frequency / scaling.factor);
    case "llama3":
      // Llama 3.1: long waves are stretched by the factor, short ones stay, those between are blended.
      return plain.map((frequency) => {
        const wavesPerContext = (scaling.originalPositions * frequency) / (2 * Math.PI);
        const { lowFrequencyFactor: low, highFrequencyFactor: high } = scaling;
        const kept = Math.min(1, Math.max(0, (wavesPerContext - low) / (high - low)));
        return kept * frequency + ((1 - kept) * frequency) / scaling.factor;
      });
    case "yarn":
      return yarn(plain, rope, scaling);
    case "longrope": {
      // One choice for all positions alike, by what a session may grow to: a row's bits must not change with its length.
      const factors = reach.contextLength > scaling.originalPositions ? scaling.longFactors : scaling.shortFactors;
      return powers.map((power, pair) => 1 / Math.fround(Math.fround(factors[pair] ?? 1) * power));
    }
  }
}

/** Pairs that turn often within the original context stay, those that turn rarely are stretched, a ramp lies between. */
function yarn(plain: Float32Array, { theta, rotarySize }: Rope, scaling: Extract<RopeScaling, { kind: "yarn" }>) {
  const pairOf = (turns: number) =>
    (rotarySize * Math.log(scaling.originalPositions / (turns * 2 * Math.PI))) / (2 * Math.log(theta));
  const [first, last] = [pairOf(scaling.betaFast), pairOf(scaling.betaSlow)];
  const low = Math.max(0, scaling.truncate ? Math.floor(first) : first);
  const high = Math.min(rotarySize - 1, scaling.truncate ? Math.ceil(last) : last);
  const width = low === high ? 0.001 : high - low;
  return plain.map((frequency, pair) => {
    const stretched = Math.min(1, Math.max(0, (pair - low) / width));
    return (frequency / scaling.factor) * stretched + frequency * (1 - stretched);
  });
}

export type RotaryTables = { readonly cosine: Float32Array; readonly sine: Float32Array };

/**
 * Cosines and sines, each f32 [positionCount, paddedHeadSize / 2], row-major; what does not turn has 1 and 0. The last
 * of the positions is one past the context; see attention.ts.
 */
export function rotaryTables(config: ModelConfig, rope: Rope, positionCount: number): RotaryTables {
  const frequencies = inverseFrequencies(rope, { contextLength: positionCount - 1 });
  const factor = "attentionFactor" in rope.scaling ? Math.fround(rope.scaling.attentionFactor) : 1;
  const half = paddedHeadSize(config) / 2;
  const cosine = floats(positionCount * half).fill(1);
  const sine = floats(positionCount * half);
  for (let position = 0; position < positionCount; position += 1) {
    for (const [pair, frequency] of frequencies.entries()) {
      const angle = Math.fround(position * frequency);
      cosine[position * half + pair] = Math.fround(Math.cos(angle)) * factor;
      sine[position * half + pair] = Math.fround(Math.sin(angle)) * factor;
    }
  }
  return { cosine, sine };
}
