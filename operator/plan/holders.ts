/**
 * Who may hold a part of the model: nodes that pass the model's constraints, alone or as tensor-parallel groups of one
 * provider. Every node passed over is named with the constraint that it failed.
 */
import type { ModelConfig } from "../../core/model-config.ts";
import { rankCountMax } from "../../core/slice.ts";
import type { LeftOut, ModelSpec, NodeFacts } from "./types.ts";

/** One node, or the nodes of a tensor-parallel group in rank order; they serve one segment of a chain together. */
export type Holder = {
  readonly nodes: readonly NodeFacts[];
  readonly provider: string; // of the first node
  readonly sliceWeights: readonly number[]; // integers in proportion to the nodes' bandwidths
  readonly bytesPerSecond: number; // of all nodes together
};

/** What an unmeasured node is taken for: the memory bandwidth of a plain desktop, in bytes a second. */
export const ASSUMED_BYTES_PER_SECOND = 20e9;

export const bandwidthOf = (node: NodeFacts): number =>
  node.memoryBytesPerSecond > 0 ? node.memoryBytesPerSecond : ASSUMED_BYTES_PER_SECOND;

/** Sorts out the nodes that a constraint rules out; the rest come back in order of name. */
export function eligible(
  model: ModelSpec,
  nodes: readonly NodeFacts[],
): { readonly nodes: readonly NodeFacts[]; readonly leftOut: readonly LeftOut[] } {
  const sorted = [...nodes].sort((a, b) => (a.name < b.name ? -1 : 1));
  const judged = sorted.map((node) => ({ node, refusal: refusalOf(model, node) }));
  return {
    nodes: judged.filter(({ refusal }) => refusal === undefined).map(({ node }) => node),
    leftOut: judged.flatMap(({ refusal }) => (refusal === undefined ? [] : [refusal])),
  };
}

function refusalOf({ placement, kvDtype }: ModelSpec, node: NodeFacts): LeftOut | undefined {
  const no = (code: string, why: string): LeftOut => ({ node: node.name, code, why });
  if (!node.providerAdmitted)
    return no("ProviderNotAdmitted", `provider ${node.provider} has no public key or does not exist`);
  if (!node.ready) return no("NodeNotReady", "the node does not answer");
  if (placement.providersDeny.includes(node.provider))
    return no("ProviderDenied", `spec.placement.providers.deny names ${node.provider}`);
  if (placement.providersAllow.length > 0 && !placement.providersAllow.includes(node.provider)) {
    return no("ProviderNotAllowed", `spec.placement.providers.allow does not name ${node.provider}`);
  }
  const unmatched = Object.entries(placement.nodeSelector).find(([key, value]) => node.labels[key] !== value);
  if (unmatched !== undefined)
    return no("SelectorMismatch", `label ${unmatched[0]} is not ${JSON.stringify(unmatched[1])}`);
  if (kvDtype !== "f32" && node.device !== "cpu")
    return no("KvCacheUnsupported", `spec.kvCache.dtype ${kvDtype} needs device cpu, and the node's is ${node.device}`);
  if (node.freeBytes <= 0) return no("NoMemory", "no free memory");
  return undefined;
}

/**
 * Groups nodes for tensor parallelism: nodes of one provider and one device kind (of any provider, if the model allows
 * that), up to the model's largest degree, most bandwidth first, so that a group is of nodes as alike as there are.
 */
export function holders(model: ModelSpec, config: ModelConfig, nodes: readonly NodeFacts[]): readonly Holder[] {
  const { tensorParallelAcrossProviders } = model.placement;
  const degreeMax = Math.min(model.placement.tensorParallelMax, rankCountMax(config));
  const pools = new Map<string, NodeFacts[]>();
  for (const node of nodes) {
    const key = tensorParallelAcrossProviders ? node.device : `${node.provider} ${node.device}`;
    pools.set(key, [...(pools.get(key) ?? []), node]);
  }
  return [...pools.values()].flatMap((pool) => {
    const sorted = pool.sort((a, b) => bandwidthOf(b) - bandwidthOf(a) || (a.name < b.name ? -1 : 1));
    const groups: NodeFacts[][] = [];
    for (let start = 0; start < sorted.length; start += degreeMax) groups.push(sorted.slice(start, start + degreeMax));
    return groups.map(holderOf);
  });
}

function holderOf(nodes: readonly NodeFacts[]): Holder {
  const total = nodes.reduce((sum, node) => sum + bandwidthOf(node), 0);
  const sliceWeights =
    nodes.length === 1 ? [1] : nodes.map((node) => Math.max(1, Math.round((100 * bandwidthOf(node)) / total)));
  return { nodes, provider: nodes[0]?.provider ?? "", sliceWeights, bytesPerSecond: total };
}
