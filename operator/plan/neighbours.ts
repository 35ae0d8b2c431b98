/**
 * Who may connect to a rank besides gateways and the operator. A rank is told at start, and never again; whoever is
 * missing from its list costs it a start anew. So it is told of spares, too: of those that stand, and of the names that
 * later ones will have, since which layers they will be copies of is not known yet.
 */
import { SPARE_CHAIN_FIRST, fullRankName } from "./names.ts";
import { type Routed, adjacentSegments, segmentKey, sparesIn } from "./routes.ts";
import type { Assignment, ModelSpec } from "./types.ts";

/** Names of spares are used again, but only once those that stood in are gone: so many more are known from the start. */
const SPARE_NAMES_MORE = 8;

/** Its group, the segments before and after it on any route, and spares; full names. */
export function neighboursOf(model: ModelSpec, own: Assignment, routed: Routed): readonly string[] {
  return neighboursIn(model, routed)(own);
}

/** The same for many ranks of one plan. */
export function neighboursIn(model: ModelSpec, routed: Routed): (own: Assignment) => readonly string[] {
  const besideOf = besideIn(model, routed);
  const spares = spareNames(model);
  return (own) => {
    const beside = besideOf(own);
    const self = fullRankName(model, own);
    return [...beside, ...spares.filter((name) => name !== self && !beside.includes(name))];
  };
}

/** What a rank must have been told for the plan to work: a rank on a route needs no spare before that stands in. */
export function neededIn(model: ModelSpec, routed: Routed): (own: Assignment) => readonly string[] {
  const spares = sparesIn(routed);
  const kept = new Set(spares);
  const besideSpare = besideIn(model, routed);
  const besideOthers = besideIn(model, {
    ...routed,
    assignments: routed.assignments.filter((each) => !kept.has(each)),
  });
  return (own) => (kept.has(own) ? besideSpare : besideOthers)(own);
}

/** In the order of the assignments. */
function besideIn(model: ModelSpec, routed: Routed): (own: Assignment) => readonly string[] {
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

function spareNames(model: ModelSpec): readonly string[] {
  const { spares = 0 } = model;
  return Array.from({ length: spares + SPARE_NAMES_MORE }, (_, index) =>
    fullRankName(model, { chain: SPARE_CHAIN_FIRST + index, segment: 0, rank: 0 }),
  );
}
