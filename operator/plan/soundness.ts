/** Which wishes given ranks and routes break, in words: what forces a plan in force to change, and what tests look for. */
import { lengthOf } from "../../core/ranges.ts";
import { formatCredits } from "../../core/units.ts";
import { priceOf } from "./estimate.ts";
import { bytesOfRank } from "./footprint.ts";
import { banOf, maySeeText, providerLayerLimit } from "./holders.ts";
import { type Routed, isWhole, ranksOn, routesOf, segmentsOf } from "./routes.ts";
import type { Assignment, Known, ModelFacts, ModelSpec, NodeFacts, StandingPlan } from "./types.ts";

export type Judged = {
  readonly model: ModelSpec;
  readonly facts: ModelFacts;
  readonly nodes: ReadonlyMap<string, NodeFacts>; // whatever their state
};

/** Empty where all is kept. A node that does not answer is no reason to move, nor is memory that became scarce. */
export function brokenWishes(judged: Judged, routed: Routed): readonly string[] {
  const { model, facts } = judged;
  const { layerCount } = facts.config;
  const groups = segmentsOf(routed.assignments);
  const routes = routesOf(routed);
  const broken: string[] = [];
  if (routes.length !== model.replicas)
    broken.push(`spec.replicas is ${model.replicas}, and ${routes.length} are planned`);
  for (const route of routes) {
    if (!isWhole(route, groups, layerCount)) broken.push(`chain ${route.chain} is not whole`);
    else broken.push(...brokenOn(judged, route.chain, ranksOn(route, groups)));
  }
  broken.push(...brokenByNodes(judged, routed.assignments));
  const chains = routes.map((route) => new Set(ranksOn(route, groups).flatMap((group) => group.map(providerOf))));
  const least = model.placement.surviveProviders ?? 0;
  for (const provider of least === 0 ? [] : new Set(chains.flatMap((chain) => [...chain]))) {
    const left = chains.filter((chain) => !chain.has(provider)).length;
    if (left < least)
      broken.push(`spec.placement.surviveProviders is ${least}, and without ${provider} ${left} chains are left`);
  }
  return broken;
}

/** Of the ranks on one node: weights, KV and runtimes; over what the node has free, or undefined where they fit. */
export function overfullNode(nodes: Judged["nodes"], assignments: readonly Assignment[]): string | undefined {
  const used = new Map<string, number>();
  for (const assignment of assignments)
    used.set(assignment.node, (used.get(assignment.node) ?? 0) + bytesOfRank(assignment));
  return [...used].find(([name, bytes]) => bytes > (nodes.get(name)?.freeBytes ?? 0))?.[0];
}

const providerOf = ({ provider }: Assignment): string => provider;

function brokenOn(
  { model, facts }: Judged,
  chain: number,
  groups: readonly (readonly Assignment[])[],
): readonly string[] {
  const { placement } = model;
  const { layerCount } = facts.config;
  const broken: string[] = [];
  const providers = new Set(groups.flat().map(providerOf));
  if (providers.size < placement.providersMin)
    broken.push(`spec.placement.providers.min is ${placement.providersMin}, and chain ${chain} has ${providers.size}`);
  const limit = providerLayerLimit(model, layerCount);
  const held = new Map<string, number>();
  for (const group of groups)
    for (const provider of new Set(group.map(providerOf)))
      held.set(provider, (held.get(provider) ?? 0) + (group[0] === undefined ? 0 : lengthOf(group[0].layers)));
  for (const [provider, count] of held) {
    if (count > limit)
      broken.push(
        `spec.placement.providers.maxShare is ${limit} layers, and ${provider} has ${count} of chain ${chain}`,
      );
  }
  for (const group of [groups[0] ?? [], groups.at(-1) ?? []]) {
    if (!maySeeText(model, group))
      broken.push(
        `spec.placement.edges does not name ${group.map(providerOf).join(", ")}, at an end of chain ${chain}`,
      );
  }
  return broken;
}

function brokenByNodes({ model, nodes }: Judged, assignments: readonly Assignment[]): readonly string[] {
  const broken: string[] = [];
  for (const name of new Set(assignments.map(({ node }) => node))) {
    const node = nodes.get(name);
    const ban = node === undefined ? undefined : banOf(model, node);
    if (ban !== undefined) broken.push(`node ${name}: ${ban.why}`);
  }
  const ceiling = priceCeiling(model);
  const price = priceOf({ nodes }, assignments);
  if (ceiling !== undefined && price > ceiling)
    broken.push(`the price ceiling is ${formatCredits(ceiling)} an hour, and the plan costs ${formatCredits(price)}`);
  return broken;
}

/** Micro-credits an hour, of all nodes together; undefined: none. */
export function priceCeiling({ placement, objective }: ModelSpec): bigint | undefined {
  return placement.pricePerHourMax ?? (objective?.kind === "Latency" ? objective.pricePerHourMax : undefined);
}

/** Whether a plan that was written down can still be carried out as it stands. */
export function isSound(world: Known, plan: StandingPlan): boolean {
  const nodes = new Map(world.nodes.map((node) => [node.name, node]));
  const everyNode = plan.assignments.every(({ node }) => nodes.has(node));
  return (
    everyNode &&
    brokenWishes({ ...world, nodes }, plan).length === 0 &&
    overfullNode(nodes, plan.assignments) === undefined
  );
}
