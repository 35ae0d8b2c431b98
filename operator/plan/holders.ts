/**
 * Who may hold a part of the model: nodes that pass the model's constraints, alone or as tensor-parallel groups of one
 * provider. Every node passed over is named with the constraint that it failed.
 */
import type { ModelConfig } from "../../core/model-config.ts";
import { rankCountMax } from "../../core/slice.ts";
import { speedOf } from "./cost/speed.ts";
import type { LeftOut, ModelSpec, NodeFacts } from "./types.ts";

/** One node, or the nodes of a tensor-parallel group in rank order; they serve one segment of a chain together. */
export type Holder = {
  readonly nodes: readonly NodeFacts[];
  readonly provider: string; // of the first node
  readonly sliceWeights: readonly number[]; // integers in proportion to the nodes' speeds
};

export const holderName = ({ nodes }: Pick<Holder, "nodes">): string => nodes.map(({ name }) => name).join("+");

/** Bytes of weights a second that a node reads at one row, measured or estimated. */
export function paceOf(node: NodeFacts): number {
  const { secondsPerByte, rowSecondsPerByte } = speedOf(node);
  return 1 / Math.max(1e-18, secondsPerByte + rowSecondsPerByte);
}

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

function refusalOf(model: ModelSpec, node: NodeFacts): LeftOut | undefined {
  const banned = banOf(model, node);
  if (banned !== undefined) return banned;
  if (!node.ready) return { node: node.name, code: "NodeNotReady", why: node.leavingWhy ?? "the node does not answer" };
  if (node.freeBytes <= 0) return { node: node.name, code: "NoMemory", why: "no free memory" };
  return undefined;
}

/** Why a node must hold nothing of the model, even what it holds already; undefined where it may. */
export function banOf({ placement, kvDtype }: ModelSpec, node: NodeFacts): LeftOut | undefined {
  const no = (code: string, why: string): LeftOut => ({ node: node.name, code, why });
  if (!node.providerAdmitted)
    return no("ProviderNotAdmitted", `provider ${node.provider} has no public key or does not exist`);
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
  if (placement.devices !== undefined && !placement.devices.includes(node.device))
    return no("DeviceNotAllowed", `its device is ${node.device}, and spec.placement.devices does not name it`);
  const { regions } = placement;
  if (regions !== undefined && (node.region === undefined || !regions.includes(node.region))) {
    const where = node.region === undefined ? "its region is not known" : `it is in ${node.region}`;
    return no("RegionNotAllowed", `${where}, and spec.placement.regions is ${regions.join(", ")}`);
  }
  return undefined;
}

/** Whether text may reach all of these nodes: the embedding, the first and last layers and the head. */
export const maySeeText = ({ placement }: ModelSpec, nodes: readonly Pick<NodeFacts, "provider">[]): boolean =>
  placement.edgeProviders === undefined ||
  nodes.every(({ provider }) => placement.edgeProviders?.includes(provider) === true);

/**
 * Every node alone, and groups for tensor parallelism: neighbours in pace among the nodes of one provider and one kind of
 * device (of any provider, if the model allows that and no wish counts what one of them holds), so that a group is of
 * nodes as alike as there are. Where the model
 * asks for groups always, each node is in one group and offered in no other way.
 */
export function holders(model: ModelSpec, config: ModelConfig, nodes: readonly NodeFacts[]): readonly Holder[] {
  const { tensorParallelAlways } = model.placement;
  const across = mayGroupAcross(model);
  const degreeMax = Math.min(model.placement.tensorParallelMax, rankCountMax(config));
  if (degreeMax === 1) return nodes.map((node) => holderOf([node]));
  const pools = new Map<string, NodeFacts[]>();
  for (const node of nodes) {
    const key = across ? node.device : `${node.provider} ${node.device}`;
    const pool = pools.get(key);
    if (pool === undefined) pools.set(key, [node]);
    else pool.push(node);
  }
  return [...pools.values()].flatMap((pool) => {
    const sorted = pool.sort((a, b) => paceOf(b) - paceOf(a) || (a.name < b.name ? -1 : 1));
    if (tensorParallelAlways === true) return inGroups(sorted, degreeMax, 1);
    const degrees = Array.from({ length: degreeMax }, (_, index) => index + 1);
    return degrees.flatMap((degree) => inGroups(sorted, degree, degree));
  });
}

/** The search counts a group as its first node's: where owners are counted, a group is of one of them. */
export const mayGroupAcross = ({ placement }: ModelSpec): boolean =>
  placement.tensorParallelAcrossProviders &&
  placement.providersMaxSharePercent >= 100 &&
  (placement.surviveProviders ?? 0) === 0;

/** Nodes by `degree`, in order; a last group of fewer than `least` is left out. */
function inGroups(nodes: readonly NodeFacts[], degree: number, least: number): readonly Holder[] {
  const groups: (readonly NodeFacts[])[] = [];
  for (let start = 0; start < nodes.length; start += degree) groups.push(nodes.slice(start, start + degree));
  return groups.filter(({ length }) => length >= least).map(holderOf);
}

export function holderOf(nodes: readonly NodeFacts[]): Holder {
  const total = nodes.reduce((sum, node) => sum + paceOf(node), 0);
  const sliceWeights =
    nodes.length === 1 ? [1] : nodes.map((node) => Math.max(1, Math.round((100 * paceOf(node)) / total)));
  return { nodes, provider: nodes[0]?.provider ?? "", sliceWeights };
}

/** The most layers of one chain that one provider may hold. */
export const providerLayerLimit = (model: ModelSpec, layerCount: number): number =>
  Math.max(1, Math.floor((layerCount * model.placement.providersMaxSharePercent) / 100));
