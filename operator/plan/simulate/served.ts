/**
 * The tiling that serves most, not the one through which most could flow: a flow knows nothing of latency, queues or
 * slots. Begins from unlike tilings (what the search finds, layers cut evenly, kinds of sites and regions apart),
 * changes each by small moves that a closed form judges, and lets the simulation choose among them. Pure and seeded.
 */
import { type Seeded, seededBy } from "../seeded.ts";
import { candidates, lookOf } from "../tiling/candidates.ts";
import { type State, copyState, fieldOf, stateOf } from "../tiling/field.ts";
import { Judge } from "../tiling/judge.ts";
import { Moves } from "../tiling/moves.ts";
import type { Holding, Tiling, TilingProblem } from "../tiling/problem.ts";
import { expected } from "./expected.ts";
import type { House, Load, Run } from "./house.ts";
import { dealtEvenly, partsApart } from "./starts.ts";
import { simulate } from "./simulate.ts";

export type HouseOf = (tiling: Tiling) => { readonly house: House; readonly load: Load };

/** Counts, as no clock is in here. */
export type Effort = {
  readonly foundCount: number; // tilings of the search to begin from
  readonly evenCount: number; // tilings of even stages to begin from
  readonly moveCount: number; // from each
  readonly finalistCount: number; // that are simulated a second time, for longer
  readonly tokens: number; // of each first simulation
  readonly finalTokens: number;
};

export const EFFORT: Effort = {
  foundCount: 6,
  evenCount: 4,
  moveCount: 400,
  finalistCount: 3,
  tokens: 4000,
  finalTokens: 16_000,
};

type Known = { readonly tiling: Tiling; readonly score: number };

/** Undefined where the search finds no tiling that keeps the rules. */
export function servedBest(problem: TilingProblem, houseOf: HouseOf, effort: Effort = EFFORT): Tiling | undefined {
  const found = candidates(problem, effort.foundCount);
  const [widest] = found;
  if (widest === undefined) return undefined;
  const judge = new Judge(fieldOf(problem));
  const seeded = seededBy(`served ${problem.layerCount} ${judge.field.sites.map(({ name }) => name).join(" ")}`);
  const score = (tiling: Tiling, generatedPerSecond: number): number =>
    worthOf(generatedPerSecond, tiling.tokensPerSecond, widest.tokensPerSecond);
  const guess = (tiling: Tiling): number => {
    const { house, load } = houseOf(tiling);
    return score(tiling, expected(house, load).generatedPerSecond);
  };
  const simulated =
    (tokens: number) =>
    (tiling: Tiling): Known => {
      const { house, load } = houseOf(tiling);
      const run: Run = { seed: "served", warmUpTokens: Math.ceil(tokens / 2), tokens };
      return { tiling, score: score(tiling, simulate(house, load, run).generatedPerSecond) };
    };
  const tilingOf = (holdings: readonly Holding[]): readonly Tiling[] =>
    [judge.tiling(stateOf(judge.field, holdings)) ?? []].flat();
  const even = dealtEvenly(problem).flatMap(tilingOf);
  const starts = [
    ...found,
    ...partsApart(problem).flatMap(tilingOf),
    ...bestOf(
      even.map((tiling) => ({ tiling, score: guess(tiling) })),
      effort.evenCount,
    ),
  ];
  const climbed = starts.map((tiling) =>
    climb(judge, stateOf(judge.field, tiling.holdings), seeded, guess, effort.moveCount),
  );
  const unlike = [...new Map([...starts, ...climbed.flat()].map((tiling) => [lookOf(tiling), tiling])).values()];
  const finalists = bestOf(unlike.map(simulated(effort.tokens)), effort.finalistCount);
  return bestOf(finalists.map(simulated(effort.finalTokens)), 1)[0];
}

/** Of the most that is known to flow, what may be given up for more that is served. */
const FLOW_MIN = 0.82;

/**
 * What is served weighs twice as much as what could flow if there were sessions enough; much less than could flow is
 * not worth it.
 */
const worthOf = (generatedPerSecond: number, flow: number, most: number): number =>
  generatedPerSecond * Math.sqrt(flow) * Math.min(1, flow / (FLOW_MIN * most)) ** 40;

const bestOf = (known: readonly Known[], count: number): readonly Tiling[] =>
  known
    .toSorted((a, b) => b.score - a.score)
    .slice(0, count)
    .map(({ tiling }) => tiling);

/** As shares of the score: what is taken as often as not at first, and at last. */
const HOT = 0.005;
const COLD = 0.0001;

/** The best tiling on the way; empty where the start is none. */
function climb(
  judge: Judge,
  from: State,
  seeded: Seeded,
  scoreOf: (tiling: Tiling) => number,
  moveCount: number,
): readonly Tiling[] {
  const moves = new Moves(judge.field, seeded);
  const state = copyState(from);
  let score = 0;
  let best: Known | undefined;
  for (let done = 0; done < moveCount; done += 1) {
    if (done > 0 && !moves.change(state)) continue;
    const tiling = judge.tiling(state);
    const next = tiling === undefined ? 0 : scoreOf(tiling);
    const heat = HOT * (COLD / HOT) ** (done / moveCount);
    if (tiling === undefined || (next < score && seeded.unit() >= Math.exp((next / score - 1) / heat))) {
      if (done === 0) return [];
      moves.undo(state);
      continue;
    }
    score = next;
    if (best === undefined || score > best.score) best = { tiling, score };
  }
  return best === undefined ? [] : [best.tiling];
}
