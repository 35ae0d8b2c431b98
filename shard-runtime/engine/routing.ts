/**
 * Which experts a token goes through, and with what weights. Decided in plain double arithmetic, in a fixed order, so that
 * the same logits give the same choice on every machine; of equal logits the lower index is taken, as a stable sort does.
 */
import type { Experts } from "../../core/model-config.ts";

export type Choice = { readonly expert: number; readonly weight: number };

/** The chosen experts of one row of logits [count], in ascending order; the weights are rounded to f32. */
export function chooseExperts(logits: Float32Array, { perToken, weights }: Experts): readonly Choice[] {
  const best = [...logits.keys()].sort((a, b) => (logits[b] ?? 0) - (logits[a] ?? 0) || a - b).slice(0, perToken);
  const peak = logits[best[0] ?? 0] ?? 0;
  const exponential = (expert: number) => Math.exp((logits[expert] ?? 0) - peak);
  let sum = 0;
  for (const expert of weights === "softmaxOfChosen" ? best : logits.keys()) sum += exponential(expert);
  return best.sort((a, b) => a - b).map((expert) => ({ expert, weight: Math.fround(exponential(expert) / sum) }));
}

/** One expert's rows of a batch, with the weight that each row gives it. */
export type Routed = { readonly rows: number[]; readonly weights: number[] };

/** The rows of each chosen expert within `held`, in ascending order of the experts. `logits`: f32 [rows, count]. */
export function routeRows(
  logits: Float32Array,
  rowCount: number,
  experts: Experts,
  held: { readonly start: number; readonly end: number },
): ReadonlyMap<number, Routed> {
  const routed = new Map<number, Routed>();
  for (let row = 0; row < rowCount; row += 1) {
    const own = logits.subarray(row * experts.count, (row + 1) * experts.count);
    for (const { expert, weight } of chooseExperts(own, experts)) {
      if (expert < held.start || expert >= held.end) continue;
      const found = routed.get(expert) ?? { rows: [], weights: [] };
      found.rows.push(row);
      found.weights.push(weight);
      routed.set(expert, found);
    }
  }
  return new Map([...routed].sort(([a], [b]) => a - b));
}
