/**
 * Rotary settings in all their spellings: `rope_theta` + `rope_scaling` (`rope_type`, earlier `type`) up to
 * transformers v4, `rope_parameters` from v5 on. Derived numbers are those of its modeling_rope_utils.
 */
import type { Fields } from "../config-fields.ts";
import { type JsonObject, isJsonObject, shown } from "../json.ts";
import type { Rope, RopeScaling } from "../model-config.ts";

export type RopeHabits = {
  readonly theta?: number; // where config.json has none
  readonly thetaName?: string; // of the outer option
  readonly partial?: boolean; // partial_rotary_factor is honoured
  readonly kinds?: Readonly<Record<string, string>>; // older names of a kind
  readonly settings?: JsonObject; // where config.json has none
  readonly originalPositions?: number; // where the outer original_max_position_embeddings is missing
};

const NONE: RopeScaling = { kind: "none" };

/** One rope for all layers. `headSize` as in ModelConfig, `maxPositions` likewise. */
export function ropeOf(fields: Fields, headSize: number, maxPositions: number, habits: RopeHabits = {}): Rope {
  const scaling = objectIn(fields, "rope_scaling");
  const where = scaling !== undefined && Object.keys(scaling).length > 0 ? "rope_scaling" : "rope_parameters";
  const settings = (where === "rope_scaling" ? scaling : objectIn(fields, where)) ?? habits.settings ?? {};
  const nested = Object.keys(settings).find((key) => key.endsWith("_attention"));
  if (nested !== undefined)
    fields.refuse("UnsupportedOption", `${where}.${nested} is set; this family has one rope for all layers`);
  return readRope(fields, fields.within(settings, `${where}.`), headSize, maxPositions, habits);
}

/** The rope whose settings stand in `inner`; what is missing there, `outer` may say. */
export function readRope(
  outer: Fields,
  inner: Fields,
  headSize: number,
  maxPositions: number,
  habits: RopeHabits,
): Rope {
  const { theta = 10_000, thetaName = "rope_theta" } = habits;
  const rotarySize = rotarySizeOf(outer, inner, headSize, habits.partial ?? false);
  const originalPositions =
    outer.optionalInteger("original_max_position_embeddings") ??
    habits.originalPositions ??
    inner.optionalInteger("original_max_position_embeddings") ??
    maxPositions;
  return {
    theta: inner.optionalPositive("rope_theta") ?? outer.positive(thetaName, theta),
    rotarySize,
    scaling: readScaling(inner, habits, { rotarySize, originalPositions, maxPositions }),
  };
}

/** An object at `name`; undefined where there is none. */
export function objectIn(fields: Fields, name: string): JsonObject | undefined {
  const value = fields.json[name] ?? undefined;
  if (value === undefined || isJsonObject(value)) return value;
  fields.refuse("MalformedConfig", `${name} is ${shown(value)}, expected an object`);
  return undefined;
}

function rotarySizeOf(outer: Fields, inner: Fields, headSize: number, partial: boolean): number {
  const said = inner.json["partial_rotary_factor"] == null ? outer : inner;
  const factor = said.positive("partial_rotary_factor", 1);
  const size = Math.floor(headSize * factor);
  if (factor === 1) return headSize;
  if (!partial) said.refuse("UnsupportedOption", `partial_rotary_factor is ${factor}; only 1 is honoured`);
  else if (size % 2 !== 0 || size === 0 || size > headSize)
    said.refuse("MalformedConfig", `partial_rotary_factor ${factor} turns ${size} values of a head of ${headSize}`);
  return size;
}

type Sizes = { readonly rotarySize: number; readonly originalPositions: number; readonly maxPositions: number };

function readScaling(inner: Fields, habits: RopeHabits, sizes: Sizes): RopeScaling {
  const named = inner.json["rope_type"] ?? inner.json["type"] ?? "default";
  const kind = (typeof named === "string" ? habits.kinds?.[named] : undefined) ?? named;
  switch (kind) {
    case "default":
      return NONE;
    case "linear":
      return { kind: "linear", factor: inner.positive("factor") };
    case "llama3":
      return llama3(inner, sizes);
    case "yarn":
      return yarn(inner, sizes);
    case "longrope":
      return longrope(inner, sizes);
    default: {
      const known = '"default", "linear", "llama3", "yarn" and "longrope"';
      inner.refuse("UnsupportedOption", `rope_type is ${shown(kind)}; only ${known} are honoured`);
      return NONE;
    }
  }
}

function llama3(inner: Fields, { originalPositions }: Sizes): RopeScaling {
  const lowFrequencyFactor = inner.positive("low_freq_factor");
  const highFrequencyFactor = inner.positive("high_freq_factor");
  if (highFrequencyFactor <= lowFrequencyFactor)
    inner.refuse(
      "MalformedConfig",
      `high_freq_factor ${highFrequencyFactor} must be above low_freq_factor ${lowFrequencyFactor}`,
    );
  const factor = inner.positive("factor");
  return { kind: "llama3", factor, lowFrequencyFactor, highFrequencyFactor, originalPositions };
}

function yarn(inner: Fields, { originalPositions, maxPositions }: Sizes): RopeScaling {
  const factor = inner.optionalPositive("factor") ?? maxPositions / originalPositions;
  const grown = (scale = 1) => (factor <= 1 ? 1 : 0.1 * scale * Math.log(factor) + 1);
  // Zero stands for "not said" in DeepSeek's files.
  const [mscale, mscaleAll] = [inner.json["mscale"] || undefined, inner.json["mscale_all_dim"] || undefined];
  const byScales =
    mscale === undefined || mscaleAll === undefined
      ? grown()
      : grown(inner.positive("mscale")) / grown(inner.positive("mscale_all_dim"));
  return {
    kind: "yarn",
    factor,
    betaFast: inner.positive("beta_fast", 32),
    betaSlow: inner.positive("beta_slow", 1),
    originalPositions,
    attentionFactor: inner.optionalPositive("attention_factor") ?? byScales,
    truncate: inner.flag("truncate", true),
  };
}

function longrope(inner: Fields, { rotarySize, originalPositions, maxPositions }: Sizes): RopeScaling {
  const factor = inner.optionalPositive("factor") ?? maxPositions / originalPositions;
  const grown = factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(originalPositions));
  return {
    kind: "longrope",
    shortFactors: inner.positives("short_factor", rotarySize / 2),
    longFactors: inner.positives("long_factor", rotarySize / 2),
    originalPositions,
    attentionFactor: inner.optionalPositive("attention_factor") ?? grown,
  };
}
