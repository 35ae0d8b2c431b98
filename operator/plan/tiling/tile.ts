/**
 * Who holds what: the best tiling that a fixed number of evaluations finds, whatever the order of the sites. Begins
 * from constructed tilings, goes on by annealing, and keeps what stands unless the gain is worth the moving.
 */
import { type Result, ok, refuse } from "../../../core/result.ts";
import { type Field, fieldOf, stateOf } from "./field.ts";
import { type Found, Judge, repeated } from "./judge.ts";
import { mended } from "./mend.ts";
import type { Aim, Holding, Tiling, TilingCode, TilingProblem } from "./problem.ts";
import { search } from "./search.ts";

/** Deterministic, whatever the order of the sites. Refuses with what is missing, in words. */
export function tile(problem: TilingProblem): Result<Tiling, TilingCode> {
  const field = fieldOf(problem);
  if (field.sites.length === 0) return refuse("NoSites", "no node may hold a part of this model");
  const asked = problem.aim.kind === "latency" ? (problem.chainCount ?? 1) : problem.chainCount;
  for (let count = asked; ; count = (count ?? 1) - 1) {
    const found = bestOf({ ...field, problem: { ...problem, chainCount: count } });
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

function bestOf(field: Field): Tiling | undefined {
  const judge = new Judge(field);
  const { standing } = field.problem;
  if (standing === undefined || standing.holdings.length === 0) return tilingOf(judge, search(judge, []));
  const stood = stateOf(field, standing.holdings);
  const isWhole = stood.starts.filter((start) => start >= 0).length === standing.holdings.length;
  const own = field.mayRepeat ? new Judge(asStood(field, standing.holdings)) : judge;
  const kept = mended(own, stood, isWhole);
  const stays = kept && own.tiling(kept);
  const before = stays && repeated(stays, field.problem.chainCount ?? 1);
  if (before !== undefined && standing.gainMin === Number.POSITIVE_INFINITY) return before;
  const after = tilingOf(judge, search(judge, [kept ?? stood]));
  if (before === undefined || after === undefined) return after ?? before;
  return gainOf(field.problem.aim, before, after) > standing.gainMin ? after : before;
}

/** To be mended to as many unlike chains as stood, no more and no fewer: what else would serve is for the search to say. */
function asStood(field: Field, holdings: readonly Holding[]): Field {
  const { chainCount = 1 } = field.problem;
  const ways = new Float64Array(field.layerCount + 1); // from the first layer to each position, whatever is lost by now
  ways[0] = 1;
  for (const { layers } of holdings.toSorted((a, b) => a.layers.start - b.layers.start))
    ways[layers.end] = (ways[layers.end] ?? 0) + (ways[layers.start] ?? 0);
  const stoodCount = Math.max(1, Math.min(chainCount, ways[field.layerCount] ?? 0));
  return { ...field, mayRepeat: false, problem: { ...field.problem, chainCount: stoodCount } };
}

const tilingOf = (judge: Judge, { state, worth }: Found): Tiling | undefined =>
  worth.broken > 0 ? undefined : judge.tiling(state);

/** By what share `after` is better at the aim. */
function gainOf(aim: Aim, before: Tiling, after: Tiling): number {
  const slowest = ({ chains }: Tiling): number => Math.max(...chains.map(({ secondsPerToken }) => secondsPerToken));
  const by = (better: number, than: number): number =>
    than > 0 ? better / than - 1 : better > 0 ? Number.POSITIVE_INFINITY : 0;
  switch (aim.kind) {
    case "throughput":
      return by(after.tokensPerSecond, before.tokensPerSecond);
    case "latency":
      return by(slowest(before), slowest(after));
    case "price":
      return by(before.pricePerHour, after.pricePerHour);
  }
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
