/** Worlds in which a plan stands, for tests of what happens to it: every rank ready, and told of its neighbours. */
import { withLeaving } from "./leaving.ts";
import { plannedModel } from "./model-spec.ts";
import { rankName } from "./names.ts";
import { neighboursIn } from "./neighbours.ts";
import { standingPlanOf } from "./revision.ts";
import type { Action, Known, Plan } from "./types.ts";

/** The world once `decided` has been carried out. */
export function inForce(world: Known, { placement: wanted, revision, leaving, trial }: Plan): Known {
  if (wanted === undefined) throw new Error("no placement");
  const placement = withLeaving(wanted, leaving, trial);
  const neighboursOf = neighboursIn(world.model, placement);
  return {
    ...world,
    ranks: placement.assignments.map((assignment) => ({
      name: rankName(world.model, assignment),
      assignment,
      revision,
      phase: "Ready",
      neighbours: neighboursOf(assignment),
      detail: "",
    })),
    previous: standingPlanOf(revision, placement, plannedModel(world.model, placement)),
    ...(world.draining === undefined ? {} : { unproven: (trial ?? []).map(({ chain }) => chain) }),
    ...(world.draining === undefined
      ? {}
      : { draining: (leaving?.routes ?? []).map(({ chain }) => ({ chain, seconds: 1, isQuiet: false })) }),
  };
}

/** Once a node is gone, with what it held. */
export const without = (world: Known, name: string): Known => ({
  ...world,
  nodes: world.nodes.filter((node) => node.name !== name),
  ranks: world.ranks.map((rank) => (rank.assignment.node === name ? { ...rank, phase: "Lost" } : rank)),
});

/** What touches a rank: all but questions. */
export const isTouched = (action: Action): action is Exclude<Action, { readonly do: "probe" }> => action.do !== "probe";
