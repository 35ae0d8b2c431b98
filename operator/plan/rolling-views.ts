/** How the chains of a rollout are: what rollout.ts decides by, read from ranks and probes. */
import { hasPassed } from "./conditions.ts";
import { banOf } from "./holders.ts";
import { rankName } from "./names.ts";
import { readyChains } from "./ranks-due.ts";
import type { Walk } from "./rolling-room.ts";
import { type NextChain, type OldChain, type Pace, slowdownOf } from "./rollout.ts";
import { ranksOn, routesOf, segmentsOf } from "./routes.ts";
import type { Assignment, Known, MeasuredPace, ModelSpec, Probe, RankState, Route, Side } from "./types.ts";

/** Ends of a rank's process until it is given up: its image, its model or its node will not do. */
const ENDS_MAX = 3;
/**
 * A rank that has asked every source for a piece, and got none that is the manifest's. Attacker: an owner may say so to be
 * rid of a revision; the same owner could as well never get ready.
 */
const CORRUPT = /(^|: )CorruptChunk: /;
/**
 * Times that a pace is measured before it counts as slow, each beside one of an old chain that was measured just before: a
 * machine is busy by chance, and for both.
 */
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
  const references = referencesOf(walk, old);
  const ready = new Set(readyIn(walk, target));
  const groups = segmentsOf(target.plan.assignments);
  const next = routesOf(target.plan).map((route): NextChain => {
    const isReady = ready.has(route.chain);
    if (!rolls.unproven.includes(route.chain)) return { chain: route.chain, isReady, isProven: true };
    if (isReady) return provenOf(walk, route, references);
    const held = ranksOn(route, groups).flat();
    return { chain: route.chain, isReady, isProven: false, ...troubleOf(world.model, held, ranks) };
  });
  return { next, old, toMeasure: toMeasureOf(world, next, references) };
}

function toMeasureOf(world: Known, next: readonly NextChain[], references: References): readonly number[] {
  const isAwaited = next.some(({ isReady, isProven }) => isReady && !isProven);
  const [unmeasured] = references.unmeasured;
  if (isAwaited && unmeasured !== undefined) return [unmeasured];
  return next.flatMap(({ chain, isReady, isProven, hopeless }) => {
    if (!isReady || isProven || hopeless !== undefined || !hasPassed(world, chain)) return [];
    // It seems slow: so is an old one by now, or it is not. One that gives no figure was asked all the same.
    const reference = referenceAt(references, Number.POSITIVE_INFINITY);
    return [
      reference === undefined || lastAsked(world, reference.chain) > lastAsked(world, chain) ? chain : reference.chain,
    ];
  });
}

const lastAsked = (world: Known, chain: number): number => probeOf(world, chain)?.paces?.at(-1)?.order ?? 0;

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
  const corrupt = waiting.find(({ rank }) => rank !== undefined && CORRUPT.test(rank.detail));
  const worst = ended ?? corrupt ?? waiting.find(({ rank }) => rank?.detail) ?? waiting[0];
  return {
    trouble: `${worst?.name ?? "a rank"}: ${worst?.rank?.detail || "not started"}`,
    ...(ended !== undefined ? { hopeless: "RankEnds" } : corrupt !== undefined ? { hopeless: "CorruptChunk" } : {}),
  };
}

type Reference = Pace & { readonly chain: number; readonly order: number };

type References = {
  /** Of each old chain that serves, oldest first. */
  readonly measured: readonly (readonly Reference[])[];
  /** Old chains that are to be measured before anything can be said. */
  readonly unmeasured: readonly number[];
};

function referencesOf({ world, rolls, outgoing }: Walk, old: readonly OldChain[]): References {
  if (rolls.limits.maxSlowdownPercent === undefined) return { measured: [], unmeasured: [] };
  const serving = new Set(old.flatMap(({ chain, state }) => (state === "Ready" ? [chain] : [])));
  const routes = outgoing.flatMap(({ plan }) => routesOf(plan)).filter(({ chain }) => serving.has(chain));
  const measured = routes.flatMap(({ chain, millisecondsPerToken: promisedMs }): readonly (readonly Reference[])[] => {
    const paces = (probeOf(world, chain)?.paces ?? []).flatMap(({ order, tokenMs }): readonly Reference[] =>
      tokenMs === undefined ? [] : [{ chain, order, measuredMs: tokenMs, promisedMs }],
    );
    return paces.length > 0 ? [paces] : [];
  });
  if (measured.length > 0) return { measured, unmeasured: [] };
  // One that fails its probe is nothing to compare with.
  const unmeasured = routes.flatMap(({ chain }) => {
    const probe = probeOf(world, chain);
    return probe?.passed === false || probe?.paces !== undefined ? [] : [chain];
  });
  return { measured, unmeasured };
}

/** The slowest of the old chains at about the time of a measurement: to be no worse than that is all that is asked. */
function referenceAt({ measured }: References, order: number): Reference | undefined {
  const then = measured.flatMap((paces) => paces.findLast((pace) => pace.order < order) ?? paces[0] ?? []);
  return then.toSorted((a, b) => b.measuredMs - a.measuredMs)[0];
}

export const probeOf = ({ probes }: Known, chain: number): Probe | undefined =>
  probes.find((probe) => probe.chain === chain && probe.hearsay === undefined);

/** A chain whose ranks are ready: whether a probe has gone through it, and how quickly. */
function provenOf({ world, rolls }: Walk, route: Route, references: References): NextChain {
  const { chain } = route;
  const probe = probeOf(world, chain);
  const not = { chain, isReady: true, isProven: false } as const;
  if (probe === undefined) return not;
  if (!probe.passed) return { ...not, trouble: `no request goes through chain ${chain}: ${probe.detail}` };
  if (references.unmeasured.length > 0) return not;
  const limit = rolls.limits.maxSlowdownPercent;
  const paces = probe.paces ?? [];
  const [quickest] = paces
    .map((pace) => slownessOf(route, pace, referenceAt(references, pace.order)))
    .toSorted((a, b) => a.percent - b.percent);
  if (limit === undefined || quickest === undefined || quickest.percent <= limit) return { ...not, isProven: true };
  const trouble = `chain ${chain} takes ${quickest.words}; spec.update.maxSlowdown is ${limit}%`;
  return paces.length < MEASURED_MAX ? { ...not, trouble } : { ...not, trouble, hopeless: "Slower" };
}

function slownessOf(
  { millisecondsPerToken: promisedMs }: Route,
  { tokenMs = 0 }: MeasuredPace,
  reference: Reference | undefined,
): { readonly percent: number; readonly words: string } {
  const percent = (reference && slowdownOf(reference, { measuredMs: tokenMs, promisedMs })) ?? 0;
  const before = `the ${reference?.measuredMs.toFixed(1)} ms through chain ${reference?.chain} let expect`;
  return { percent, words: `${tokenMs.toFixed(1)} ms for a token, ${Math.round(percent)} % more than ${before}` };
}
