/**
 * Chains on their way out that lost a node while another revision is rolled out. Until the next revision has served they
 * are all there is, and may have to be for good; so single shards move, to where nothing of it stands in the way.
 */
import { banOf } from "./holders.ts";
import { bytesOn } from "./footprint.ts";
import { rankName } from "./names.ts";
import { repaired } from "./repair.ts";
import { modelOf } from "./revision.ts";
import { type Walk, billedTogether, onRoutes, straysBeside } from "./rolling-room.ts";
import { type Routed, routesOf } from "./routes.ts";
import type { Assignment, Known, Side } from "./types.ts";

/**
 * The sides with the shards of these chains on nodes that there are, as far as such are found beside `target` and each
 * other. Where a person lets plans through, nothing moves that nobody has seen.
 */
export function repairedBeside(
  walk: Walk,
  outgoing: readonly Side[],
  target: Routed,
  lost: readonly number[],
): readonly Side[] {
  if (walk.world.model.planPolicy === "Manual") return outgoing;
  const strays = straysBeside(walk);
  return lost.reduce<readonly Side[]>((sides, chain) => {
    const own = sides.find(({ plan }) => routesOf(plan).some((route) => route.chain === chain));
    if (own === undefined) return sides;
    const others = sides.flatMap((side) => (side === own ? [] : side.plan.assignments));
    const assignments = movedIn(walk, own, chain, [...target.assignments, ...others, ...strays]);
    const mended = { ...own, plan: { ...own.plan, assignments } };
    return sides.map((side) => (side === own ? mended : side));
  }, outgoing);
}

/** The side's ranks with those of one chain moved off nodes that are gone; as they are where there is no other place. */
function movedIn({ world }: Walk, side: Side, chain: number, others: readonly Assignment[]): readonly Assignment[] {
  const { assignments } = side.plan;
  const own = onRoutes(
    routesOf(side.plan).filter((route) => route.chain === chain),
    side,
  );
  const rest = assignments.filter((each) => !own.assignments.includes(each));
  const held = [...others, ...rest];
  const asked = modelOf(world.model, side);
  const { surviveProviders: _, ...placement } = asked.placement; // kept, or not, by all chains together
  const plain = { ...asked, replicas: 1, spares: 0, placement };
  const free = world.nodes.map((node) => ({ ...node, freeBytes: node.freeBytes - bytesOn(node.name, held) }));
  const { model, nodes } = billedTogether(plain, free, held);
  const here = nodes.filter((node) => banOf(model, node) === undefined);
  // Two chains of one revision on a node would halve each other.
  const busy = new Set(rest.map(({ node }) => node));
  const alone: Known = { ...world, model, facts: side.facts, nodes: here.filter(({ name }) => !busy.has(name)) };
  const judged = { model, facts: side.facts, nodes: new Map(here.map((node) => [node.name, node])) };
  const moved = repaired(alone, judged, own)?.assignments ?? [];
  const byName = new Map(moved.map((each) => [rankName(model, each), each]));
  return assignments.map((each) => byName.get(rankName(model, each)) ?? each);
}
