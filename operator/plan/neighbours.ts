/** Who may connect to a rank besides gateways and the operator. */
import { fullRankName } from "./names.ts";
import { type Routed, adjacentSegments, segmentKey } from "./routes.ts";
import type { Assignment, ModelSpec } from "./types.ts";

/** Its group, and the segments before and after it on any route; full names, in the order of the assignments. */
export function neighboursOf(model: ModelSpec, own: Assignment, routed: Routed): readonly string[] {
  return neighboursIn(model, routed)(own);
}

/** The same for many ranks of one plan. */
export function neighboursIn(model: ModelSpec, routed: Routed): (own: Assignment) => readonly string[] {
  const adjacent = adjacentSegments(routed);
  return (own) => {
    const ownKey = segmentKey(own);
    const near = adjacent.get(ownKey);
    return routed.assignments
      .filter((other) => {
        const key = segmentKey(other);
        return key === ownKey ? other.rank !== own.rank : near?.has(key) === true;
      })
      .map((assignment) => fullRankName(model, assignment));
  };
}
