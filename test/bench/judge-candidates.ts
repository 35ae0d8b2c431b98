/**
 * Placements that are worth a simulation: what the search finds, what it finds where nodes are not left half empty (few
 * long segments instead of many short ones), and rows of even stages with the nodes dealt out to them.
 */
import type { Holding, Site, TilingProblem } from "../../operator/plan/tiling/problem.ts";
import { tile } from "../../operator/plan/tiling/tile.ts";

export type Proposal = { readonly name: string; readonly holdings: readonly Holding[] };

/** Layers that a node must hold, as a share of the most that it can. */
const FULLNESS = [0.5, 0.75, 1] as const;

export function proposals(problem: TilingProblem): readonly Proposal[] {
  const found = [0, ...FULLNESS].flatMap((share) => {
    const tiled = tile(share === 0 ? problem : { ...problem, sites: problem.sites.map((site) => filled(site, share)) });
    const name = share === 0 ? "most flow" : `most flow, nodes ${Math.round(100 * share)} % full`;
    return tiled.ok ? [{ name, holdings: tiled.value.holdings }] : [];
  });
  return [...found, ...evenStages(problem)];
}

/** The site, of no use with fewer layers than a share of what it has room for. */
const filled = (site: Site, share: number): Site => {
  const least = Math.floor(share * site.tokensPerSecond.length);
  return { ...site, tokensPerSecond: site.tokensPerSecond.map((rate, index) => (index + 1 < least ? 0 : rate)) };
};

/** For each number of stages: layers cut evenly, each node to the stage that serves least, quickest nodes first. */
function evenStages(problem: TilingProblem): readonly Proposal[] {
  const { layerCount, sites } = problem;
  const longest = Math.max(...sites.map(({ tokensPerSecond }) => tokensPerSecond.length));
  const found: Proposal[] = [];
  for (let stageCount = Math.ceil(layerCount / longest); stageCount <= sites.length; stageCount += 1) {
    const holdings = dealt(problem, stageCount);
    if (holdings !== undefined) found.push({ name: `${stageCount} even stages`, holdings });
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
