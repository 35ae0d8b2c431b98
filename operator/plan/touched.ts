/** What a change of plan costs: the ranks that end or are made anew by it. */
import { rankName } from "./names.ts";
import { neededIn, neighboursIn } from "./neighbours.ts";
import type { Routed } from "./routes.ts";
import type { Assignment, Known } from "./types.ts";

/** Whether what one rank was told to hold is what the other is. */
export const isSameShard = (a: Assignment, b: Assignment): boolean =>
  a.node === b.node &&
  a.layers.start === b.layers.start &&
  a.layers.end === b.layers.end &&
  a.sliceWeights.join() === b.sliceWeights.join();

/** Ranks of `before` that `after` does not have as they were: gone, with another shard, or in need of new neighbours. */
export function touchedBy(
  { model, ranks }: Pick<Known, "model" | "ranks">,
  before: Routed,
  after: Routed,
): readonly Assignment[] {
  const [toldOf, neededBy] = [neighboursIn(model, before), neededIn(model, after)];
  const now = new Map(after.assignments.map((each) => [rankName(model, each), each]));
  const standing = new Map(ranks.map((rank) => [rank.name, rank]));
  return before.assignments.filter((each) => {
    const name = rankName(model, each);
    const next = now.get(name);
    if (next === undefined || !isSameShard(each, next)) return true;
    // Who was let in once may come in still.
    const told = new Set(standing.get(name)?.neighbours ?? toldOf(each));
    return neededBy(next).some((neighbour) => !told.has(neighbour));
  });
}
