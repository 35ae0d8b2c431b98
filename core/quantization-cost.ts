/**
 * What it costs a model's answers to be held in fewer bits: the mean Kullback-Leibler divergence of its next-token
 * distribution from the one that its weights give as they are (f32), over the tokens of a sample. It stands in the
 * manifest beside the root and not under it: the root names bytes, this is a measurement, worth as much as whoever packed
 * the model is trusted; anyone who has the model can measure it again.
 */
import { isJsonObject, shown } from "./json.ts";

export const MEASURED = ["f16", "int8", "int4"] as const;
export type Measured = (typeof MEASURED)[number];

export type QuantizationCost = {
  readonly quantization: Measured;
  readonly meanKlNats: number; // at least 0
  readonly tokenCount: number; // of the sample
  readonly sample: "text" | "randomTokens"; // random where the model has no tokenizer: then only costs compare
};

/** The costs of a manifest's `costs` (none where it is absent), or what is wrong with it. */
export function parseCosts(value: unknown): readonly QuantizationCost[] | string {
  if (value === undefined) return [];
  if (!Array.isArray(value) || value.length > MEASURED.length) return `costs is ${shown(value)}, expected a short list`;
  const costs: QuantizationCost[] = [];
  for (const [index, entry] of value.entries()) {
    const { quantization, meanKlNats, tokenCount, sample } = isJsonObject(entry) ? entry : {};
    const known = MEASURED.find((each) => each === quantization);
    if (known === undefined)
      return `costs[${index}].quantization is ${shown(quantization)}, expected ${MEASURED.join(", ")}`;
    if (typeof meanKlNats !== "number" || !(meanKlNats >= 0 && Number.isFinite(meanKlNats)))
      return `costs[${index}].meanKlNats is ${shown(meanKlNats)}, expected a number of at least 0`;
    if (typeof tokenCount !== "number" || !Number.isSafeInteger(tokenCount) || tokenCount < 1)
      return `costs[${index}].tokenCount is ${shown(tokenCount)}, expected a whole number`;
    if (sample !== "text" && sample !== "randomTokens")
      return `costs[${index}].sample is ${shown(sample)}, expected text or randomTokens`;
    costs.push({ quantization: known, meanKlNats, tokenCount, sample });
  }
  return costs;
}

/** A cost as people read it. */
export function costText({ quantization, meanKlNats, tokenCount, sample }: QuantizationCost): string {
  const figure = meanKlNats === 0 ? "0" : meanKlNats.toPrecision(2);
  return `${quantization}: ${figure} nats from f32 (mean KL over ${tokenCount} ${sample === "text" ? "tokens of text" : "random tokens"})`;
}
