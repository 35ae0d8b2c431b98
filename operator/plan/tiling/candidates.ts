/**
 * Unlike answers to one problem, for a judge that sees more than flow (queues, batches, time on links): the best by the
 * aim first, then constructed ones with fewer segments, less time a token, or wider strips.
 */
import { fieldOf } from "./field.ts";
import { Judge } from "./judge.ts";
import type { Tiling, TilingProblem } from "./problem.ts";
import { startsOf } from "./search.ts";
import { tile } from "./tile.ts";

/** At most `most` tilings that keep the rules, no two with the same holdings; empty where `tile` refuses. */
export function candidates(problem: TilingProblem, most = 8): readonly Tiling[] {
  const best = tile(problem);
  if (!best.ok) return [];
  const chainCount = problem.aim.kind === "latency" ? (problem.chainCount ?? 1) : problem.chainCount;
  const judge = new Judge(fieldOf({ ...problem, chainCount }));
  const all = startsOf(judge)
    .filter((state) => judge.worth(state).broken === 0)
    .flatMap((state) => judge.tiling(state) ?? []);
  const seconds = ({ chains }: Tiling): number => Math.max(...chains.map(({ secondsPerToken }) => secondsPerToken));
  const orders: readonly (readonly Tiling[])[] = [
    all.toSorted((a, b) => b.tokensPerSecond - a.tokensPerSecond),
    all.toSorted((a, b) => seconds(a) - seconds(b)),
    all.toSorted((a, b) => a.holdings.length - b.holdings.length || b.tokensPerSecond - a.tokensPerSecond),
  ];
  const kept = new Map([[lookOf(best.value), best.value]]);
  for (let rank = 0; rank < all.length && kept.size < most; rank += 1)
    for (const order of orders) {
      const tiling = order[rank];
      if (tiling !== undefined && kept.size < most) kept.set(lookOf(tiling), kept.get(lookOf(tiling)) ?? tiling);
    }
  return [...kept.values()];
}

/** The same for tilings with the same holdings. */
export const lookOf = ({ holdings }: Tiling): string =>
  holdings.map(({ site, layers }) => `${site} ${layers.start} ${layers.end}`).join("|");
