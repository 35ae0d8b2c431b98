/** What ranks are called, and who is whose neighbour. */
import type { Assignment, ModelSpec } from "./types.ts";

/** Home chains from here on are of spares: ranks that no chain passes through until a node is lost. */
export const SPARE_CHAIN_FIRST = 256;

type Place = Pick<Assignment, "chain" | "segment" | "rank">;

/** `<model>-<chain>-<segment>-<rank>`: the pod's name. Deterministic, so that a stale cache ends in "already exists". */
export const rankName = (model: { readonly name: string }, { chain, segment, rank }: Place): string =>
  `${model.name}-${chain}-${segment}-${rank}`;

/** The ShardPlan that waits for an approval. No model has a dot in its name, so no plan in force is called so. */
export const proposalName = (model: { readonly name: string }): string => `${model.name}.proposed`;

/** The full name that certificates and receipts carry: `<namespace>/<model>-<chain>-<segment>-<rank>`. */
export const fullRankName = (model: Pick<ModelSpec, "namespace" | "name">, place: Place): string =>
  `${model.namespace}/${rankName(model, place)}`;

/** More would be asked in vain more often than not. */
const FELLOWS_MAX = 16;

/** Ranks of the model's other chains that hold some of this rank's layers: they have bytes that this one wants. */
export const fellowsOf = (own: Assignment, assignments: readonly Assignment[]): readonly Assignment[] =>
  assignments
    .filter(
      ({ chain, layers }) => chain !== own.chain && layers.start < own.layers.end && own.layers.start < layers.end,
    )
    .toSorted((a, b) => a.chain - b.chain || a.segment - b.segment || a.rank - b.rank)
    .slice(0, FELLOWS_MAX);
