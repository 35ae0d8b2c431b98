/** Tilings to begin from: rows of even stages with the sites dealt out to them, as a person would place them. */
import type { Holding, Site, TilingProblem } from "../tiling/problem.ts";

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
