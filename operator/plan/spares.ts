/**
 * Shards kept loaded beside the chains: copies of the segments that are likeliest to be needed, on nodes that hold
 * nothing else where there are such. No chain passes through them until a node is lost.
 */
import { SPARE_CHAIN_FIRST } from "./names.ts";
import { bytesOn } from "./footprint.ts";
import { holderOf, maySeeText, paceOf } from "./holders.ts";
import { assignmentsOf, inNameOrder } from "./homes.ts";
import { type Standing, keysOf, ranksOn, routesOf, segmentKey, segmentsOf, sparesIn } from "./routes.ts";
import type { Grounds } from "./sites.ts";
import { priceOf } from "./estimate.ts";
import { brokenWishes, priceCeiling } from "./soundness.ts";
import type { Assignment, NodeFacts } from "./types.ts";

/** The ranks of a segment. */
type Group = readonly Assignment[];
type Need = { readonly group: Group; readonly score: number };

/** With as many spares as the model asks for and memory allows; those that stand stay while somebody may need them. */
export function withSpares(
  grounds: Grounds,
  routed: Standing,
  reservedChains: readonly number[] = [],
): { readonly spared: Standing; readonly lackCount: number; readonly stuck: readonly Group[] } {
  const { spares: wanted = 0 } = grounds.model;
  const needs = needsOf(grounds, routed);
  const drained = needs.filter(({ group }) => group.some(({ node }) => grounds.nodes.get(node)?.leaving === "Drained"));
  const useful = sparesIn(routed)
    .filter(({ chain }) => chain >= SPARE_CHAIN_FIRST)
    .filter(({ node, layers }) => grounds.nodes.has(node) && needs.some(({ group }) => sameLayers(group, layers)))
    .slice(0, wanted + drained.length);
  const onRoute = new Set(routed.routes.flatMap(keysOf));
  let assignments = routed.assignments.filter(
    (each) => onRoute.has(`${each.chain}.${each.segment}`) || useful.includes(each),
  );
  let lackCount = 0;
  for (let count = useful.length; count < wanted; count++) {
    const spare = nextSpare(grounds, { assignments, routes: routed.routes }, needs, reservedChains);
    if (spare === undefined) {
      lackCount = wanted - count;
      break;
    }
    assignments = [...assignments, ...spare];
  }
  // What is to be drained is loaded elsewhere before it goes, over and above the spares that are asked for.
  const stuck: Group[] = [];
  for (const need of drained) {
    const now = { assignments, routes: routed.routes };
    const mayStandIn = standsIn(grounds, now, need.group);
    if (sparesIn(now).some((spare) => sameLayers(need.group, spare.layers) && mayStandIn([spare]))) continue;
    const copy = nextSpare(grounds, now, [need], reservedChains, mayStandIn);
    if (copy === undefined) stuck.push(need.group);
    assignments = [...assignments, ...(copy ?? [])];
  }
  return { spared: { assignments: inNameOrder(assignments), routes: routed.routes }, lackCount, stuck };
}

/** Whether no wish would be broken by this copy on the routes in the group's place. */
function standsIn(grounds: Grounds, now: Standing, group: Group): (copy: Group) => boolean {
  const own = group[0] === undefined ? "" : segmentKey(group[0]);
  const known = new Set(brokenWishes(grounds, now));
  return (copy) => {
    const [place] = copy;
    if (place === undefined) return false;
    const { chain, segment } = place;
    const routes = now.routes.map((route) => ({
      ...route,
      segments: route.segments.map((each) => (segmentKey(each) === own ? { chain, segment } : each)),
    }));
    const others = now.assignments.filter((each) => segmentKey(each) !== own && !copy.includes(each));
    return brokenWishes(grounds, { assignments: [...others, ...copy], routes }).every((each) => known.has(each));
  };
}

const sameLayers = ([leader]: readonly Assignment[], { start, end }: Assignment["layers"]): boolean =>
  leader?.layers.start === start && leader.layers.end === end;

/** Segments by how likely their loss is and how much runs through them, greatest need first. */
function needsOf({ nodes }: Grounds, routed: Standing): readonly Need[] {
  const groups = segmentsOf(routed.assignments);
  const flow = new Map<readonly Assignment[], number>();
  for (const route of routesOf(routed))
    for (const group of ranksOn(route, groups)) flow.set(group, (flow.get(group) ?? 0) + 1 + route.tokensPerSecond);
  return [...flow]
    .map(([group, through]) => {
      const answers = group.reduce((product, { node }) => product * (nodes.get(node)?.reliability ?? RELIABILITY), 1);
      return { group, score: (1 - answers) * through };
    })
    .sort((a, b) => b.score - a.score || order(a.group) - order(b.group));
}

/** What is taken for a node of which nobody knows how often it answers. */
const RELIABILITY = 0.99;
const order = ([leader]: readonly Assignment[]): number => (leader?.chain ?? 0) * 10_000 + (leader?.segment ?? 0);

/** A copy of the first segment, in order of need, that has fewer copies than others and fits somewhere. */
function nextSpare(
  grounds: Grounds,
  now: Standing,
  needs: readonly Need[],
  reservedChains: readonly number[],
  isFine: (copy: Group) => boolean = () => true,
): Group | undefined {
  const spares = sparesIn(now);
  const copies = ({ group }: Need) => spares.filter(({ layers }) => sameLayers(group, layers)).length;
  const inTurn = [...needs].sort((a, b) => copies(a) - copies(b));
  const numbers = new Set([...reservedChains, ...now.assignments.map(({ chain }) => chain)]);
  let chain = SPARE_CHAIN_FIRST;
  while (numbers.has(chain)) chain += 1;
  for (const { group } of inTurn) {
    const [leader] = group;
    if (leader === undefined) continue;
    for (const node of candidates(grounds, now, group)) {
      const copy = assignmentsOf(holderOf([node]), leader.layers, { chain, segment: 0 }, grounds.sizes);
      if (bytesOn(node.name, [...now.assignments, ...copy]) > node.freeBytes) continue;
      const ceiling = priceCeiling(grounds.model);
      if (ceiling !== undefined && priceOf(grounds, [...now.assignments, ...copy]) > ceiling) continue;
      if (!isFine(copy)) continue;
      return copy;
    }
  }
  return undefined;
}

/** Nodes that hold nothing first; the same kind of device first, and no other where the model asks for that. */
function candidates(grounds: Grounds, now: Standing, group: readonly Assignment[]): readonly NodeFacts[] {
  const { model, nodes, facts } = grounds;
  const [leader] = group;
  const device = nodes.get(leader?.node ?? "")?.device;
  const atEnd = leader?.layers.start === 0 || leader?.layers.end === facts.config.layerCount;
  const held = new Set(now.assignments.map(({ node }) => node));
  const own = new Set(group.map(({ node }) => node));
  return [...nodes.values()]
    .filter(({ name, ready }) => ready && !own.has(name))
    .filter((node) => !atEnd || maySeeText(model, [node]))
    .filter((node) => model.placement.replacement !== "SameDevice" || node.device === device)
    .sort(
      (a, b) =>
        Number(held.has(a.name)) - Number(held.has(b.name)) ||
        Number(b.device === device) - Number(a.device === device) ||
        paceOf(b) - paceOf(a) ||
        (a.name < b.name ? -1 : 1),
    );
}
