/**
 * Who holds what: the best tiling that a fixed number of evaluations finds, whatever the order of the sites. Begins
 * from constructed tilings, goes on by annealing, and keeps what stands unless the gain is worth the moving.
 */
import { type Result, ok, refuse } from "../../../core/result.ts";
import { anneal } from "./anneal.ts";
import { type ChainCost, chainsAt } from "./chain-start.ts";
import { type Field, type State, emptyState, fieldOf, stateOf } from "./field.ts";
import { type Found, Judge, isBetter } from "./judge.ts";
import { type Kinds, kindsOf } from "./kinds.ts";
import type { Holding, Tiling, TilingCode, TilingProblem } from "./problem.ts";
import { seededBy } from "./seeded.ts";

/** Deterministic, whatever the order of the sites. Refuses with what is missing, in words. */
export function tile(problem: TilingProblem): Result<Tiling, TilingCode> {
  const field = fieldOf(problem);
  if (field.sites.length === 0) return refuse("NoSites", "no node may hold a part of this model");
  const asked = problem.aim.kind === "latency" ? (problem.chainCount ?? 1) : problem.chainCount;
  for (let count = asked; ; count = (count ?? 1) - 1) {
    const found = search({ ...field, problem: { ...problem, chainCount: count } });
    if (found !== undefined) return ok(asked === undefined || count === asked ? found : repeated(found, asked));
    if (count === undefined || count <= 1) return refusal(field);
  }
}

/** These holdings as a tiling, with chains and figures; undefined where they make none that keeps the rules. */
export function assess(problem: TilingProblem, holdings: readonly Holding[]): Tiling | undefined {
  const chainCount = problem.aim.kind === "latency" ? (problem.chainCount ?? 1) : problem.chainCount;
  const field = fieldOf({ ...problem, chainCount });
  return new Judge(field).tiling(stateOf(field, holdings));
}

function search(field: Field): Tiling | undefined {
  const judge = new Judge(field);
  const kinds = kindsOf(field);
  const seeded = seededBy(`${field.layerCount} ${field.sites.map(({ name }) => name).join(" ")}`);
  let best: Found | undefined;
  const consider = (found: Found): void => {
    if (best === undefined || isBetter(found.worth, best.worth)) best = found;
  };
  const starts = chainStarts(judge, kinds);
  for (const state of starts) consider({ state, worth: judge.worth(state) });
  const from = best?.state ?? emptyState(field);
  const rounds = 6;
  for (let round = 0; round < rounds; round += 1) {
    const hot = field.problem.aim.kind === "latency" ? 0.1 * Math.max(best?.worth.energy ?? 1, 1e-6) : 0.05;
    const start: State = round % 2 === 0 ? (best?.state ?? from) : from;
    const evaluationCount = Math.floor(field.problem.evaluationCount / rounds);
    consider(anneal(judge, start, seeded, { evaluationCount, hot, cold: hot / 1000 }));
  }
  return best === undefined || best.worth.broken > 0 ? undefined : judge.tiling(best.state);
}

/** The fastest chains that the beam can find, by halving the rate, at the lowest of each cost. */
function chainStarts(judge: Judge, kinds: Kinds): readonly State[] {
  const { field, bound } = judge;
  const { aim, chainCount } = field.problem;
  const count = chainCount ?? 1;
  const states: State[] = [];
  const costs: readonly ChainCost[] = ["seconds", "price", "sites"];
  for (const cost of costs) {
    const loose = chainsAt(field, kinds, count, 1, cost);
    if (loose === undefined) continue;
    states.push(loose);
    if (aim.kind === "latency") continue;
    let [low, high] = [1, bound];
    for (let round = 0; round < 14 && high - low > 1; round += 1) {
      const middle = (low + high) / 2;
      const state = chainsAt(field, kinds, count, middle, cost);
      if (state !== undefined) states.push(state);
      if (state !== undefined) low = middle;
      else high = middle;
    }
  }
  return states;
}

/** The widest chains named again until there are as many as asked for; each shares its flow with its twin. */
function repeated(tiling: Tiling, count: number): Tiling {
  const { chains } = tiling;
  const times = chains.map((_, index) => Math.floor(count / chains.length) + (index < count % chains.length ? 1 : 0));
  return {
    ...tiling,
    chains: chains.flatMap((chain, index) => {
      const twins = times[index] ?? 1;
      return Array.from({ length: twins }, () => ({ ...chain, tokensPerSecond: chain.tokensPerSecond / twins }));
    }),
  };
}

function refusal(field: Field) {
  const { rules, layerCount } = field.problem;
  if (field.providerNames.length < rules.providersMin)
    return refuse(
      "TooFewProviders",
      `a chain must pass ${rules.providersMin} providers, and ${field.providerNames.length} offer nodes that may hold a part`,
    );
  const room = field.longest.reduce((sum, longest) => sum + longest, 0);
  if (room < layerCount)
    return refuse("NotEnoughRoom", `the nodes have room for ${room} of ${layerCount} layers: add nodes or room`);
  return refuse("RulesNotMet", "no chain was found that keeps to all rules and bounds at once");
}
