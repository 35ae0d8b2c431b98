/** The search beside the exact solver on random small worlds. */
import type { Tiling, TilingProblem } from "../../operator/plan/tiling/problem.ts";
import { tile } from "../../operator/plan/tiling/tile.ts";
import type { Exact } from "./plan-exact.ts";
import { UNLIKE_WORTH } from "../../operator/plan/tiling/chains.ts";
import { AIMS, type AimName, aSmallWorld } from "./plan-worlds.ts";

export type Compared = {
  readonly aim: AimName;
  readonly seed: number;
  readonly worse: number; // share by which ours is worse than the optimum; 1 where only the solver has an answer
  readonly isPossible: boolean;
};

const EVALUATIONS = 4000;

export function compareOn(exact: Exact, aim: AimName, seed: number): Compared {
  const problem = aSmallWorld(seed, aim, EVALUATIONS);
  const found = tile(problem);
  let best: number | undefined;
  let possibleCount = problem.chainCount;
  // Where there are fewer chains than asked for, fewer are made: so the solver is asked for fewer as well.
  for (; ; possibleCount = (possibleCount ?? 1) - 1) {
    best = exact({ ...problem, chainCount: possibleCount });
    if (best !== undefined || possibleCount === undefined || possibleCount <= 1) break;
  }
  // Asked for any number of chains, the solver may answer with none, which carry nothing.
  if (best === undefined || (problem.aim.kind === "throughput" && best <= 0)) {
    if (found.ok)
      throw new Error(`${aim} ${seed}: the solver finds no answer, the search says ${JSON.stringify(found)}`);
    return { aim, seed, worse: 0, isPossible: false };
  }
  if (found.ok && problem.tokensInFlightMax !== undefined && problem.aim.kind === "throughput")
    return { aim, seed, worse: sessionsLack(exact, problem, found.value), isPossible: true };
  // Fewer chains than there could be is no answer to what was asked, however much they carry.
  if (!found.ok || distinctCount(found.value) < (possibleCount ?? 0)) return { aim, seed, worse: 1, isPossible: true };
  const worse = lack(problem, found.value, best);
  if (worse < -1e-4) throw new Error(`${aim} ${seed}: the search claims better than the optimum by ${-worse}`);
  return { aim, seed, worse: Math.max(0, worse), isPossible: true };
}

/** Chains that are named again beyond the number there are count once. */
const distinctCount = ({ chains }: Tiling): number => new Set(chains.map(({ holdings }) => holdings.join())).size;

/** Of the best of every number of chains, where those that are missing cost as much as the search says. */
function sessionsLack(exact: Exact, problem: TilingProblem, ours: Tiling): number {
  const { chainCount = 1 } = problem;
  const worth = (tokensPerSecond: number, count: number): number =>
    tokensPerSecond * (1 - (UNLIKE_WORTH * (chainCount - count)) / chainCount);
  const counts = Array.from({ length: chainCount }, (_, index) => index + 1);
  const best = counts.map((count) => worth(exact({ ...problem, chainCount: count }) ?? 0, count));
  const worse = 1 - worth(ours.tokensPerSecond, distinctCount(ours)) / Math.max(...best);
  if (worse < -1e-4) throw new Error(`the search claims better than the optimum by ${-worse}: ${JSON.stringify(ours)}`);
  return Math.max(0, worse);
}

function lack(problem: TilingProblem, ours: Tiling, best: number): number {
  const figure = figureOf(problem, ours);
  return problem.aim.kind === "throughput" ? 1 - figure / best : figure / best - 1;
}

function figureOf({ aim }: TilingProblem, ours: Tiling): number {
  switch (aim.kind) {
    case "throughput":
      return ours.tokensPerSecond;
    case "latency":
      return Math.max(...ours.chains.map(({ secondsPerToken }) => secondsPerToken));
    case "price":
      return ours.pricePerHour;
  }
}

/** So many seeds from `firstSeed` on, each under every aim, or under `aimCount` of them in turn. */
export function compareAll(
  exact: Exact,
  worldCount: number,
  firstSeed = 0,
  aimCount: number = AIMS.length,
): readonly Compared[] {
  const seeds = Array.from({ length: worldCount }, (_, index) => firstSeed + index);
  const isAsked = (seed: number, aim: number): boolean => (aim + seed) % AIMS.length < aimCount;
  return seeds.flatMap((seed) => AIMS.filter((_, aim) => isAsked(seed, aim)).map((aim) => compareOn(exact, aim, seed)));
}

export const isOptimal = ({ worse }: Compared): boolean => worse <= 1e-4;
