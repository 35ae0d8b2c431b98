/** What a rank is told at start, from the plan: the rank's configuration less what only its host knows. */
import { identityUri } from "../../core/identity.ts";
import type { RankConfig } from "../../core/rank-config.ts";
import { rankName } from "./plan.ts";
import type { Assignment, ModelFacts, ModelSpec, NodeFacts } from "./types.ts";

/** Host matters: where the process listens, its files, its cache. Pods and local processes differ only in these. */
export type RankHost = Pick<RankConfig, "listen" | "tls" | "cacheDirectory" | "signer"> & {
  readonly hubTokenFile?: string;
};

/** The full name that certificates and receipts carry: `<namespace>/<model>-<chain>-<segment>-<rank>`. */
export const fullRankName = (model: ModelSpec, assignment: Pick<Assignment, "chain" | "segment" | "rank">): string =>
  `${model.namespace}/${rankName(model, assignment)}`;

export const rankIdentity = (model: ModelSpec, assignment: Assignment): string =>
  identityUri({ kind: "rank", name: fullRankName(model, assignment) });

/** Who may connect to this rank besides gateways and the operator: its group, and the segments before and after. */
export function neighboursOf(model: ModelSpec, own: Assignment, assignments: readonly Assignment[]): readonly string[] {
  return assignments
    .filter(({ chain, segment }) => chain === own.chain && Math.abs(segment - own.segment) <= 1)
    .filter(({ segment, rank }) => segment !== own.segment || rank !== own.rank)
    .map((assignment) => fullRankName(model, assignment));
}

export function rankConfigOf(
  model: ModelSpec,
  facts: ModelFacts,
  assignment: Assignment,
  assignments: readonly Assignment[],
  node: NodeFacts,
  host: RankHost,
): RankConfig {
  return {
    name: fullRankName(model, assignment),
    model: {
      name: model.name,
      source: model.source,
      root: facts.root,
      ...(model.manifestUrl === undefined ? {} : { manifestUrl: model.manifestUrl }),
    },
    layers: assignment.layers,
    rankIndex: assignment.rank,
    sliceWeights: assignment.sliceWeights,
    quantization: model.quantization,
    device: node.device,
    contextLength: model.contextLength,
    slotCount: model.slotCount,
    threadCount: node.threadCount,
    spin: false,
    provider: assignment.provider,
    node: assignment.node,
    neighbours: neighboursOf(model, assignment, assignments),
    ...host,
  };
}
