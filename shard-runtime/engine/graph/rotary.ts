/**
 * The angles of rotary position embedding (Su et al., RoFormer), stretched as the checkpoint says. Rounded to f32 where
 * the reference implementation rounds (inverse frequency, angle): at position 10,000 one rounding more or less is an
 * angle's fourth digit, and the model was trained with those.
 */
import type { ModelConfig, Rope } from "../../../core/model-config.ts";
import { paddedHeadSize } from "../../../core/slice.ts";
import { floats } from "../ort.ts";

/** Turns per position of each pair of a head, f32 [rotarySize / 2], scaling applied. */
export function inverseFrequencies({ theta, rotarySize, scaling }: Rope): Float32Array {
  const half = rotarySize / 2;
  const plain = Float32Array.from({ length: half }, (_, pair) => 1 / Math.fround(theta ** Math.fround(pair / half)));
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
    case "longrope":
      throw new Error(`rope scaling ${scaling.kind} has no angles yet`);
  }
}

export type RotaryTables = { readonly cosine: Float32Array; readonly sine: Float32Array };

/** Cosines and sines, each f32 [positionCount, paddedHeadSize / 2], row-major; what pads a head does not turn. */
export function rotaryTables(config: ModelConfig, rope: Rope, positionCount: number): RotaryTables {
  const frequencies = inverseFrequencies(rope);
  const half = paddedHeadSize(config) / 2;
  const cosine = floats(positionCount * half).fill(1);
  const sine = floats(positionCount * half);
  for (let position = 0; position < positionCount; position += 1) {
    for (const [pair, frequency] of frequencies.entries()) {
      const angle = Math.fround(position * frequency);
      cosine[position * half + pair] = Math.cos(angle);
      sine[position * half + pair] = Math.sin(angle);
    }
  }
  return { cosine, sine };
}
