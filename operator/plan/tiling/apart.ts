/**
 * Chains built apart from one another, all equally wide: for as many chains as sites have room for. What a site gives is
 * its layers times their rate, nearly the same however it is shared out, so little is lost by chains being alike; and
 * chains that share nothing need no judging together, which is what many of them would cost most.
 */
import { type Beam, type ChainCost, type Reach, longestAt, reachOf, withChain } from "./chain-start.ts";
import { type State, emptyState } from "./field.ts";
import { type Judge, isBetter } from "./judge.ts";
import type { Kinds } from "./kinds.ts";

/** Shares of the ideal rate that are tried, until one is reached; what lies between it and the one before is halved. */
const LADDER = [0.985, 0.95, 0.88, 0.75, 0.55, 0.3, 0.1, 0.02] as const;
/** Chains beyond which each is sought less widely, and rates less finely. */
const FEW = 8;
const NARROW: Beam = { width: 1, kinds: 9, ends: 2 };
/** Numbers of chains that are worked out, from all that are asked for down to one. */
const COUNT_SHARES = [1, 0.8, 0.6, 0.4, 0.25, 0.12, 0.06, 0] as const;

/** The widest that were found, best first; empty where not even one chain is. */
export function apart(judge: Judge, kinds: Kinds, cost: ChainCost, wide: Beam): readonly State[] {
  const { field } = judge;
  const asked = field.problem.chainCount ?? 1;
  const beam = asked > FEW ? NARROW : wide;
  if (field.problem.aim.kind !== "throughput") return builtAt(judge, kinds, asked, cost, beam);
  const counts = [...new Set(COUNT_SHARES.map((share) => Math.max(1, Math.round(share * asked))))];
  const [best = asked, ...rest] = counts
    .map((count) => ({ count, rate: idealRate(judge, count) }))
    .sort((a, b) => b.count * b.rate - a.count * a.rate || b.count - a.count)
    .map(({ count }) => count);
  const states = widest(judge, kinds, best, asked, cost, beam);
  // Where fewer are wider together, the chains that are missing cross the others; that cannot always be.
  if (best === asked || states.some((state) => judge.worth(state).broken === 0)) return states;
  return [...states, ...(rest.includes(asked) ? widest(judge, kinds, asked, asked, cost, beam) : [])];
}

/** At the rate that is asked of each chain, where no more than that counts. */
function builtAt(judge: Judge, kinds: Kinds, count: number, cost: ChainCost, beam: Beam): readonly State[] {
  const { aim } = judge.field.problem;
  const rate = aim.kind === "price" ? Math.ceil((aim.tokensPerSecondMin * 1e6) / count) : 1;
  const state = chainsApart(reachOf(judge.field, kinds, Math.max(1, rate)), count, count, cost, beam);
  return state === undefined ? [] : [state];
}

function widest(
  judge: Judge,
  kinds: Kinds,
  count: number,
  asked: number,
  cost: ChainCost,
  beam: Beam,
): readonly State[] {
  const ideal = idealRate(judge, count);
  let best: State | undefined;
  const isReached = (rate: number): boolean => {
    const state = chainsApart(reachOf(judge.field, kinds, Math.max(1, Math.floor(rate))), count, asked, cost, beam);
    if (state === undefined) return false;
    const isWorse = best !== undefined && !isBetter(judge.worth(state), judge.worth(best));
    if (!isWorse) best = state;
    return judge.worth(state).broken === 0;
  };
  let high = ideal;
  for (const share of LADDER) {
    let low = share * ideal;
    if (!isReached(low)) {
      high = low;
      continue;
    }
    for (let round = 0; round < (asked > FEW ? 1 : 4) && high > low * 1.005; round += 1) {
      const middle = (low + high) / 2;
      if (isReached(middle)) low = middle;
      else high = middle;
    }
    break;
  }
  return best === undefined ? [] : [best];
}

/** The greatest rate at which all sites together have room for so many chains, links and whole chains left aside. */
function idealRate({ field, chainBound }: Judge, count: number): number {
  const wanted = count * field.layerCount;
  const room = (rate: number): number => {
    let layers = 0;
    for (let site = 0; site < field.sites.length && layers < wanted; site += 1) layers += longestAt(field, site, rate);
    return layers;
  };
  let low = 0;
  const fastest = field.rates.reduce((most, rates) => rates.reduce((a, b) => Math.max(a, b), most), 0);
  let high = Math.min(fastest, chainBound);
  for (let round = 0; round < 30 && high - low > 1e-4 * high; round += 1) {
    const middle = (low + high) / 2;
    if (room(middle) >= wanted) low = middle;
    else high = middle;
  }
  return low;
}

/** So many chains that share nothing, then others that cross them up to the number asked for, if they have to be unlike. */
function chainsApart(reach: Reach, count: number, asked: number, cost: ChainCost, beam: Beam): State | undefined {
  const { field } = reach;
  let state = emptyState(field);
  const chains: (readonly number[])[] = [];
  let room = 0;
  for (const site of field.sites.keys()) room += longestAt(field, site, reach.rate);
  for (let chain = 0; chain < count; chain += 1) {
    // What is left does not suffice, however it is put together: chains before this one took more than they needed.
    if (room < (count - chain) * field.layerCount) return undefined;
    const next = withChain(reach, state, cost, false, beam);
    if (next === undefined) return undefined;
    chains.push(next.sites);
    state = next.state;
    for (const site of next.sites) room -= longestAt(field, site, reach.rate);
  }
  for (let chain = count; chain < asked && !field.mayRepeat; chain += 1) {
    const next = withChain(reach, state, cost, true, beam);
    if (next === undefined) break;
    chains.push(next.sites);
    state = next.state;
  }
  return { ...state, chains };
}
