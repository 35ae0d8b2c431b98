/** What a rank is told at start, from the plan: the rank's configuration less what only its host knows. */
import type { RankConfig } from "../../core/rank-config.ts";
import { fellowsOf, fullRankName, rankName } from "./names.ts";
import { neighboursOf } from "./neighbours.ts";
import type { Routed } from "./routes.ts";
import type { Assignment, ModelFacts, ModelSpec, NodeFacts } from "./types.ts";

/** Host matters: where the process listens, its files, its cache. Pods and local processes differ only in these. */
export type RankHost = Pick<RankConfig, "listen" | "tls" | "cacheDirectory" | "signer"> & {
  readonly hubTokenFile?: string;
  /** Where another rank of the model will listen, by the pod's name; see Fellow. Absent: ranks ask the source alone. */
  readonly addressOf?: (rank: string) => string;
};

export function rankConfigOf(
  model: ModelSpec,
  facts: ModelFacts,
  assignment: Assignment,
  routed: Routed,
  node: NodeFacts,
  { addressOf, ...host }: RankHost,
): RankConfig {
  const fellows = addressOf === undefined ? [] : fellowsOf(assignment, routed.assignments);
  return {
    name: fullRankName(model, assignment),
    model: {
      name: model.name,
      source: model.source,
      root: facts.root,
      ...(model.manifestUrl === undefined ? {} : { manifestUrl: model.manifestUrl }),
      ...(model.mirrors === undefined ? {} : { mirrors: model.mirrors }),
    },
    layers: assignment.layers,
    rankIndex: assignment.rank,
    sliceWeights: assignment.sliceWeights,
    quantization: model.quantization,
    kvDtype: model.kvDtype,
    device: node.device,
    contextLength: model.contextLength,
    slotCount: model.slotCount,
    threadCount: node.threadCount,
    spin: false,
    provider: assignment.provider,
    node: assignment.node,
    neighbours: neighboursOf(model, assignment, routed),
    ...(node.cacheBytes === undefined ? {} : { cacheBytes: node.cacheBytes }),
    ...(fellows.length === 0
      ? {}
      : {
          fellows: fellows.map((fellow) => ({
            name: fullRankName(model, fellow),
            address: addressOf?.(rankName(model, fellow)) ?? "",
          })),
        }),
    ...host,
  };
}
