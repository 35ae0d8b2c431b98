/** How the chains of a rollout are: what rollout.ts decides by, read from ranks and probes. */
import { hasPassed } from "./conditions.ts";
import { banOf } from "./holders.ts";
import { rankName } from "./names.ts";
import { readyChains } from "./ranks-due.ts";
import type { Walk } from "./rolling-room.ts";
import { type NextChain, type OldChain, type Pace, slowdownOf } from "./rollout.ts";
import { ranksOn, routesOf, segmentsOf } from "./routes.ts";
import type { Assignment, Known, ModelSpec, Probe, RankState, Route, Side } from "./types.ts";

/** Ends of a rank's process until it is given up: its image, its model or its node will not do. */
const ENDS_MAX = 3;
/** Times that a pace is measured before it counts as slow. */
const MEASURED_MAX = 3;

export type Views = {
  readonly next: readonly NextChain[];
  readonly old: readonly OldChain[];
  /** Chains that are to be measured before it can be said how they compare. */
  readonly toMeasure: readonly number[];
};

export function viewsOf(walk: Walk): Views {
  const { world, rolls, target, outgoing } = walk;
  const nodes = new Map(world.nodes.map((node) => [node.name, node]));
  const ranks = new Map(world.ranks.map((rank) => [rank.name, rank]));
  const old = outgoing.flatMap((side): readonly OldChain[] => {
    const ready = new Set(readyIn(walk, side));
    const groups = segmentsOf(side.plan.assignments);
    return routesOf(side.plan).map((route) => {
      const held = ranksOn(route, groups).flat();
      const draining = rolls.draining.find(({ chain }) => chain === route.chain);
      const isReady = ready.has(route.chain) && !rolls.unproven.includes(route.chain);
      const isLost = held.some((each) => {
        const node = nodes.get(each.node);
        return (
          node === undefined || banOf(world.model, node) !== undefined || phaseOf(ranks, world.model, each) === "Lost"
        );
      });
      const isSilent = held.some(({ node }) => nodes.get(node)?.ready === false);
      return {
        chain: route.chain,
        state: isLost ? "Lost" : isReady ? "Ready" : isSilent ? "Silent" : "NotReady",
        isQuiet: draining?.isQuiet === true,
        ...(draining === undefined ? {} : { drainingSeconds: draining.seconds }),
      };
    });
  });
  const paces = pacesOf(walk, old);
  const ready = new Set(readyIn(walk, target));
  const groups = segmentsOf(target.plan.assignments);
  const next = routesOf(target.plan).map((route): NextChain => {
    const isReady = ready.has(route.chain);
    if (!rolls.unproven.includes(route.chain)) return { chain: route.chain, isReady, isProven: true };
    if (isReady) return provenOf(walk, route, paces.reference);
    const held = ranksOn(route, groups).flat();
    return { chain: route.chain, isReady, isProven: false, ...troubleOf(world.model, held, ranks) };
  });
  const unmeasured = next.some(({ isReady, isProven }) => isReady && !isProven) ? paces.unmeasured : [];
  const slow = next.flatMap(({ chain, isReady, isProven, hopeless }) =>
    isReady && !isProven && hopeless === undefined && hasPassed(world, chain) ? [chain] : [],
  );
  return { next, old, toMeasure: [...unmeasured.slice(0, 1), ...(unmeasured.length > 0 ? [] : slow)] };
}

const readyIn = ({ world }: Walk, { plan }: Side): readonly number[] =>
  readyChains(world.model, plan.revision, plan, world.ranks);

const phaseOf = (ranks: ReadonlyMap<string, RankState>, model: ModelSpec, assignment: Assignment) =>
  ranks.get(rankName(model, assignment))?.phase;

function troubleOf(
  model: ModelSpec,
  held: readonly Assignment[],
  ranks: ReadonlyMap<string, RankState>,
): Pick<NextChain, "trouble" | "hopeless"> {
  const states = held.map((each) => ({ name: rankName(model, each), rank: ranks.get(rankName(model, each)) }));
  const waiting = states.filter(({ rank }) => rank?.phase !== "Ready");
  const ended = waiting.find(({ rank }) => (rank?.endedCount ?? 0) >= ENDS_MAX);
  const worst = ended ?? waiting.find(({ rank }) => rank?.detail) ?? waiting[0];
  return {
    trouble: `${worst?.name ?? "a rank"}: ${worst?.rank?.detail || "not started"}`,
    ...(ended === undefined ? {} : { hopeless: "RankEnds" }),
  };
}

type Reference = Pace;

/** The slowest of the old chains that serve: to be no worse than that is all that is asked. */
function pacesOf(
  { world, rolls, outgoing }: Walk,
  old: readonly OldChain[],
): { readonly reference: Reference | undefined | "unknown"; readonly unmeasured: readonly number[] } {
  if (rolls.limits.maxSlowdownPercent === undefined) return { reference: undefined, unmeasured: [] };
  const serving = new Set(old.flatMap(({ chain, state }) => (state === "Ready" ? [chain] : [])));
  const routes = outgoing.flatMap(({ plan }) => routesOf(plan)).filter(({ chain }) => serving.has(chain));
  const measured = routes.flatMap(({ chain, millisecondsPerToken }): readonly Reference[] => {
    const measuredMs = probeOf(world, chain)?.tokenMs;
    return measuredMs === undefined ? [] : [{ measuredMs, promisedMs: millisecondsPerToken }];
  });
  const slowest = measured.toSorted((a, b) => b.measuredMs - a.measuredMs)[0];
  if (slowest !== undefined) return { reference: slowest, unmeasured: [] };
  // One that fails its probe is nothing to compare with.
  const unmeasured = routes.flatMap(({ chain }) => {
    const probe = probeOf(world, chain);
    return probe?.passed === false || probe?.measuredCount !== undefined ? [] : [chain];
  });
  return { reference: unmeasured.length > 0 ? "unknown" : undefined, unmeasured };
}

export const probeOf = ({ probes }: Known, chain: number): Probe | undefined =>
  probes.find((probe) => probe.chain === chain && probe.hearsay === undefined);

/** A chain whose ranks are ready: whether a probe has gone through it, and how quickly. */
function provenOf({ world, rolls }: Walk, route: Route, reference: Reference | undefined | "unknown"): NextChain {
  const { chain, millisecondsPerToken } = route;
  const probe = probeOf(world, chain);
  const not = { chain, isReady: true, isProven: false } as const;
  if (probe === undefined) return not;
  if (!probe.passed) return { ...not, trouble: `no request goes through chain ${chain}: ${probe.detail}` };
  if (reference === "unknown") return not;
  const limit = rolls.limits.maxSlowdownPercent;
  const measuredMs = probe.tokenMs ?? 0;
  const slower =
    reference === undefined ? undefined : slowdownOf(reference, { measuredMs, promisedMs: millisecondsPerToken });
  if (limit === undefined || reference === undefined || slower === undefined || slower <= limit)
    return { ...not, isProven: true };
  const [ms, beforeMs] = [measuredMs.toFixed(1), reference.measuredMs.toFixed(1)];
  const words =
    `chain ${chain} takes ${ms} ms for a token, ${Math.round(slower)} % more than the ${beforeMs} ms before let expect; ` +
    `spec.update.maxSlowdown is ${limit}%`;
  return (probe.measuredCount ?? 1) < MEASURED_MAX
    ? { ...not, trouble: words }
    : { ...not, trouble: words, hopeless: "Slower" };
}
