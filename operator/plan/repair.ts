/** Nodes are gone: who takes their shards, so that nothing else moves? First what is kept loaded, then single shards. */
import { SPARE_CHAIN_FIRST, rankName } from "./names.ts";
import { bytesOfRank, bytesOn } from "./footprint.ts";
import { eligible, paceOf } from "./holders.ts";
import { type Standing, keysOf, segmentKey, segmentsOf, sparesIn } from "./routes.ts";
import { type Judged, brokenWishes } from "./soundness.ts";
import type { Assignment, Known, NodeFacts, Route } from "./types.ts";

export type Repaired = {
  readonly assignments: readonly Assignment[];
  readonly routes: readonly Route[];
  readonly moved: readonly string[];
};

/** Undefined where a shard has nowhere to go. At most the ranks on nodes that `judged` does not know move. */
export function repaired(world: Known, judged: Judged, { assignments, routes }: Standing): Repaired | undefined {
  let now = { assignments, routes };
  const moved: string[] = [];
  const isLost = ({ node }: Assignment) => !judged.nodes.has(node);
  // Spares first: one whose node is gone can stand in for nobody.
  const gone = new Set(sparesIn(now).filter(isLost).map(segmentKey));
  now = { ...now, assignments: now.assignments.filter((assignment) => !gone.has(segmentKey(assignment))) };
  for (const [key, group] of segmentsOf(now.assignments)) {
    if (!group.some(isLost)) continue;
    const swapped = bySpare(judged, now, key, group);
    if (swapped !== undefined) {
      moved.push(`${rankName(world.model, swapped.spare)} stands in for ${group.map((each) => each.node).join("+")}`);
      now = swapped.routed;
      continue;
    }
    for (const lost of group.filter(isLost)) {
      const replacement = replacementFor(world, judged, lost, now);
      if (replacement === undefined) return undefined;
      now = { ...now, assignments: now.assignments.map((each) => (each === lost ? replacement : each)) };
      moved.push(`${rankName(world.model, lost)} from ${lost.node} to ${replacement.node}`);
    }
  }
  return { ...now, moved };
}

/** A loaded copy of the same layers is put on the routes in the segment's place; the rest of its group goes. */
function bySpare(
  judged: Judged,
  now: Standing,
  key: string,
  group: readonly Assignment[],
): { readonly routed: Standing; readonly spare: Assignment } | undefined {
  const [leader] = group;
  if (leader === undefined) return undefined;
  const alike = sparesIn(now).filter(
    ({ layers, node, sliceWeights, chain }) =>
      chain >= SPARE_CHAIN_FIRST &&
      sliceWeights.length === 1 &&
      layers.start === leader.layers.start &&
      layers.end === leader.layers.end &&
      judged.nodes.has(node),
  );
  for (const spare of alike) {
    const place = { chain: spare.chain, segment: spare.segment };
    const routes = now.routes.map((route) => ({
      ...route,
      segments: route.segments.map((each) => (segmentKey(each) === key ? place : each)),
    }));
    const assignments = now.assignments.filter((assignment) => segmentKey(assignment) !== key);
    // Other segments may be lost still; only what the spare itself breaks counts.
    if (newlyBroken(judged, now, { assignments, routes }).length === 0)
      return { routed: { assignments, routes }, spare };
  }
  return undefined;
}

function newlyBroken(judged: Judged, before: Standing, after: Standing): readonly string[] {
  const known = new Set(brokenWishes(judged, before));
  return brokenWishes(judged, after).filter((each) => !known.has(each));
}

/**
 * The same shard on another node that may serve the model, has the room and serves no chain yet (two ranks on one node
 * would halve each other): on the same kind of device first, then the quickest; of the same provider where the segment is tensor parallel (its ranks must stay
 * close). Undefined where there is none.
 */
function replacementFor(world: Known, judged: Judged, lost: Assignment, now: Standing): Assignment | undefined {
  const { model } = world;
  const others = now.assignments.filter((assignment) => assignment !== lost && judged.nodes.has(assignment.node));
  const onRoute = new Set(now.routes.flatMap(keysOf));
  const serving = new Set(others.filter((each) => onRoute.has(segmentKey(each))).map(({ node }) => node));
  const groupMustStay = lost.sliceWeights.length > 1 && !model.placement.tensorParallelAcrossProviders;
  const device = deviceNear(judged, lost, now);
  const isKin = (node: NodeFacts) => device === undefined || node.device === device;
  const candidates = eligible(model, world.nodes)
    .nodes.filter(({ name }) => !serving.has(name))
    .filter((node) => !groupMustStay || node.provider === lost.provider)
    .filter((node) => model.placement.replacement !== "SameDevice" || isKin(node))
    .filter((node) => bytesOn(node.name, others) + bytesOfRank(lost) <= node.freeBytes)
    .sort((a, b) => Number(isKin(b)) - Number(isKin(a)) || paceOf(b) - paceOf(a) || (a.name < b.name ? -1 : 1));
  for (const node of candidates) {
    const replacement = { ...lost, node: node.name, provider: node.provider };
    const assignments = now.assignments.map((each) => (each === lost ? replacement : each));
    if (newlyBroken(judged, now, { ...now, assignments }).length === 0) return replacement;
  }
  return undefined;
}

/** The lost node told nobody what it was; its chain's other nodes are of its kind more often than not. */
function deviceNear({ nodes }: Judged, lost: Assignment, { assignments }: Standing): string | undefined {
  const devices = assignments
    .filter(({ chain }) => chain === lost.chain)
    .flatMap(({ node }) => nodes.get(node)?.device ?? []);
  const [first] = devices;
  return devices.every((device) => device === first) ? first : undefined;
}
