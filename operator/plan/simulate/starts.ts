/**
 * Tilings to begin from, as a person would place them: rows of even stages with the sites dealt out to them, sites of a
 * kind apart from the others, regions apart, and a few long chains.
 */
import type { Holding, Site, TilingProblem } from "../tiling/problem.ts";
import { tile } from "../tiling/tile.ts";

type Holdings = readonly Holding[];

/** For each number of stages: layers cut evenly, each node to the stage that serves least, quickest nodes first. */
export function dealtEvenly(problem: TilingProblem): readonly Holdings[] {
  const { layerCount, sites } = problem;
  const longest = Math.max(...sites.map(({ tokensPerSecond }) => tokensPerSecond.length));
  const found: Holdings[] = [];
  for (let stageCount = Math.ceil(layerCount / longest); stageCount <= sites.length; stageCount += 1) {
    const holdings = dealt(problem, stageCount);
    if (holdings !== undefined) found.push(holdings);
  }
  return found;
}

function dealt({ layerCount, sites }: TilingProblem, stageCount: number): Holdings | undefined {
  const borders = Array.from({ length: stageCount + 1 }, (_, stage) => Math.round((stage * layerCount) / stageCount));
  const stages = borders.slice(1).map((end, stage) => ({ start: borders[stage] ?? 0, end, rate: 0 }));
  const longest = Math.max(...stages.map(({ start, end }) => end - start));
  const rateAt = (site: Site, length: number): number => site.tokensPerSecond[length - 1] ?? 0;
  const quickest = sites
    .filter((site) => rateAt(site, longest) > 0)
    .toSorted((a, b) => rateAt(b, longest) - rateAt(a, longest) || (a.name < b.name ? -1 : 1));
  const holdings = quickest.map((site): Holding => {
    const stage = stages.reduce((least, other) => (other.rate < least.rate ? other : least));
    stage.rate += rateAt(site, stage.end - stage.start);
    return { site: site.name, layers: { start: stage.start, end: stage.end } };
  });
  return stages.every(({ rate }) => rate > 0) ? holdings : undefined;
}

/** Each part of the sites is searched for itself: this many evaluations, shared out. */
const PARTS_EVALUATIONS = 3000;
const PARTS_MAX = 6;

/** Chains of one kind of site each, of one region each, or both: sessions of one wait for none of the others. */
export function partsApart(problem: TilingProblem): readonly Holdings[] {
  const keys: readonly ((site: Site) => string)[] = [
    kindOf,
    ({ region }) => region,
    (site) => `${site.region} ${kindOf(site)}`,
  ];
  return keys.flatMap((keyOf) => apart(problem, [...Map.groupBy(problem.sites, keyOf).values()]));
}

/** The quickest kind of site apart from all the others, then the quickest two, and so on. */
export function quickApart(problem: TilingProblem): readonly Holdings[] {
  const quickness = (sites: readonly Site[]): number => sites[0]?.tokensPerSecond[0] ?? 0;
  const kinds = [...Map.groupBy(problem.sites, kindOf).values()].sort((a, b) => quickness(b) - quickness(a));
  if (kinds.length > PARTS_MAX + 1) return [];
  return kinds
    .slice(1)
    .flatMap((_, index) => apart(problem, [kinds.slice(0, index + 1).flat(), kinds.slice(index + 1).flat()]));
}

const kindOf = ({ tokensPerSecond }: Site): string => tokensPerSecond.join();

function apart(problem: TilingProblem, parts: readonly (readonly Site[])[]): readonly Holdings[] {
  if (parts.length < 2 || parts.length > PARTS_MAX) return [];
  const evaluationCount = Math.ceil(Math.min(PARTS_EVALUATIONS, problem.evaluationCount) / parts.length);
  const holdings = parts.flatMap((sites) => {
    const tiled = tile({ ...problem, sites, evaluationCount });
    return tiled.ok ? tiled.value.holdings : [];
  });
  return holdings.length === 0 ? [] : [holdings];
}

const LONG_CHAINS_MAX = 4;
/** Enough to construct them; what they are worth is judged elsewhere. */
const LONG_CHAINS_EVALUATIONS = 50;

/** One long chain, two, and so on, that share little: few ways over thin links. */
export function longChains(problem: TilingProblem): readonly Holdings[] {
  return Array.from({ length: LONG_CHAINS_MAX }, (_, index) => index + 1).flatMap((chainCount) => {
    const tiled = tile({ ...problem, chainCount, evaluationCount: LONG_CHAINS_EVALUATIONS });
    return tiled.ok ? [tiled.value.holdings] : [];
  });
}
