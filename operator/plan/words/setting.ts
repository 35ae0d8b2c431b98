/** The fields of a model's spec that one may ask "what if" about: `quantization=int4`, `context=8192`, `providers.min=2`. */
import { KV_DTYPES } from "../../../core/kv-cache.ts";
import { QUANTIZATIONS } from "../../../core/rank-config.ts";
import { type Result, ok, refuse } from "../../../core/result.ts";
import { parseCredits } from "../model-spec.ts";
import type { ModelSpec } from "../types.ts";
import type { Setting } from "./change.ts";
import { countOf } from "./figures.ts";

type Placement = Partial<ModelSpec["placement"]>;
type Parts = Pick<Setting, "words" | "placement" | "without"> & { readonly model?: Partial<ModelSpec> };
type Field = { readonly expects: string; readonly parse: (text: string, spec: ModelSpec) => Parts | undefined };

const count = (text: string, least: number): number | undefined => {
  const value = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN;
  return value >= least ? value : undefined;
};
const counted = (least: number, parts: (value: number, spec: ModelSpec) => Parts): Field => ({
  expects: `a whole number of at least ${least}`,
  parse: (text, spec) => {
    const value = count(text, least);
    return value === undefined ? undefined : parts(value, spec);
  },
});
/** `a`, `a+b`; `none` for the empty list. */
const names = (text: string): readonly string[] => (text === "none" || text === "" ? [] : text.split("+"));
const named = (word: string, parts: (value: readonly string[]) => Placement): Field => ({
  expects: "names joined by +, or none",
  parse: (text) => ({ words: `${word} ${names(text).join(", ") || "none"}`, placement: parts(names(text)) }),
});
/** A rule that can be left out altogether: the empty list would let nobody through. */
const optional = (word: string, key: NonNullable<Setting["without"]>): Field => ({
  expects: "names joined by +, or none for no rule",
  parse: (text) =>
    names(text).length === 0
      ? { words: `no ${word}`, without: key }
      : { words: `${word} ${names(text).join(", ")}`, placement: { [key]: names(text) } },
});
const money = (text: string): bigint | undefined =>
  /^\d{1,12}([.]\d{1,6})?$/.test(text) ? parseCredits(text) : undefined;

const FIELDS: Readonly<Record<string, Field>> = {
  quantization: {
    expects: QUANTIZATIONS.join(", "),
    parse: (text) => {
      const quantization = QUANTIZATIONS.find((each) => each === text);
      return quantization === undefined ? undefined : { words: `quantization ${text}`, model: { quantization } };
    },
  },
  kvCache: {
    expects: KV_DTYPES.join(", "),
    parse: (text) => {
      const kvDtype = KV_DTYPES.find((each) => each === text);
      return kvDtype === undefined ? undefined : { words: `kvCache.dtype ${text}`, model: { kvDtype } };
    },
  },
  replicas: counted(0, (replicas) => ({ words: countOf(replicas, "replica"), model: { replicas } })),
  context: counted(1, (contextLength) => ({ words: `contextLength ${contextLength}`, model: { contextLength } })),
  slots: counted(1, (slotCount) => ({ words: `slots ${slotCount}`, model: { slotCount } })),
  spares: counted(0, (spares) => ({ words: countOf(spares, "spare"), model: { spares } })),
  "providers.min": counted(1, (providersMin) => ({
    words: `placement.providers.min ${providersMin}`,
    placement: { providersMin },
  })),
  "providers.maxShare": {
    expects: "1% to 100%",
    parse: (text) => {
      const providersMaxSharePercent = count(text.replace(/%$/, ""), 1);
      if (providersMaxSharePercent === undefined || providersMaxSharePercent > 100) return undefined;
      const words = `placement.providers.maxShare ${providersMaxSharePercent}%`;
      return { words, placement: { providersMaxSharePercent } };
    },
  },
  "providers.allow": named("placement.providers.allow", (providersAllow) => ({ providersAllow })),
  "providers.deny": named("placement.providers.deny", (providersDeny) => ({ providersDeny })),
  devices: optional("placement.devices", "devices"),
  regions: optional("placement.regions", "regions"),
  edges: optional("placement.edges.providers", "edgeProviders"),
  nodeSelector: {
    expects: "KEY:VALUE pairs joined by +, or none",
    parse: (text) => {
      const pairs = names(text).map((pair) => pair.split(":"));
      if (pairs.some((pair) => pair.length !== 2)) return undefined;
      return {
        words: `placement.nodeSelector ${names(text).join(", ") || "none"}`,
        placement: { nodeSelector: Object.fromEntries(pairs) },
      };
    },
  },
  tensorParallel: counted(1, (tensorParallelMax) => ({
    words: `placement.tensorParallel.max ${tensorParallelMax}`,
    placement: { tensorParallelMax },
  })),
  surviveProviders: counted(0, (surviveProviders) => ({
    words: `placement.surviveProviders ${surviveProviders}`,
    placement: { surviveProviders },
  })),
  maxPricePerHour: {
    expects: "credits, such as 1.50",
    parse: (text, { objective }) => {
      const pricePerHourMax = money(text);
      if (pricePerHourMax === undefined) return undefined;
      return {
        words: `at most ${text} credits an hour`,
        placement: { pricePerHourMax },
        ...(objective?.kind === "Latency" ? { model: { objective: { ...objective, pricePerHourMax } } } : {}),
      };
    },
  },
  maxTimePerTokenMs: counted(1, (timePerTokenMsMax) => ({
    words: `objective.throughput.maxTimePerTokenMs ${timePerTokenMsMax}`,
    model: { objective: { kind: "Throughput", timePerTokenMsMax } },
  })),
  minTokensPerSecond: {
    expects: "a number above 0",
    parse: (text) => {
      const tokensPerSecondMin = /^\d{1,9}([.]\d{1,6})?$/.test(text) ? Number(text) : 0;
      if (tokensPerSecondMin <= 0) return undefined;
      const words = `objective.price.minTokensPerSecond ${text}`;
      return { words, model: { objective: { kind: "Price", tokensPerSecondMin } } };
    },
  },
  objective: {
    expects: "throughput or latency",
    parse: (text) =>
      text === "throughput"
        ? { words: "objective throughput", model: { objective: { kind: "Throughput" } } }
        : text === "latency"
          ? { words: "objective latency", model: { objective: { kind: "Latency" } } }
          : undefined,
  },
};

const OTHER_NAMES: Readonly<Record<string, string>> = { contextLength: "context", maxShare: "providers.maxShare" };

export const SETTING_NAMES: readonly string[] = Object.keys(FIELDS);

/** `name` = `text`, as a change of this spec; `BadOption` with what the field expects. */
export function settingOf(spec: ModelSpec, name: string, text: string): Result<Setting, "BadOption"> {
  const known = OTHER_NAMES[name] ?? name;
  const field = FIELDS[known];
  if (field === undefined)
    return refuse("BadOption", `${name} is nothing to ask about: choose ${SETTING_NAMES.join(", ")}`);
  const parts = field.parse(text, spec);
  if (parts === undefined) return refuse("BadOption", `${name}=${text}: expected ${field.expects}`);
  return ok({ do: "set", name: known, to: text, model: {}, ...parts });
}
