/**
 * The search for the best state of a problem that is indexed and judged already. How much work it does is counted, not
 * timed; where there are many sites an evaluation costs more and tells less, so there are fewer, and what was
 * constructed counts for more.
 */
import { present } from "../../../core/assert.ts";
import { anneal } from "./anneal.ts";
import { apart } from "./apart.ts";
import { type Beam, type ChainCost, chainsAt } from "./chain-start.ts";
import { bestOfEvery } from "./every.ts";
import { type State, emptyState } from "./field.ts";
import { climb, regionalStrips, strips } from "./flow-search.ts";
import { type Found, type Judge, isBetter } from "./judge.ts";
import { type Kinds, kindsOf } from "./kinds.ts";
import { type Seeded, seededBy } from "../seeded.ts";

/** Up to so many sites every evaluation asked for is made. */
const FEW_SITES = 64;
/** Beyond so many, moving one site tells too little for what it costs to judge: the strips stand as they are. */
const CLIMBERS_MAX = 250;
/** States are all tried where there are at most so many for each evaluation asked for: most serve nobody, and are passed. */
const EVERY = 40;
/** Fewer evaluations than these ask whether there is an answer rather than for the best. */
const QUICK = 300;
const BEAM: Beam = { width: 6, kinds: 40, ends: 10 };
const NARROW_BEAM: Beam = { width: 2, kinds: 12, ends: 3 };

/** The best state found, `from` and what it leads to included. */
export function search(judge: Judge, from: readonly State[]): Found {
  const { field } = judge;
  const every = bestOfEvery(judge, EVERY * field.problem.evaluationCount);
  if (every !== undefined) return every;
  const seeded = seededOf(judge);
  const share = shareOf(judge);
  const evaluationCount = Math.floor(field.problem.evaluationCount * Math.sqrt(share));
  const isMostFlow = judge.isFlowOnly && field.problem.aim.kind === "throughput";
  const starts = [...from, ...startsOf(judge)];
  const found = starts
    .map((state): Found => ({ state, worth: judge.worth(state) }))
    .sort((a, b) => (isBetter(a.worth, b.worth) ? -1 : isBetter(b.worth, a.worth) ? 1 : 0));
  if (found.length === 0) found.push({ state: emptyState(field), worth: judge.worth(emptyState(field)) });
  const begun = present(found[0], "a search begins somewhere");
  const climbersMax = judge.isFlowOnly ? CLIMBERS_MAX : FEW_SITES;
  if (field.sites.length > climbersMax && (judge.isFlowOnly || begun.worth.broken === 0)) return begun;
  return isMostFlow && field.problem.rules.pricePerHourMax === undefined
    ? climbFrom(judge, found, seeded, evaluationCount)
    : annealFrom(judge, found, seeded, evaluationCount);
}

const seededOf = ({ field }: Judge): Seeded =>
  seededBy(`${field.layerCount} ${field.sites.map(({ name }) => name).join(" ")}`);

/** Of the work that few sites get. */
const shareOf = ({ field }: Judge): number => Math.min(1, FEW_SITES / field.sites.length) ** 2;

/** States to begin from, constructed: strips where flow is all that counts, and chains by a beam. */
function startsOf(judge: Judge): readonly State[] {
  const { field } = judge;
  const [kinds, seeded, share] = [kindsOf(field), seededOf(judge), shareOf(judge)];
  const isQuick = field.problem.evaluationCount * Math.sqrt(share) < QUICK;
  return [
    ...(judge.isFlowOnly
      ? [...strips(judge, kinds, seeded, share), ...regionalStrips(judge, kinds, seeded, share)]
      : []),
    ...(judge.isFlowOnly && field.sites.length > FEW_SITES ? [] : chainStarts(judge, kinds, isQuick)),
  ];
}

/** At first a state worse by this share of the best is taken as often as not; at the end by a thousandth of that. */
const HOT = 0.05;
const MENDING_HEAT = 2;
const ROUNDS = 6;
/** Steps of arithmetic that an evaluation stands for. */
const WORK = 2500;

function climbFrom(judge: Judge, starts: readonly Found[], seeded: Seeded, evaluationCount: number): Found {
  let best = present(starts[0], "a search begins somewhere");
  for (let round = 0; round < ROUNDS; round += 1) {
    if (-best.worth.energy >= 1 - 1e-9) break;
    const start = round % 2 === 0 ? best : (starts[Math.min(round, starts.length - 1)] ?? best);
    const effort = {
      work: (evaluationCount * WORK) / ROUNDS,
      hot: round % 2 === 0 ? 0.3 : 1.2,
      cold: 0.01,
      step: 0.01,
    };
    const found = climb(judge, start.state, seeded, effort);
    if (isBetter(found.worth, best.worth)) best = found;
  }
  return best;
}

function annealFrom(judge: Judge, starts: readonly Found[], seeded: Seeded, evaluationCount: number): Found {
  const rounds = judge.field.sites.length <= 8 ? 2 * ROUNDS : ROUNDS;
  let best = present(starts[0], "a search begins somewhere");
  for (let round = 0; round < rounds; round += 1) {
    // Where no answer is known yet, energies say nothing: rules are mended on a scale of their own.
    const heat = round % 3 === 1 ? 4 * HOT : HOT;
    const hot = best.worth.broken > 0 ? MENDING_HEAT : heat * Math.max(Math.abs(best.worth.energy), 1e-6);
    const start = round % 2 === 0 ? best : (starts[Math.min(round, starts.length - 1)] ?? best);
    const found = anneal(judge, start.state, seeded, {
      evaluationCount: Math.floor(evaluationCount / rounds),
      hot,
      cold: hot / 1000,
    });
    if (isBetter(found.worth, best.worth)) best = found;
  }
  return best;
}

/** The fastest chains that the beam can find, by halving the rate, at the lowest of each cost. */
function chainStarts(judge: Judge, kinds: Kinds, isQuick: boolean): readonly State[] {
  const { field, chainBound } = judge;
  const { aim, chainCount } = field.problem;
  const isLarge = field.sites.length > FEW_SITES;
  const beam =
    isQuick || isLarge || judge.isFlowOnly || field.sites.length * field.layerCount > 400 ? NARROW_BEAM : BEAM;
  const count = chainCount ?? 1;
  const states: State[] = [];
  const costs: readonly ChainCost[] = isLarge
    ? [aim.kind === "price" ? "price" : "seconds"]
    : ["seconds", "price", "sites"];
  if (isLarge || (count > 1 && !isQuick)) {
    states.push(...apart(judge, kinds, costs[0] ?? "seconds", beam));
    if (isLarge && states.some((state) => judge.worth(state).broken === 0)) return states;
  }
  for (const cost of costs) {
    const loose = chainsAt(field, kinds, count, 1, cost, beam);
    if (loose === undefined) continue;
    states.push(loose);
    if (aim.kind === "latency") continue;
    let [low, high] = [1, chainBound];
    for (let round = 0; round < (isQuick ? 5 : isLarge ? 8 : 12) && high - low > 1; round += 1) {
      const middle = (low + high) / 2;
      const state = chainsAt(field, kinds, count, middle, cost, beam);
      if (state !== undefined) states.push(state);
      if (state !== undefined) low = middle;
      else high = middle;
    }
  }
  return states;
}
