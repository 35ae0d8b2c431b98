/**
 * What given ranks and routes are expected to do: one yardstick for plans in force, repaired ones and new ones, so that
 * they can be compared. A rate that several routes share is dealt out evenly until something is full.
 */
import { lengthOf } from "../../core/ranges.ts";
import { type Costs, costs } from "./cost/costs.ts";
import { type Routed, keysOf, ranksOn, routesOf, segmentKey, segmentsOf } from "./routes.ts";
import type { Grounds } from "./sites.ts";
import type { Assignment, NodeFacts, Objective, Placement, Route } from "./types.ts";

export type Estimated = { readonly routes: readonly Route[]; readonly estimate: Placement["estimate"] };

type Limit = { readonly name: string; readonly tokensPerSecond: number };
/** A route's time and what bounds it. */
export type Way = {
  readonly route: Route;
  readonly seconds: number;
  readonly limits: readonly Limit[];
  readonly isEstimated: boolean;
};

/**
 * Ranks on nodes that are not among the grounds' count as lost: their routes carry nothing. `figures`: of the nodes that
 * take part, so that a plan is worth the same whoever else there is; left out, worked out here. `known`: ways of routes
 * whose ranks are what they were when it was last asked; what is new is added.
 */
export function estimated(
  grounds: Grounds,
  routed: Routed,
  figures = figuresFor(grounds, routed),
  known: Map<Route, Way> = new Map(),
): Estimated {
  const groups = segmentsOf(routed.assignments);
  const own = { ...grounds, costs: figures };
  const ways = routesOf(routed).map((route) => {
    const way = known.get(route) ?? wayOf(own, route, ranksOn(route, groups));
    known.set(route, way);
    return way;
  });
  const { flows: passing, bottleneck } = dealOut(withSlots(grounds, ways));
  const flows = passing.map((flow) => flow * generatedShare(grounds));
  const routes = ways.map(({ route, seconds }, index) => ({
    ...route,
    tokensPerSecond: flows[index] ?? 0,
    millisecondsPerToken: Number.isFinite(seconds) ? 1000 * seconds : 0,
  }));
  const slowest = Math.max(0, ...routes.map(({ millisecondsPerToken }) => millisecondsPerToken));
  return {
    routes,
    estimate: {
      millisecondsPerToken: slowest,
      bottleneck,
      tokensPerSecond: flows.reduce((sum, flow) => sum + flow, 0),
      pricePerHour: priceOf(grounds, routed.assignments),
      isEstimated: ways.some((way) => way.isEstimated),
    },
  };
}

/** What the nodes on the routes take, in order of name. */
export function figuresFor({ model, facts, nodes }: Grounds, routed: Routed): Costs {
  const groups = segmentsOf(routed.assignments);
  const used = new Set(
    routesOf(routed)
      .flatMap((route) => ranksOn(route, groups).flat())
      .map(({ node }) => node),
  );
  const own = [...used].sort().flatMap((name) => nodes.get(name) ?? []);
  return costs(model, facts, own);
}

/** Of the tokens that pass, prompts included, those that are generated: what people mean by tokens a second. */
export const generatedShare = ({ costs }: Pick<Grounds, "costs">): number =>
  costs.traffic.generatedTokens / (costs.traffic.generatedTokens + costs.traffic.promptTokens);

/** Of all nodes that hold anything, spares included. */
export function priceOf({ nodes }: Pick<Grounds, "nodes">, assignments: readonly Assignment[]): bigint {
  const used = new Set(assignments.map(({ node }) => node));
  return [...used].reduce((sum, name) => sum + (nodes.get(name)?.pricePerHour ?? 0n), 0n);
}

/** How much better `after` is than `before` at what the model wants, as a share: 0.1 is a tenth. */
export function gainOf(objective: Objective | undefined, before: Estimated, after: Estimated): number {
  const share = (old: number, now: number) => (old <= 0 ? (now > 0 ? Number.POSITIVE_INFINITY : 0) : now / old - 1);
  const [old, now] = [before.estimate, after.estimate];
  switch (objective?.kind) {
    case "Latency":
      return isDead(after) ? -1 : isDead(before) ? Infinity : share(now.millisecondsPerToken, old.millisecondsPerToken);
    case "Price":
      if ((now.tokensPerSecond ?? 0) < objective.tokensPerSecondMin) return -1;
      if ((old.tokensPerSecond ?? 0) < objective.tokensPerSecondMin) return Number.POSITIVE_INFINITY;
      return share(Number(now.pricePerHour ?? 0n), Number(old.pricePerHour ?? 0n));
    default: {
      const limit = objective?.timePerTokenMsMax ?? Number.POSITIVE_INFINITY;
      if (now.millisecondsPerToken > limit) return -1;
      if (old.millisecondsPerToken > limit) return Number.POSITIVE_INFINITY;
      return share(old.tokensPerSecond ?? 0, now.tokensPerSecond ?? 0);
    }
  }
}

const isDead = ({ routes }: Estimated): boolean => routes.some(({ tokensPerSecond }) => tokensPerSecond <= 0);

function wayOf(grounds: Grounds, route: Route, segments: readonly (readonly Assignment[])[]): Way {
  const { costs: figures, facts } = grounds;
  const { layerCount } = facts.config;
  const limits: Limit[] = [];
  let seconds = 0;
  let isEstimated = false;
  let before: NodeFacts | undefined;
  for (const group of segments) {
    const nodes = group.flatMap(({ node }) => grounds.nodes.get(node) ?? []);
    const [leader] = nodes;
    const [first] = group;
    if (leader === undefined || first === undefined || nodes.length !== group.length) return lost(route);
    const site = figures.site(nodes, first.sliceWeights);
    const isLast = first.layers.end === layerCount;
    const count = lengthOf(first.layers);
    const rates = site.rates(count);
    const link = before === undefined ? figures.entry(leader) : figures.link(before, leader);
    const from = before === undefined ? "gateway" : before.name;
    limits.push({ name: `${from} → ${leader.name}`, tokensPerSecond: link.tokensPerSecond });
    limits.push({
      name: `${segmentKey(first)} ${nodes.map(({ name }) => name).join("+")}`,
      tokensPerSecond: (isLast ? rates.last : rates).tokensPerSecond[count - 1] ?? 0,
    });
    seconds += link.seconds + site.tokenSeconds(count, isLast);
    if (site.estimated.length > 0 || link.isEstimated) isEstimated = true;
    before = leader;
  }
  if (before === undefined) return lost(route);
  const exit = figures.exit(before);
  limits.push({ name: `${before.name} → gateway`, tokensPerSecond: exit.tokensPerSecond });
  return { route, seconds: seconds + exit.seconds, limits, isEstimated };
}

/**
 * However quick the nodes: a session gets one token in the time of one, and a segment has room for so many sessions.
 * Chains that share a segment share its slots, and gateways give each as many sessions.
 */
function withSlots(grounds: Grounds, ways: readonly Way[]): readonly Way[] {
  const { slotCount } = grounds.model;
  const share = generatedShare(grounds);
  const crowds = new Map<string, number>();
  for (const key of ways.flatMap(({ route }) => keysOf(route))) crowds.set(key, (crowds.get(key) ?? 0) + 1);
  return ways.map((way) => {
    const crowd = keysOf(way.route).reduce((most, key) => Math.max(most, crowds.get(key) ?? 1), 1);
    const name = `${way.route.chain}.0 ${slotCount} slots of a chain`;
    return { ...way, limits: [...way.limits, { name, tokensPerSecond: slotCount / crowd / way.seconds / share }] };
  });
}

const lost = (route: Route): Way => ({
  route,
  seconds: Number.POSITIVE_INFINITY,
  limits: [{ name: "a lost node", tokensPerSecond: 0 }],
  isEstimated: false,
});

/** All routes rise together until a limit is reached; those through it stay, the others go on. */
function dealOut(ways: readonly Way[]): { readonly flows: readonly number[]; readonly bottleneck: string } {
  const flows = ways.map(() => 0);
  const limits = decisiveLimits(ways);
  const rising = new Set(ways.keys());
  let bottleneck = "";
  while (rising.size > 0) {
    let step = Number.POSITIVE_INFINITY;
    let full: ReadonlySet<number> = new Set();
    let name = "";
    for (const limit of limits) {
      const users = limit.users.filter((index) => rising.has(index));
      if (users.length === 0 || limit.left / users.length >= step) continue;
      step = limit.left / users.length;
      full = new Set(users);
      name = limit.name;
    }
    if (full.size === 0) break;
    if (bottleneck === "") bottleneck = name;
    for (const index of rising) flows[index] = (flows[index] ?? 0) + step;
    for (const limit of limits)
      limit.left = Math.max(0, limit.left - step * limit.users.filter((index) => rising.has(index)).length);
    for (const index of full) rising.delete(index);
  }
  return { flows, bottleneck: bottleneck.replace(/^\d+[.]\d+ /, "") };
}

type Decisive = { readonly name: string; left: number; readonly users: readonly number[] };

/** Of the limits that only one route meets, its lowest: the others never bind. Those that several share stay. */
function decisiveLimits(ways: readonly Way[]): readonly Decisive[] {
  const limits = new Map<string, { readonly name: string; left: number; readonly users: number[] }>();
  ways.forEach((way, index) => {
    for (const { name, tokensPerSecond } of way.limits) {
      const limit = limits.get(name) ?? { name, left: tokensPerSecond, users: [] };
      if (limit.users.at(-1) !== index) limit.users.push(index);
      limits.set(name, limit);
    }
  });
  const lowest = new Map<number, Decisive>();
  for (const limit of limits.values()) {
    const [user = 0, ...others] = limit.users;
    if (others.length === 0 && limit.left < (lowest.get(user)?.left ?? Number.POSITIVE_INFINITY))
      lowest.set(user, limit);
  }
  return [...limits.values()].filter((limit) => limit.users.length > 1 || lowest.get(limit.users[0] ?? 0) === limit);
}
