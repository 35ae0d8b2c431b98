/**
 * Nodes that may take part and hold nothing, and why: for the first of them, what the plan would be worth with them in
 * it, worked out by giving each the layers at which it does least harm.
 */
import { lengthOf } from "../../core/ranges.ts";
import type { Costs } from "./cost/costs.ts";
import { type Estimated, type Way, estimated, figuresFor, gainOf } from "./estimate.ts";
import { holderOf, maySeeText } from "./holders.ts";
import { assignmentsOf } from "./homes.ts";
import { type Routed, keysOf, routesOf, segmentKey, segmentsOf } from "./routes.ts";
import type { Grounds } from "./sites.ts";
import type { Assignment, LeftOut, NodeFacts, Route } from "./types.ts";

/** Each costs several estimates of the whole plan; people read the first few. */
const WEIGHED_COUNT_MAX = 8;
/** A node helps most where most time goes: so many segments are tried with it. */
const SEGMENT_COUNT_MAX = 4;
/** A chain that no plan has: where the node would be at home. */
const TRIAL_CHAIN = 100_000;

/** Figures of the nodes that the plan takes, its slowest segments, and ways of routes that a trial leaves alone. */
type Trials = {
  readonly costs: Costs;
  readonly slowest: readonly (readonly Assignment[])[];
  readonly ways: Map<Route, Way>;
};

export function leftOutOf(grounds: Grounds, routed: Routed & Estimated): readonly LeftOut[] {
  const costs = figuresFor(grounds, routed);
  const trials: Trials = { costs, slowest: slowest({ ...grounds, costs }, routed), ways: new Map() };
  estimated(grounds, routed, costs, trials.ways);
  const hasMiddles = hasMiddle(grounds, routed);
  const used = new Set(routed.assignments.map(({ node }) => node));
  const unused = [...grounds.nodes.values()].filter(({ name }) => !used.has(name));
  return unused.map((node, index) =>
    whyUnused(grounds, routed, node, hasMiddles, index < WEIGHED_COUNT_MAX ? trials : undefined),
  );
}

function whyUnused(
  grounds: Grounds,
  routed: Routed & Estimated,
  node: NodeFacts,
  hasMiddles: boolean,
  trials: Trials | undefined,
): LeftOut {
  const room = grounds.sizes.layersMax({ nodes: [node], provider: node.provider, sliceWeights: [1] });
  if (room.inner === 0) {
    return { node: node.name, code: "NoMemory", why: "not one layer fits into its free memory" };
  }
  if (!maySeeText(grounds.model, [node]) && !hasMiddles)
    return {
      node: node.name,
      code: "EdgesElsewhere",
      why: "spec.placement.edges keeps text from it, and every segment of the plan is at an end of a chain",
    };
  const best =
    trials === undefined ? undefined : bestTrial({ ...grounds, costs: trials.costs }, routed, node, room, trials);
  if (best === undefined) return { node: node.name, code: "NotNeeded", why: "the plan is as good without it" };
  return { node: node.name, ...inWords(grounds, routed, best) };
}

const hasMiddle = ({ facts }: Grounds, { assignments }: Routed): boolean =>
  assignments.some(({ layers }) => layers.start > 0 && layers.end < facts.config.layerCount);

/** The best that the plan would be if the node took the first or the last layers of some segment. */
function bestTrial(
  grounds: Grounds,
  routed: Routed & Estimated,
  node: NodeFacts,
  room: { readonly inner: number; readonly first: number; readonly last: number },
  { slowest, ways }: Trials,
): Estimated | undefined {
  let best: Estimated | undefined;
  for (const group of slowest) {
    for (const trial of trialsIn(grounds, routed, group, node, room)) {
      const worth = estimated(grounds, trial, grounds.costs, new Map(ways));
      if (best === undefined || gainOf(grounds.model.objective, best, worth) > 0) best = worth;
    }
  }
  return best;
}

/** The segments on routes that take longest, longest first. */
function slowest({ costs, facts, nodes }: Grounds, routed: Routed): readonly (readonly Assignment[])[] {
  const onRoute = new Set(routesOf(routed).flatMap(keysOf));
  return [...segmentsOf(routed.assignments)]
    .filter(([key]) => onRoute.has(key))
    .map(([key, group]) => {
      const [leader] = group;
      const held = group.flatMap(({ node }) => nodes.get(node) ?? []);
      const isLast = leader?.layers.end === facts.config.layerCount;
      const known = leader !== undefined && held.length === leader.sliceWeights.length;
      const seconds = known ? costs.site(held, leader.sliceWeights).tokenSeconds(lengthOf(leader.layers), isLast) : 0;
      return { key, group, seconds };
    })
    .sort((a, b) => b.seconds - a.seconds || (a.key < b.key ? -1 : 1))
    .slice(0, SEGMENT_COUNT_MAX)
    .map(({ group }) => group);
}

function trialsIn(
  grounds: Grounds,
  routed: Routed,
  group: readonly Assignment[],
  node: NodeFacts,
  room: { readonly inner: number; readonly first: number; readonly last: number },
): readonly Routed[] {
  const [leader] = group;
  if (leader === undefined || lengthOf(leader.layers) < 2) return [];
  const { start, end } = leader.layers;
  const sees = maySeeText(grounds.model, [node]);
  const counts = new Set([1, Math.floor(lengthOf(leader.layers) / 2)]);
  const layerCount = grounds.facts.config.layerCount;
  return [...counts].flatMap((count) => {
    const front =
      start > 0 || sees ? [{ own: { start, end: start + count }, rest: { start: start + count, end } }] : [];
    const back =
      end < layerCount || sees ? [{ own: { start: end - count, end }, rest: { start, end: end - count } }] : [];
    const fits = (own: Assignment["layers"]) =>
      count <= (own.start === 0 ? room.first : own.end === layerCount ? room.last : room.inner);
    return [...front, ...back]
      .filter(({ own }) => fits(own))
      .map(({ own, rest }) => split(grounds, routed, group, node, own, rest));
  });
}

function split(
  { sizes }: Grounds,
  routed: Routed,
  group: readonly Assignment[],
  node: NodeFacts,
  own: Assignment["layers"],
  rest: Assignment["layers"],
): Routed {
  const place = { chain: TRIAL_CHAIN, segment: 0 };
  const key = group[0] === undefined ? "" : segmentKey(group[0]);
  const shorter = group.map((assignment) => ({ ...assignment, layers: rest }));
  const assignments = [
    ...routed.assignments.filter((assignment) => segmentKey(assignment) !== key),
    ...shorter,
    ...assignmentsOf(holderOf([node]), own, place, sizes),
  ];
  const routes = routesOf(routed).map((route): Route => {
    if (!keysOf(route).includes(key)) return route;
    const segments = route.segments.flatMap((each) =>
      segmentKey(each) !== key ? [each] : own.start < rest.start ? [place, each] : [each, place],
    );
    return { ...route, segments };
  });
  return { assignments, routes };
}

function inWords(grounds: Grounds, { estimate }: Estimated, trial: Estimated): Omit<LeftOut, "node"> {
  const [without, withIt] = [estimate, trial.estimate];
  const rate = (value = 0) => `${value.toFixed(1)} tokens/s`;
  const time = (value: number) => `${value.toFixed(1)} ms a token`;
  const [slow, quick] = [without.tokensPerSecond ?? 0, withIt.tokensPerSecond ?? 0];
  const changes = [
    quick < slow * 0.999 ? `${rate(quick)} instead of ${rate(slow)}` : undefined,
    withIt.millisecondsPerToken > without.millisecondsPerToken * 1.001
      ? `${time(withIt.millisecondsPerToken)} instead of ${time(without.millisecondsPerToken)}`
      : undefined,
    (withIt.pricePerHour ?? 0n) > (without.pricePerHour ?? 0n) ? "a higher price" : undefined,
  ].filter((change) => change !== undefined);
  const gain = gainOf(grounds.model.objective, { routes: [], estimate: without }, trial);
  if (changes.length > 0 && gain <= 0) {
    const adds = gain === 0 || quick >= slow * 0.999 ? "would add nothing" : "would make the plan slower";
    return { code: "Slows", why: `${adds}: with it ${changes.join(", ")}` };
  }
  return { code: "NotNeeded", why: `with it the plan would be much the same: ${rate(quick)} instead of ${rate(slow)}` };
}
