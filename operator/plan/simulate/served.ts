/**
 * The tiling that serves most, not the one through which most could flow: a flow knows nothing of latency, queues or
 * slots. Begins from unlike tilings (what the search finds, layers cut evenly, kinds of sites and regions apart, few long
 * chains), changes the best of them by small moves that a closed form judges, and lets the simulation choose among what
 * comes of it. Pure and seeded.
 */
import { type Seeded, seededBy } from "../seeded.ts";
import { type State, copyState, fieldOf, stateOf } from "../tiling/field.ts";
import { Judge } from "../tiling/judge.ts";
import { Moves } from "../tiling/moves.ts";
import type { Holding, Tiling, TilingProblem } from "../tiling/problem.ts";
import { tile } from "../tiling/tile.ts";
import { Ways, expected } from "./expected.ts";
import type { House, Load, Run } from "./house.ts";
import { dealtEvenly, longChains, partsApart, quickApart } from "./starts.ts";
import { simulate } from "./simulate.ts";

export type HouseOf = (tiling: Tiling) => { readonly house: House; readonly load: Load };

/** Counts, as no clock is in here. */
export type Effort = {
  readonly climbCount: number; // tilings that are changed by moves
  readonly moveCount: number; // of each
  readonly finalistCount: number; // that are simulated a second time, for longer
  readonly tokens: number; // of each first simulation
  readonly finalTokens: number;
};

export const EFFORT: Effort = {
  climbCount: 5,
  moveCount: 800,
  finalistCount: 2,
  tokens: 2000,
  finalTokens: 12_000,
};

type Known = { readonly tiling: Tiling; readonly score: number };

/** Undefined where the search finds no tiling that keeps the rules. */
export function servedBest(problem: TilingProblem, houseOf: HouseOf, effort: Effort = EFFORT): Tiling | undefined {
  const found = tile(problem);
  if (!found.ok) return undefined;
  const widest = found.value;
  const judge = new Judge(fieldOf(problem));
  const tilingsOf = (all: readonly (readonly Holding[])[]): readonly Tiling[] =>
    all.flatMap((holdings) => judge.tiling(stateOf(judge.field, holdings)) ?? []);
  const families = [
    [widest],
    ...[partsApart, quickApart, longChains, dealtEvenly].map((make) => tilingsOf(make(problem))),
  ];
  const [, apart = [], quick = []] = families;
  const flowMin = Math.max(
    FLOW_MIN * widest.tokensPerSecond,
    ...[...apart, ...quick.slice(0, 1)].map(({ tokensPerSecond }) => tokensPerSecond),
  );
  const starts = unlike(families.flat());
  const worth = new Worth(houseOf, flowMin, starts);
  const guessed = (tiling: Tiling): number => worth.guessed(tiling);
  const seeded = seededBy(`served ${problem.layerCount} ${judge.field.sites.map(({ name }) => name).join(" ")}`);
  // The best of each family first: those of one family are often nearly the same.
  const firsts = families.flatMap((family) => bestOf(family, 1, guessed));
  const begun = unlike([...bestOf(firsts, effort.climbCount, guessed), ...bestOf(starts, effort.climbCount, guessed)]);
  const climbed = begun
    .slice(0, effort.climbCount)
    .flatMap((tiling) => climb(judge, stateOf(judge.field, tiling.holdings), seeded, guessed, effort.moveCount));
  const wide = unlike([...begun, ...climbed]).filter(({ tokensPerSecond }) => tokensPerSecond >= flowMin);
  const most = Math.max(0, ...wide.map(guessed));
  const likely = wide.filter((tiling) => guessed(tiling) >= LIKELY * most);
  const first = bestOf(likely, effort.finalistCount, (tiling) => worth.judged(tiling, effort.tokens));
  return bestOf(first, 1, (tiling) => worth.judged(tiling, effort.finalTokens))[0] ?? widest;
}

/** Of the best guess, what is worth a simulation. */
const LIKELY = 0.9;

const unlike = (tilings: readonly Tiling[]): readonly Tiling[] => [
  ...new Map(tilings.map((tiling) => [lookOf(tiling), tiling])).values(),
];

/** The same for tilings with the same holdings. */
const lookOf = ({ holdings }: Tiling): string =>
  holdings.map(({ site, layers }) => `${site} ${layers.start} ${layers.end}`).join("|");

function bestOf(tilings: readonly Tiling[], count: number, scoreOf: (tiling: Tiling) => number): readonly Tiling[] {
  return tilings
    .map((tiling): Known => ({ tiling, score: scoreOf(tiling) }))
    .toSorted((a, b) => b.score - a.score)
    .slice(0, count)
    .map(({ tiling }) => tiling);
}

/**
 * Of the most that is known to flow, what must be left where more is served; and never less than flows where sites are
 * simply kept apart, by kind, by region, or the quickest from the rest.
 */
const FLOW_MIN = 0.82;
/** How steeply less than that counts for less: a climb that begins below finds its way up. */
const SHORT = 200;
/** Of what the best start serves at full load: a load that all can bear, at which times are compared. */
const EASY_SHARE = 0.5;

type Under = { readonly house: House; readonly load: Load; readonly ways: Ways };

/**
 * What is served at full load weighs most; what could flow if there were sessions enough, and how soon a token comes
 * while there are few, weigh so much beside it: ten percent more flow make good four percent less served.
 */
const FLOW_POWER = 0.4;
const TIME_POWER = 0.2;

class Worth {
  readonly #houseOf: HouseOf;
  readonly #flowMin: number;
  readonly #easyPerSecond: number;

  constructor(houseOf: HouseOf, flowMin: number, starts: readonly Tiling[]) {
    this.#houseOf = houseOf;
    this.#flowMin = flowMin;
    const served = starts.map((tiling) => {
      const { house, load, ways } = this.#under(tiling);
      return expected(house, load, ways).generatedPerSecond;
    });
    this.#easyPerSecond = EASY_SHARE * Math.max(...served);
  }

  guessed(tiling: Tiling): number {
    const under = this.#under(tiling);
    return this.#of(tiling, under, expected(under.house, under.load, under.ways).generatedPerSecond);
  }

  /** Simulated and guessed, in equal parts: a short run is off by a twentieth by chance, the closed form by its form. */
  judged(tiling: Tiling, tokens: number): number {
    const under = this.#under(tiling);
    const run: Run = { seed: "served", warmUpTokens: Math.ceil(tokens / 2), tokens };
    const simulated = this.#of(tiling, under, simulate(under.house, under.load, run).generatedPerSecond);
    return Math.sqrt(simulated * this.guessed(tiling));
  }

  #under(tiling: Tiling): Under {
    const { house, load } = this.#houseOf(tiling);
    return { house, load, ways: new Ways(house, load) };
  }

  #of(tiling: Tiling, { house, load, ways }: Under, generatedPerSecond: number): number {
    const { promptTokens, generatedTokens, spread } = load;
    const sessionsPerSecond = this.#easyPerSecond / generatedTokens;
    const easy: Load = { kind: "open", sessionsPerSecond, promptTokens, generatedTokens, spread };
    const { secondsPerToken } = expected(house, easy, ways);
    const flow = tiling.tokensPerSecond;
    const short = Math.min(1, flow / this.#flowMin) ** SHORT;
    return (generatedPerSecond * flow ** FLOW_POWER * short) / secondsPerToken ** TIME_POWER;
  }
}

/** As shares of the score: what is taken as often as not at first, and at last. */
const HOT = 0.015;
const COLD = 0.0005;

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
