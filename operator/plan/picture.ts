/**
 * What gateways and the ledger are told about a model: its chains with the addresses of their ranks, and what each rank
 * holds by the plan, so that a receipt which says otherwise is rejected.
 */
import type { Chain } from "../../core/gen/proto/tessellate/control/v1/Chain.ts";
import type { Model } from "../../core/gen/proto/tessellate/control/v1/Model.ts";
import { present } from "../../core/assert.ts";
import { cutSlices } from "../../core/slice.ts";
import { rankName } from "./names.ts";
import { fullRankName } from "./names.ts";
import type { Assignment, ModelFacts, ModelSpec, RankState } from "./types.ts";

/** The model as `Control.Put` carries it. A chain is ready when every rank of it is, with an address. */
export function pictureOf(
  model: ModelSpec,
  facts: ModelFacts,
  assignments: readonly Assignment[],
  ranks: readonly RankState[],
): Model {
  const chains = [...new Set(assignments.map(({ chain }) => chain))].sort((a, b) => a - b);
  return {
    name: model.name,
    namespace: model.namespace,
    modelRoot: facts.root,
    layerCount: facts.config.layerCount,
    contextLength: model.contextLength,
    priceMicroCreditsPerMillionTokens: String(model.pricePerMillionTokens),
    epochSeconds: model.epochSeconds,
    handOffDtype: model.handOffDtype,
    maxQueue: model.maxQueue,
    chains: chains.map((index) =>
      chainOf(
        model,
        facts,
        index,
        assignments.filter(({ chain }) => chain === index),
        ranks,
      ),
    ),
  };
}

function chainOf(
  model: ModelSpec,
  facts: ModelFacts,
  index: number,
  assignments: readonly Assignment[],
  ranks: readonly RankState[],
): Chain {
  const states = new Map(ranks.map((rank) => [rank.name, rank]));
  const stateOf = (assignment: Assignment) => states.get(rankName(model, assignment));
  const inOrder = [...assignments].sort((a, b) => a.segment - b.segment || a.rank - b.rank);
  const segments = [...new Set(inOrder.map(({ segment }) => segment))];
  return {
    index,
    ready: inOrder.every(
      (assignment) => stateOf(assignment)?.phase === "Ready" && stateOf(assignment)?.address !== undefined,
    ),
    segments: segments.map((segment) => {
      const group = inOrder.filter((assignment) => assignment.segment === segment);
      return {
        layers: present(group[0], "a segment has ranks").layers,
        ranks: group.map((assignment) => ({
          name: fullRankName(model, assignment),
          address: stateOf(assignment)?.address ?? "",
          provider: assignment.provider,
          node: assignment.node,
        })),
      };
    }),
    ranks: inOrder.map((assignment) => ({
      name: fullRankName(model, assignment),
      provider: assignment.provider,
      node: assignment.node,
      layers: assignment.layers,
      rankIndex: assignment.rank,
      rankCount: assignment.sliceWeights.length,
      shareMillionths: String(
        present(cutSlices(facts.config, assignment.sliceWeights)[assignment.rank], "a slice for every rank")
          .shareMillionths,
      ),
    })),
  };
}
