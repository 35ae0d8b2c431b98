/** What a rank is told at start, from the plan: the rank's configuration less what only its host knows. */
import type { RankConfig } from "../../core/rank-config.ts";
import { fullRankName, neighboursOf } from "./names.ts";
import type { Assignment, ModelFacts, ModelSpec, NodeFacts } from "./types.ts";

/** Host matters: where the process listens, its files, its cache. Pods and local processes differ only in these. */
export type RankHost = Pick<RankConfig, "listen" | "tls" | "cacheDirectory" | "signer"> & {
  readonly hubTokenFile?: string;
};

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
