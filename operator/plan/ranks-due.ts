/** From a plan and the ranks as they are: what is due, and which chains are complete. */
import { rankName } from "./names.ts";
import { neededIn } from "./neighbours.ts";
import { type Routed, ranksOn, routesOf, segmentsOf } from "./routes.ts";
import { isSameShard } from "./touched.ts";
import type { Action, Assignment, ModelSpec, RankState } from "./types.ts";

/** Names are free only once the old rank is gone, so a rank that must change is deleted in one round, made in the next. */
export function ranksDue(
  model: ModelSpec,
  revision: string,
  placement: Routed,
  ranks: readonly RankState[],
): readonly Action[] {
  const wanted = placement.assignments;
  const neededBy = neededIn(model, placement);
  const byName = new Map(ranks.map((rank) => [rank.name, rank]));
  const wantedNames = new Set(wanted.map((assignment) => rankName(model, assignment)));
  const gone = ranks.filter(({ name, phase }) => !wantedNames.has(name) && phase !== "Leaving");
  return [
    ...gone.map(({ name }): Action => ({ do: "delete-rank", name, why: "the plan has no such rank" })),
    ...wanted.flatMap((assignment): readonly Action[] => {
      const name = rankName(model, assignment);
      const rank = byName.get(name);
      if (rank === undefined) return [{ do: "create-rank", name, assignment }];
      if (rank.phase === "Leaving") return [];
      if (rank.phase === "Failed" || rank.phase === "Lost")
        return [{ do: "delete-rank", name, why: `${rank.phase}: ${rank.detail}` }];
      if (rank.revision !== revision)
        return [{ do: "delete-rank", name, why: `runs revision ${rank.revision}, wanted is ${revision}` }];
      if (!isSameShard(rank.assignment, assignment))
        return [{ do: "delete-rank", name, why: "the plan gives it another shard or node" }];
      // Who was let in once may come in still: only a neighbour that it does not know is reason to make it anew.
      const told = rank.neighbours;
      if (told !== undefined && neededBy(assignment).some((neighbour) => !told.includes(neighbour)))
        return [{ do: "delete-rank", name, why: "the plan gives it other neighbours" }];
      return [];
    }),
  ];
}

/** Chains of which every rank on the route is Ready with what the plan gives it. */
export function readyChains(
  model: ModelSpec,
  revision: string,
  placement: Routed,
  ranks: readonly RankState[],
): readonly number[] {
  const byName = new Map(ranks.map((rank) => [rank.name, rank]));
  const isReady = (assignment: Assignment) => {
    const rank = byName.get(rankName(model, assignment));
    return rank?.phase === "Ready" && rank.revision === revision && isSameShard(rank.assignment, assignment);
  };
  const groups = segmentsOf(placement.assignments);
  return routesOf(placement)
    .filter((route) => ranksOn(route, groups).every((group) => group.length > 0 && group.every(isReady)))
    .map(({ chain }) => chain);
}
