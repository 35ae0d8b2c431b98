/**
 * What gateways and the ledger are told about a model: its chains with the addresses of their ranks, and what each rank
 * holds by the plan, so that a receipt which says otherwise is rejected. A chain is a route: two may share ranks.
 */
import type { Chain } from "../../core/gen/proto/tessellate/control/v1/Chain.ts";
import type { Model } from "../../core/gen/proto/tessellate/control/v1/Model.ts";
import { present } from "../../core/assert.ts";
import { cutSlices } from "../../core/slice.ts";
import { fullRankName, rankName } from "./names.ts";
import { type Routed, ranksOn, routesOf, segmentsOf } from "./routes.ts";
import type { Assignment, ModelFacts, ModelSpec, RankState, Route, StandingPlan } from "./types.ts";

/** What gateways are told of single chains. `revision`: of all of them, where others may stand beside them. */
export type ChainMarks = {
  readonly revision?: string;
  readonly draining?: readonly number[];
  readonly unproven?: readonly number[];
};

/** The same model with the chains of other revisions beside its own, in order of their numbers. */
export const withChains = (model: Model, others: readonly Model[]): Model => ({
  ...model,
  chains: [model, ...others].flatMap(({ chains }) => chains ?? []).sort((a, b) => (a.index ?? 0) - (b.index ?? 0)),
});

/** The model as `Control.Put` carries it. A chain is ready when every rank of it is, with an address. */
export function pictureOf(
  model: ModelSpec,
  facts: ModelFacts,
  routed: Routed & Pick<StandingPlan, "asleep" | "slotCount">,
  ranks: readonly RankState[],
  marks: ChainMarks = {},
): Model {
  const groups = segmentsOf(routed.assignments);
  const { revision, draining = [], unproven = [] } = marks;
  const held = {
    modelRoot: facts.root,
    layerCount: facts.config.layerCount,
    contextLength: model.contextLength,
    handOffDtype: model.handOffDtype,
  };
  return {
    name: model.name,
    namespace: model.namespace,
    ...held,
    priceMicroCreditsPerMillionTokens: String(model.pricePerMillionTokens),
    epochSeconds: model.epochSeconds,
    maxQueue: model.maxQueue,
    slotCount: routed.slotCount ?? model.slotCount,
    asleep: routed.asleep !== undefined,
    // Who turns a model off does not want it woken by whoever asks.
    wakeTimeoutSeconds: model.replicas === 0 ? 0 : (model.idle?.wakeTimeoutSeconds ?? 0),
    chains: routesOf(routed).map((route) => ({
      ...chainOf(model, facts, route, ranksOn(route, groups), ranks),
      ...(draining.includes(route.chain) ? { draining: true } : {}),
      ...(unproven.includes(route.chain) ? { unproven: true } : {}),
      ...(revision === undefined ? {} : { form: { ...held, revision } }),
    })),
  };
}

function chainOf(
  model: ModelSpec,
  facts: ModelFacts,
  { chain: index }: Route,
  segments: readonly (readonly Assignment[])[],
  ranks: readonly RankState[],
): Chain {
  const states = new Map(ranks.map((rank) => [rank.name, rank]));
  const stateOf = (assignment: Assignment) => states.get(rankName(model, assignment));
  const inOrder = segments.flat();
  const isWhole = segments.every((group) => group.length > 0);
  return {
    index,
    ready:
      isWhole &&
      inOrder.every(
        (assignment) => stateOf(assignment)?.phase === "Ready" && stateOf(assignment)?.address !== undefined,
      ),
    segments: segments
      .filter((group) => group.length > 0)
      .map((group) => ({
        layers: present(group[0], "a segment has ranks").layers,
        ranks: group.map((assignment) => ({
          name: fullRankName(model, assignment),
          address: stateOf(assignment)?.address ?? "",
          provider: assignment.provider,
          node: assignment.node,
        })),
      })),
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
