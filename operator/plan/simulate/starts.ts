/**
 * Tilings to begin from, as a person would place them: rows of even stages with the sites dealt out to them, sites of a
 * kind apart from the others, and regions apart.
 */
import type { Holding, Site, TilingProblem } from "../tiling/problem.ts";
import { tile } from "../tiling/tile.ts";

/** For each number of stages: layers cut evenly, each node to the stage that serves least, quickest nodes first. */
export function dealtEvenly(problem: TilingProblem): readonly (readonly Holding[])[] {
  const { layerCount, sites } = problem;
  const longest = Math.max(...sites.map(({ tokensPerSecond }) => tokensPerSecond.length));
  const found: (readonly Holding[])[] = [];
  for (let stageCount = Math.ceil(layerCount / longest); stageCount <= sites.length; stageCount += 1) {
    const holdings = dealt(problem, stageCount);
    if (holdings !== undefined) found.push(holdings);
  }
  return found;
}

function dealt({ layerCount, sites }: TilingProblem, stageCount: number): readonly Holding[] | undefined {
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

const PARTS_MAX = 6;

/** Chains of one kind of site each, and of one region each, found apart: sessions of one wait for none of the others. */
export function partsApart(problem: TilingProblem): readonly (readonly Holding[])[] {
  const keys: readonly ((site: Site) => string)[] = [
    ({ tokensPerSecond }) => tokensPerSecond.join(),
    ({ region }) => region,
    ({ region, tokensPerSecond }) => `${region} ${tokensPerSecond.join()}`,
  ];
  return keys.flatMap((keyOf) => {
    const parts = [...Map.groupBy(problem.sites, keyOf).values()];
    if (parts.length < 2 || parts.length > PARTS_MAX) return [];
    const evaluationCount = Math.ceil(problem.evaluationCount / parts.length);
    const holdings = parts.flatMap((sites) => {
      const tiled = tile({ ...problem, sites, evaluationCount });
      return tiled.ok ? tiled.value.holdings : [];
    });
    return holdings.length === 0 ? [] : [holdings];
  });
}
