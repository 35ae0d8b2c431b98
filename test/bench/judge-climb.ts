/**
 * A placement made better at what is served, by small changes that are simulated one by one: two nodes change places, one
 * goes where another is, a border between stages moves by a layer. Seeded: the same case gives the same placement.
 */
import { seededBy } from "../../operator/plan/seeded.ts";
import type { Holding, TilingProblem } from "../../operator/plan/tiling/problem.ts";

/** Moves that are thought of for each that is possible. */
const TRIES = 20;

type Served = (holdings: readonly Holding[]) => number;

export function climbed(
  problem: TilingProblem,
  start: readonly Holding[],
  served: Served,
  evaluationCount: number,
): readonly Holding[] {
  const random = seededBy("climb");
  const rates = new Map(problem.sites.map(({ name, tokensPerSecond }) => [name, tokensPerSecond]));
  const fits = ({ site, layers }: Holding): boolean => (rates.get(site)?.[layers.end - layers.start - 1] ?? 0) > 0;
  let best = start;
  let most = served(start);
  for (let tried = 0, count = 0; count < evaluationCount && tried < TRIES * evaluationCount; tried += 1) {
    const moved = [swapped, joined, shifted][random.below(3)]?.(best, random.below);
    if (moved === undefined || !moved.every(fits)) continue;
    count += 1;
    const now = served(moved);
    if (now <= most) continue;
    best = moved;
    most = now;
  }
  return best;
}

type Below = (count: number) => number;

function swapped(holdings: readonly Holding[], below: Below): readonly Holding[] {
  const [one, other] = [below(holdings.length), below(holdings.length)];
  return holdings.map((holding, index) => {
    const from = index === one ? holdings[other] : index === other ? holdings[one] : undefined;
    return from === undefined ? holding : { site: holding.site, layers: from.layers };
  });
}

function joined(holdings: readonly Holding[], below: Below): readonly Holding[] {
  const [one, other] = [below(holdings.length), holdings[below(holdings.length)]];
  if (other === undefined) return holdings;
  return holdings.map((holding, index) => (index === one ? { site: holding.site, layers: other.layers } : holding));
}

function shifted(holdings: readonly Holding[], below: Below): readonly Holding[] | undefined {
  const borders = [...new Set(holdings.map(({ layers }) => layers.start))].filter((at) => at > 0);
  const border = borders[below(Math.max(1, borders.length))];
  if (border === undefined) return undefined;
  const to = border + (below(2) === 0 ? -1 : 1);
  const moved = holdings.map(({ site, layers: { start, end } }) => ({
    site,
    layers: { start: start === border ? to : start, end: end === border ? to : end },
  }));
  return moved.every(({ layers }) => layers.start < layers.end) ? moved : undefined;
}
