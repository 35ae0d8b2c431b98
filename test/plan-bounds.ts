/** What the loss of a node may touch, worked out by trying: the slow twin of how the planner repairs. */
import { RUNTIME_BYTES } from "../operator/plan/footprint.ts";
import { eligible } from "../operator/plan/holders.ts";
import { rankName } from "../operator/plan/names.ts";
import { place } from "../operator/plan/place.ts";
import { keysOf, routesOf, segmentKey, segmentsOf } from "../operator/plan/routes.ts";
import type { Assignment, Known, Placement } from "../operator/plan/types.ts";
import { rulesBroken } from "./plan-rules.ts";

/** `by`: which promise holds; `stays`: names of ranks that it says are left alone. */
export type Bound = { readonly by: "alone" | "chains" | "all"; readonly stays: ReadonlySet<string> };

/** `left`: the world without the node `lost`, in which `before` stands. Spares are promised nothing. */
export function boundOfLoss(left: Known, before: Placement, lost: string, effort: object): Bound {
  const onRoutes = new Set(routesOf(before).flatMap(keysOf));
  const named = (keep: (each: Assignment) => boolean): ReadonlySet<string> =>
    new Set(
      before.assignments
        .filter((each) => onRoutes.has(segmentKey(each)) && keep(each))
        .map((each) => rankName(left.model, each)),
    );
  const lostKeys = new Set(before.assignments.filter(({ node }) => node === lost).map(segmentKey));
  if (oneForOne(left, before, lost)) return { by: "alone", stays: named((each) => !lostKeys.has(segmentKey(each))) };
  const broken = routesOf(before).filter((route) => keysOf(route).some((key) => lostKeys.has(key)));
  if (findRoomApart(left, before, broken.length, lost, effort)) {
    const own = new Set(broken.flatMap(keysOf));
    return { by: "chains", stays: named((each) => !own.has(segmentKey(each))) };
  }
  return { by: "all", stays: new Set() };
}

/** Whether some node that holds nothing can take each lost rank of a chain, one after the other, and all wishes hold. */
function oneForOne(left: Known, before: Placement, lost: string): boolean {
  const onRoutes = new Set(routesOf(before).flatMap(keysOf));
  const used = new Set(before.assignments.map(({ node }) => node));
  const free = eligible(left.model, left.nodes).nodes.filter(({ name }) => !used.has(name));
  let now = before.assignments.filter((each) => each.node !== lost || onRoutes.has(segmentKey(each)));
  now = now.filter((each) => onRoutes.has(segmentKey(each)));
  const missing = now.filter(({ node }) => node === lost);
  if (missing.length !== 1) return false;
  return free.some(({ name, provider, freeBytes, device }) =>
    missing.every((rank) => {
      if (rank.weightBytes + rank.kvBytes + RUNTIME_BYTES > freeBytes) return false;
      if (
        left.model.placement.replacement === "SameDevice" &&
        !devicesNear(left, before, rank).every((d) => d === device)
      )
        return false;
      const assignments = now.map((each) => (each === rank ? { ...each, node: name, provider } : each));
      return rulesBroken(left, { ...before, assignments }).length === 0;
    }),
  );
}

/** Devices of the ranks of its home chain: the lost node told nobody what it was. */
function devicesNear({ nodes }: Known, { assignments }: Placement, rank: Assignment): readonly string[] {
  const near = assignments.filter(({ chain }) => chain === rank.chain).map(({ node }) => node);
  return nodes.filter(({ name }) => near.includes(name)).map(({ device }) => device);
}

/** Whether as many chains as are broken find room on nodes that hold nothing of the others, nor a spare. */
function findRoomApart(left: Known, before: Placement, count: number, lost: string, effort: object): boolean {
  const groups = segmentsOf(before.assignments);
  const isBroken = (keys: readonly string[]) =>
    keys.some((key) => (groups.get(key) ?? []).some(({ node }) => node === lost));
  const broken = new Set(routesOf(before).map(keysOf).filter(isBroken).flat());
  const kept = new Set(
    routesOf(before)
      .map(keysOf)
      .filter((keys) => !isBroken(keys))
      .flat(),
  );
  const taken = before.assignments.filter((each) => kept.has(segmentKey(each)) || !broken.has(segmentKey(each)));
  const nodes = left.nodes.filter(({ name }) => !taken.some(({ node }) => node === name));
  const { slotsByPlanner: _, ...model } = left.model;
  const { slotCount = model.slotCount } = before;
  const placed = place({ ...left, nodes, model: { ...model, slotCount, replicas: count } }, effort);
  if (!placed.ok || count === 0) return false;
  const { surviveProviders, pricePerHourMax, edgeProviders } = model.placement;
  // Wishes about all chains together are judged with all of them: here only plans without such are promised anything.
  return (
    surviveProviders === undefined &&
    pricePerHourMax === undefined &&
    edgeProviders === undefined &&
    model.objective === undefined
  );
}
