/**
 * What stood, made whole again with as few moves as can be. Whoever still holds what it held goes on holding it as long
 * as any way is found that leaves it alone: first only sites that hold nothing take something up; then, one after the
 * other, a single site that stands may change its layers too, then two, those beside the gap first.
 */
import { type Beam, type ChainCost, reachOf, withChain } from "./chain-start.ts";
import { type Field, type State, copyState, endAt, fits, hold, startAt } from "./field.ts";
import { type Judge, isBetter } from "./judge.ts";
import { type Kinds, kindsOf } from "./kinds.ts";

const BEAM: Beam = { width: 4, kinds: 24, ends: 6 };
/** Ways of taking up layers that are tried for sites that hold nothing. */
const TRIES_MAX = 1500;
/** Sites beside the gap of which pairs are tried. */
const PAIRED_MAX = 8;

/**
 * `state` if it keeps the rules and `isWhole` (nothing of it was lost); else what mends it with the fewest moves among
 * those that stand. Undefined where more than two would have to move.
 */
export function mended(judge: Judge, state: State, isWhole: boolean): State | undefined {
  const { field } = judge;
  const worth = judge.worth(state);
  if (worth.broken === 0) return isWhole ? state : toppedUp(judge, state);
  const kinds = kindsOf(field);
  const without = mendedWithout(judge, kinds, state, []);
  if (without !== undefined) return toppedUp(judge, without);
  const near = byNearness(field, state);
  const alone = bestOf(
    judge,
    near.map((site) => mendedWithout(judge, kinds, state, [site])),
  );
  if (alone !== undefined) return alone;
  const few = near.slice(0, PAIRED_MAX);
  return bestOf(
    judge,
    few.flatMap((a, index) => few.slice(index + 1).map((b) => mendedWithout(judge, kinds, state, [a, b]))),
  );
}

function bestOf(judge: Judge, states: readonly (State | undefined)[]): State | undefined {
  let best: State | undefined;
  for (const state of states)
    if (state !== undefined && (best === undefined || isBetter(judge.worth(state), judge.worth(best)))) best = state;
  return best;
}

/** Chains are added around what stands, `freed` set free, until the rules hold; the widest that way. */
function mendedWithout(judge: Judge, kinds: Kinds, state: State, freed: readonly number[]): State | undefined {
  const { field, chainBound: bound } = judge;
  const from = copyState(state);
  for (const site of freed) hold(from, site, -1, -1);
  const { aim, chainCount } = field.problem;
  const cost: ChainCost = aim.kind === "price" ? "price" : "seconds";
  const rates = aim.kind === "latency" ? [1] : [bound, bound / 2, bound / 4, bound / 16, 1];
  const found: State[] = [];
  for (const rate of rates) {
    const reach = reachOf(field, kinds, rate);
    let held = from;
    for (let chain = 0; chain < (chainCount ?? 1) + 1; chain += 1) {
      const next = withChain(reach, held, cost, true, BEAM)?.state;
      if (next === undefined) break;
      held = next;
      if (judge.worth(held).broken > 0) continue;
      found.push(held);
      break;
    }
  }
  return bestOf(judge, found);
}

/** Sites that stand, those first whose layers border on a gap in what is held. */
function byNearness(field: Field, state: State): readonly number[] {
  const ends = new Set<number>([field.layerCount]);
  const starts = new Set<number>([0]);
  field.sites.forEach((_, site) => {
    if (startAt(state, site) < 0) return;
    starts.add(startAt(state, site));
    ends.add(endAt(state, site));
  });
  const lonely = (site: number): number => {
    const [start, end] = [startAt(state, site), endAt(state, site)];
    return (start > 0 && !ends.has(start) ? 1 : 0) + (end < field.layerCount && !starts.has(end) ? 1 : 0);
  };
  return [...field.sites.keys()]
    .filter((site) => startAt(state, site) >= 0)
    .sort((a, b) => lonely(b) - lonely(a) || a - b);
}

/** Sites that hold nothing take up what helps most, one after the other; nobody else moves. */
function toppedUp(judge: Judge, from: State): State {
  const { field } = judge;
  let state = from;
  let triesLeft = TRIES_MAX;
  for (;;) {
    const positions = [...new Set([0, field.layerCount, ...state.starts, ...state.ends])].filter((at) => at >= 0);
    let best: State | undefined;
    for (let site = 0; site < field.sites.length && triesLeft > 0; site += 1) {
      if (startAt(state, site) >= 0 || (field.rivals[site] ?? []).some((rival) => startAt(state, rival) >= 0)) continue;
      for (const start of positions)
        for (const end of positions) {
          if (triesLeft <= 0 || !fits(field, site, start, end)) continue;
          triesLeft -= 1;
          const next = copyState(state);
          hold(next, site, start, end);
          if (isBetter(judge.worth(next), judge.worth(best ?? state))) best = next;
        }
    }
    if (best === undefined) return state;
    state = best;
  }
}
