/**
 * What it costs a model's answers to be held in fewer bits, its weights or what sessions keep: the mean Kullback-Leibler
 * divergence of its next-token distribution from the one that f32 gives, over the tokens of a sample. It stands in the
 * manifest beside the root and not under it: the root names bytes, this is a measurement, worth as much as whoever packed
 * the model is trusted; anyone who has the model can measure it again.
 */
import { isJsonObject, shown } from "./json.ts";
import type { KvDtype } from "./kv-cache.ts";
import type { Quantization } from "./rank-config.ts";

export const MEASURED = ["f16", "int8", "int4"] as const satisfies readonly Quantization[];
export type Measured = (typeof MEASURED)[number];

export const MEASURED_KV = ["int8"] as const satisfies readonly KvDtype[];
export type MeasuredKv = (typeof MEASURED_KV)[number];

/** What is held in fewer bits: weights, everything else f32; or keys and values, the weights f32. */
export type HeldAs =
  | { readonly quantization: Measured; readonly kvDtype?: never }
  | { readonly kvDtype: MeasuredKv; readonly quantization?: never };

/** Whose operators computed: those of native/, which serve where they can be had, or the ones that ONNX Runtime brings. */
const OPERATORS = ["own", "onnxruntime"] as const;

export type QuantizationCost = HeldAs & {
  readonly meanKlNats: number; // at least 0
  readonly tokenCount: number; // of the sample
  readonly sample: "text" | "randomTokens"; // random where the model has no tokenizer: then only costs compare
  readonly operators?: (typeof OPERATORS)[number]; // absent: not said
};

/** The costs of a manifest's `costs` (none where it is absent), or what is wrong with it. */
export function parseCosts(value: unknown): readonly QuantizationCost[] | string {
  if (value === undefined) return [];
  if (!Array.isArray(value) || value.length > MEASURED.length + MEASURED_KV.length)
    return `costs is ${shown(value)}, expected a short list`;
  const costs: QuantizationCost[] = [];
  for (const [index, entry] of value.entries()) {
    const { meanKlNats, tokenCount, sample, operators: named, ...of } = isJsonObject(entry) ? entry : {};
    const held = heldAs(of);
    if (typeof held === "string") return `costs[${index}].${held}`;
    if (typeof meanKlNats !== "number" || !(meanKlNats >= 0 && Number.isFinite(meanKlNats)))
      return `costs[${index}].meanKlNats is ${shown(meanKlNats)}, expected a number of at least 0`;
    if (typeof tokenCount !== "number" || !Number.isSafeInteger(tokenCount) || tokenCount < 1)
      return `costs[${index}].tokenCount is ${shown(tokenCount)}, expected a whole number`;
    if (sample !== "text" && sample !== "randomTokens")
      return `costs[${index}].sample is ${shown(sample)}, expected text or randomTokens`;
    const operators = OPERATORS.find((each) => each === named);
    if (operators === undefined && named !== undefined)
      return `costs[${index}].operators is ${shown(named)}, expected ${OPERATORS.join(", ")}`;
    costs.push({ ...held, meanKlNats, tokenCount, sample, ...(operators === undefined ? {} : { operators }) });
  }
  return costs;
}

function heldAs({ quantization, kvDtype }: Readonly<Record<string, unknown>>): HeldAs | string {
  const kv = MEASURED_KV.find((each) => each === kvDtype);
  if (kv !== undefined && quantization === undefined) return { kvDtype: kv };
  if (kvDtype !== undefined)
    return `kvDtype is ${shown(kvDtype)}, expected ${MEASURED_KV.join(", ")} and no quantization`;
  const known = MEASURED.find((each) => each === quantization);
  return known === undefined
    ? `quantization is ${shown(quantization)}, expected ${MEASURED.join(", ")}`
    : { quantization: known };
}

/** Those of the costs that a model held so has. */
export const costsOf = (
  costs: readonly QuantizationCost[],
  held: { readonly quantization: Quantization; readonly kvDtype: KvDtype },
): readonly QuantizationCost[] =>
  costs.filter(({ quantization, kvDtype }) =>
    kvDtype === undefined ? quantization === held.quantization : kvDtype === held.kvDtype,
  );

/** `int4`, or `KV in int8`. */
export const heldText = ({ quantization, kvDtype }: HeldAs): string =>
  kvDtype === undefined ? quantization : `KV in ${kvDtype}`;

/** A cost as people read it. */
export function costText({ meanKlNats, tokenCount, sample, operators, ...held }: QuantizationCost): string {
  const figure = meanKlNats === 0 ? "0" : meanKlNats.toPrecision(2);
  const tokens = `${tokenCount} ${sample === "text" ? "tokens of text" : "random tokens"}`;
  const whose = operators === undefined ? "" : `, by ${operators === "own" ? "our own" : "ONNX Runtime's"} operators`;
  return `${heldText(held)}: ${figure} nats from f32 (mean KL over ${tokens}${whose})`;
}
