/** The sizes of a mixture of experts. */
import type { Fields } from "../config-fields.ts";
import type { Experts } from "../model-config.ts";

const EXPERT_COUNT_MAX = 4096;

/** Transformers v5 may write `num_local_experts` where v4 wrote `num_experts`, and the other way round. */
export function expertsOf(
  fields: Fields,
  unsaid: { readonly count: number; readonly perToken: number },
  size: number,
  weights: Experts["weights"],
): Experts {
  const name = fields.json["num_local_experts"] == null ? "num_experts" : "num_local_experts";
  const count = fields.integer(name, { absent: unsaid.count, max: EXPERT_COUNT_MAX });
  return {
    count,
    perToken: fields.integer("num_experts_per_tok", { absent: unsaid.perToken, max: count }),
    size,
    weights,
    routerBias: false,
    bias: false,
  };
}
