/**
 * The next step from chains of one revision to chains of another, make before break. A chain is to a model what a pod is
 * to a Deployment: next ones are made beside old ones as far as surge and memory allow; once one is proven (its ranks are
 * ready, a probe has gone through, gateways know it), as many old ones drain as keep the promise of what is available;
 * once their sessions have ended, they go. All that is remembered is what chains there are and how far each is, so that
 * whoever leads next goes on from the same place, and a spec that is reverted halfway is the same walk the other way.
 */

export type Limits = {
  readonly maxSurge: number; // chains beside those asked for
  readonly maxUnavailable: number; // chains that may be missing, where there is no room for another way
  readonly progressSeconds: number; // without any progress, until it is undone
  readonly drainSeconds: number; // for the sessions of an old chain to end by themselves
  readonly maxSlowdownPercent?: number; // see slowdownOf; left out: any will do
};

/** Why a revision is taken back, in a word. */
export type UndoReason = "RankEnds" | "CorruptChunk" | "Slower" | "Deadline" | "NoRoom";

export type NextChain = {
  readonly chain: number;
  readonly isReady: boolean;
  readonly isProven: boolean;
  readonly trouble?: string; // why it is not proven yet, in its own words
  readonly hopeless?: UndoReason; // waiting will not help
};

export type OldChain = {
  readonly chain: number;
  /** Silent: a node of it does not answer; what runs there may serve on. Lost: a node of it is gone, or must not serve. */
  readonly state: "Ready" | "NotReady" | "Silent" | "Lost";
  readonly drainingSeconds?: number; // since it takes no new session; left out: it does
  readonly isQuiet: boolean; // every gateway says that nothing runs on it any more
};

export type RollView = {
  readonly replicaCount: number;
  readonly limits: Limits;
  readonly next: readonly NextChain[];
  readonly old: readonly OldChain[];
  readonly stalledSeconds: number; // since a chain was last made, proven or taken away
  /** Whether one more chain of the next revision finds room, once these old ones are gone. */
  readonly fits: (without: readonly number[]) => boolean;
};

export type RollStep =
  | { readonly do: "finish" }
  | { readonly do: "undo"; readonly why: string; readonly reason: UndoReason }
  | {
      readonly do: "go";
      readonly grow: boolean; // one more chain of the next revision
      readonly drain: readonly number[]; // old ones that take no new session from now on
      readonly remove: readonly number[]; // old ones whose ranks end now
      /** Nothing may be done: there is room only where so many may be unavailable; undefined: not even then. */
      readonly blocked?: { readonly maxUnavailable: number | undefined };
    };

const isServing = ({ state, drainingSeconds }: OldChain): boolean => state === "Ready" && drainingSeconds === undefined;

/** Chains that take requests now. */
export const availableCount = ({ next, old }: Pick<RollView, "next" | "old">): number =>
  next.filter(({ isReady, isProven }) => isReady && isProven).length + old.filter(isServing).length;

export function nextStep(view: RollView): RollStep {
  const { replicaCount, limits, next, old, stalledSeconds } = view;
  for (const { isProven, hopeless, trouble = "it will not serve" } of next)
    if (!isProven && hopeless !== undefined) return { do: "undo", why: trouble, reason: hopeless };
  const stuck = next.find(({ isProven, trouble }) => !isProven && trouble !== undefined);
  if (stuck !== undefined && stalledSeconds >= limits.progressSeconds)
    return { do: "undo", why: `no progress in ${limits.progressSeconds} s: ${stuck.trouble}`, reason: "Deadline" };
  const isMade = next.length >= replicaCount && next.every(({ isProven }) => isProven);
  if (isMade && old.length === 0) return { do: "finish" };
  const isBegun = isMade || next.some(({ isReady, isProven }) => isReady && isProven);
  const isGrowing = next.some(({ isProven }) => !isProven) && !(limits.maxSurge > 1 && isBegun);
  const useless = isBegun ? old.filter((chain) => isUseless(chain, isMade)) : [];
  // What fails makes way where that lets another be made; elsewhere it is mended, and goes in its turn.
  const makesWay = useless.length > 0 && (isMade || (!isGrowing && view.fits(useless.map(numberOf))));
  const remove = old.filter((chain) => hasEnded(chain, limits) || (makesWay && useless.includes(chain)));
  const spareCount = Math.max(0, availableCount(view) - replicaCount);
  const drain = old.filter(isServing).slice(0, spareCount);
  const step = { do: "go", grow: false, drain: drain.map(numberOf), remove: remove.map(numberOf) } as const;
  if (next.length >= replicaCount || isGrowing || remove.length > 0) return step;
  if (next.length + old.length < replicaCount + limits.maxSurge && view.fits([])) return { ...step, grow: true };
  // What drains already will make room; what is not proven yet will let something drain.
  const isMoving =
    drain.length > 0 ||
    next.some(({ isProven }) => !isProven) ||
    old.some(({ drainingSeconds }) => drainingSeconds !== undefined);
  return isMoving ? step : brokenFirst(view, isBegun);
}

/** No room beside what there is: the fewest old chains go first that make some, as far as the limits let them. */
function brokenFirst(view: RollView, isBegun: boolean): RollStep {
  const { replicaCount, limits, next, old } = view;
  const inTurn = [...old].sort((a, b) => RANK[a.state] - RANK[b.state]);
  const available = availableCount(view);
  const allowed = Math.max(0, available - Math.max(0, replicaCount - limits.maxUnavailable));
  for (let count = 1; count <= inTurn.length; count++) {
    const go = inTurn.slice(0, count);
    if (next.length + old.length - count >= replicaCount + limits.maxSurge || !view.fits(go.map(numberOf))) continue;
    // Where nothing serves there is nothing to lose, nor with what fails once the next revision serves.
    const costs = ({ state }: OldChain) => state !== "Lost" && !(isBegun && state === "NotReady");
    const cost = available === 0 ? 0 : go.filter(costs).length;
    if (cost > allowed)
      return {
        do: "go",
        grow: false,
        drain: [],
        remove: [],
        blocked: { maxUnavailable: cost - available + replicaCount },
      };
    return {
      do: "go",
      grow: false,
      drain: go.filter(({ state }) => state === "Ready" || state === "Silent").map(numberOf),
      remove: go.filter(({ state }) => state === "NotReady" || state === "Lost").map(numberOf),
    };
  }
  return { do: "go", grow: false, drain: [], remove: [], blocked: { maxUnavailable: undefined } };
}

const RANK: Readonly<Record<OldChain["state"], number>> = { Lost: 0, NotReady: 1, Silent: 2, Ready: 3 };

const numberOf = ({ chain }: OldChain): number => chain;

/** It drained, and nothing runs on it any more, or has had its time. */
const hasEnded = ({ state, drainingSeconds, isQuiet }: OldChain, { drainSeconds }: Limits): boolean =>
  drainingSeconds !== undefined &&
  (isQuiet || drainingSeconds >= drainSeconds || state === "NotReady" || state === "Lost");

/** It serves nobody, and the next revision does. What only does not answer is left until nobody needs it. */
const isUseless = ({ state }: OldChain, isMade: boolean): boolean =>
  state === "Lost" || state === "NotReady" || (isMade && state === "Silent");

/** What was measured through a chain, and what its plan promised; milliseconds per token. */
export type Pace = { readonly measuredMs: number; readonly promisedMs: number };

/** Shorter than this, a time per token is mostly noise. */
const NOISE_MS = 5;

/**
 * How much slower than foreseen the next revision is, in per cent of what the old one takes: weights of twice the size
 * take twice the time, and the plan said so before. Undefined where that cannot be told.
 */
export function slowdownOf(old: Pace, next: Pace): number | undefined {
  if (old.measuredMs <= 0 || next.measuredMs <= 0) return undefined;
  const isPromised = old.promisedMs > 0 && next.promisedMs > old.promisedMs;
  const foreseenMs = old.measuredMs * (isPromised ? next.promisedMs / old.promisedMs : 1);
  if (next.measuredMs - foreseenMs < NOISE_MS) return 0;
  return 100 * (next.measuredMs / foreseenMs - 1);
}
