/**
 * What a plan must keep, looked up in the wishes one after the other: the slow and obvious twin of what the planner
 * itself goes by. It counts every owner of a tensor-parallel group, and knows nothing of how plans are searched for.
 */
import { present } from "../core/assert.ts";
import { RUNTIME_BYTES } from "../operator/plan/footprint.ts";
import type { Assignment, ModelFacts, ModelSpec, NodeFacts, Placement, World } from "../operator/plan/types.ts";

type Known = World & { readonly facts: ModelFacts };
type Chain = readonly (readonly Assignment[])[]; // the ranks of each segment, on the way of a session

/** Every rule that `placement` breaks in this world, in words; empty where it keeps them all. */
export function rulesBroken(world: Known, placement: Placement): readonly string[] {
  const nodes = new Map(world.nodes.map((node) => [node.name, node]));
  const routes = present(placement.routes, "the planner writes its routes down");
  const chains = routes.map(({ segments }) =>
    segments.map((place) =>
      placement.assignments
        .filter(({ chain, segment }) => chain === place.chain && segment === place.segment)
        .sort((a, b) => a.rank - b.rank),
    ),
  );
  return [
    ...(chains.length === world.model.replicas ? [] : [`${chains.length} chains of ${world.model.replicas}`]),
    ...chains.flatMap((chain, index) => brokenInChain(world, chain).map((what) => `chain ${index}: ${what}`)),
    ...placement.assignments.flatMap((each) => brokenByNode(world.model, each, nodes.get(each.node))),
    ...brokenByMemory(placement, nodes),
    ...brokenTogether(world.model, placement, chains, nodes),
    ...brokenBySpares(placement, chains),
  ];
}

function brokenInChain({ model, facts }: Known, chain: Chain): readonly string[] {
  const { placement } = model;
  const { layerCount } = facts.config;
  const served = chain.flatMap(([leader]) => (leader === undefined ? [] : [leader.layers]));
  let next = 0;
  for (const { start, end } of served) next = start === next && end > start ? end : Number.NaN;
  const held = new Map<string, number>();
  for (const group of chain)
    for (const provider of new Set(group.map((rank) => rank.provider)))
      held.set(provider, (held.get(provider) ?? 0) + (group[0] === undefined ? 0 : lengthOf(group[0])));
  const limit = Math.max(1, Math.floor((layerCount * placement.providersMaxSharePercent) / 100));
  const ends = [...(chain[0] ?? []), ...(chain.at(-1) ?? [])];
  return [
    ...(next === layerCount ? [] : [`does not cover ${layerCount} layers once: ${JSON.stringify(served)}`]),
    ...(held.size >= placement.providersMin ? [] : [`${held.size} providers of ${placement.providersMin}`]),
    ...[...held].flatMap(([name, count]) => (count > limit ? [`${name} holds ${count} layers of ${limit}`] : [])),
    ...ends.flatMap(({ node, provider }) =>
      placement.edgeProviders === undefined || placement.edgeProviders.includes(provider) ? [] : [`${node} sees text`],
    ),
    ...chain.flatMap((group) => brokenInGroup(model, group)),
  ];
}

function brokenInGroup({ placement }: ModelSpec, group: readonly Assignment[]): readonly string[] {
  const [leader] = group;
  if (leader === undefined) return ["a segment without ranks"];
  const owners = new Set(group.map(({ provider }) => provider));
  return [
    ...(group.length === leader.sliceWeights.length ? [] : ["a slice that nobody holds"]),
    ...(group.length <= placement.tensorParallelMax ? [] : [`a group of ${group.length}`]),
    ...(owners.size === 1 || placement.tensorParallelAcrossProviders ? [] : ["a group of several owners"]),
    ...(new Set(group.map(({ node }) => node)).size === group.length ? [] : ["a node twice in a group"]),
    ...group.flatMap(({ layers, sliceWeights }) =>
      layers.start === leader.layers.start &&
      layers.end === leader.layers.end &&
      sliceWeights.join() === leader.sliceWeights.join()
        ? []
        : ["ranks of a group that do not agree"],
    ),
  ];
}

function brokenByNode({ placement, kvDtype }: ModelSpec, rank: Assignment, node: NodeFacts | undefined): string[] {
  if (node === undefined) return [`${rank.node} is not there`];
  const { name, provider, device, region, labels } = node;
  const { providersAllow, providersDeny, devices, regions, nodeSelector } = placement;
  return [
    ...(rank.provider === provider ? [] : [`${name} is not ${rank.provider}'s`]),
    ...(node.providerAdmitted ? [] : [`${provider} is not admitted`]),
    ...(providersDeny.includes(provider) ? [`${provider} is refused`] : []),
    ...(providersAllow.length === 0 || providersAllow.includes(provider) ? [] : [`${provider} is not allowed`]),
    ...(devices === undefined || devices.includes(device) ? [] : [`${name} is a ${device}`]),
    ...(regions === undefined || regions.includes(region ?? "?") ? [] : [`${name} is in ${region}`]),
    ...(kvDtype === "f32" || device === "cpu" ? [] : [`${name} has no ${kvDtype} cache`]),
    ...Object.entries(nodeSelector).flatMap(([key, value]) =>
      labels[key] === value ? [] : [`${name} is not ${key}=${value}`],
    ),
  ];
}

function brokenByMemory({ assignments }: Placement, nodes: ReadonlyMap<string, NodeFacts>): readonly string[] {
  const used = new Map<string, number>();
  for (const { node, weightBytes, kvBytes } of assignments)
    used.set(node, (used.get(node) ?? 0) + weightBytes + kvBytes + RUNTIME_BYTES);
  return [...used].flatMap(([name, bytes]) =>
    bytes <= (nodes.get(name)?.freeBytes ?? 0) ? [] : [`${name} holds ${bytes} of ${nodes.get(name)?.freeBytes} bytes`],
  );
}

function brokenTogether(
  { placement, objective }: ModelSpec,
  { assignments }: Placement,
  chains: readonly Chain[],
  nodes: ReadonlyMap<string, NodeFacts>,
): readonly string[] {
  const owners = new Set(assignments.map(({ provider }) => provider));
  const least = placement.surviveProviders ?? 0;
  const passes = (chain: Chain, owner: string) =>
    chain.some((group) => group.some(({ provider }) => provider === owner));
  const short = [...owners].filter((owner) => chains.filter((chain) => !passes(chain, owner)).length < least);
  const used = [...new Set(assignments.map(({ node }) => node))];
  const price = used.reduce((sum, name) => sum + (nodes.get(name)?.pricePerHour ?? 0n), 0n);
  const ceilings = [
    placement.pricePerHourMax,
    objective?.kind === "Latency" ? objective.pricePerHourMax : undefined,
  ].filter((ceiling) => ceiling !== undefined);
  return [
    ...(least === 0 ? [] : short.map((owner) => `fewer than ${least} chains without ${owner}`)),
    ...ceilings.flatMap((ceiling) => (price > ceiling ? [`${price} of ${ceiling} an hour`] : [])),
  ];
}

/** Whatever no chain passes through is a copy of what some chain does. */
function brokenBySpares({ assignments }: Placement, chains: readonly Chain[]): readonly string[] {
  const onChains = chains.flat(2);
  return assignments
    .filter((each) => !onChains.includes(each))
    .flatMap(({ node, chain, layers }) =>
      chain >= 256 && onChains.some((one) => one.layers.start === layers.start && one.layers.end === layers.end)
        ? []
        : [`${node} holds what nobody needs`],
    );
}

const lengthOf = ({ layers }: Assignment): number => layers.end - layers.start;
