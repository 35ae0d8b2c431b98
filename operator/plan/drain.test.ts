/** Nodes that are to be emptied: what they hold is loaded elsewhere first, and nothing else is touched. */
import { expect } from "chai";
import { aModel, aNode, aWorld, roomForLayers } from "./builders.ts";
import { rankName } from "./names.ts";
import { plan } from "./plan.ts";
import { inForce, isTouched } from "./standing-world.ts";
import type { Known, NodeFacts, Plan } from "./types.ts";

const room = { freeBytes: roomForLayers(6) };
const node = (name: string) => aNode(name, room);
const standing = (names: readonly string[]): Known => {
  const fresh = aWorld(names.map(node), aModel());
  return inForce(fresh, plan(fresh));
};
const touched = (decided: Plan) => decided.actions.flatMap((action) => (isTouched(action) ? [action] : []));
const nodesIn = ({ placement }: Plan) => placement?.assignments.map((each) => each.node) ?? [];
const leave = (world: Known, name: string, leaving: NonNullable<NodeFacts["leaving"]>): Known => ({
  ...world,
  nodes: world.nodes.map((each) => (each.name === name ? { ...each, ready: false, leaving } : each)),
});
const joined = (world: Known): Known => ({ ...world, nodes: [...world.nodes, node("c")] });
const ofNode = (world: Known, name: string) => {
  const assignment = world.previous?.assignments.find((each) => each.node === name);
  if (assignment === undefined) throw new Error(`${name} holds nothing`);
  return rankName(world.model, assignment);
};

describe("a node that is drained", () => {
  const before = leave(joined(standing(["a", "b"])), "a", "Drained");

  it("keeps what it holds until that is loaded elsewhere; then that rank alone goes", () => {
    const loading = plan(before);
    expect(touched(loading).map((action) => action.do)).to.deep.equal(["create-rank"]);
    expect(nodesIn(loading)).to.have.members(["a", "b", "c"]);
    expect(loading.placement?.routes).to.have.length(1);
    const starting = inForce(before, loading);
    const stillLoading = {
      ...starting,
      ranks: starting.ranks.map((rank) =>
        rank.assignment.node === "c" ? { ...rank, phase: "Starting" as const } : rank,
      ),
    };
    expect(touched(plan(stillLoading)), "the copy is not ready").to.deep.equal([]);
    const moved = plan(starting);
    expect(touched(moved).map((action) => [action.do, action.name])).to.deep.equal([
      ["delete-rank", ofNode(before, "a")],
    ]);
    expect(nodesIn(moved)).to.have.members(["b", "c"]);
    expect(moved.conditions[0]?.message).to.contain("node a: it is drained, and what it held is loaded elsewhere");
    expect(touched(plan(inForce(before, moved))), "and it rests").to.deep.equal([]);
  });

  it("keeps what it holds where nobody else has the room", () => {
    const full = leave(standing(["a", "b"]), "a", "Drained");
    expect(touched(plan(full))).to.deep.equal([]);
    expect(nodesIn(plan(full))).to.have.members(["a", "b"]);
  });
});

describe("a node that is cordoned", () => {
  const before = leave(joined(standing(["a", "b"])), "a", "Cordoned");

  it("keeps what it holds, and gets nothing new", () => {
    expect(touched(plan(before))).to.deep.equal([]);
    const fresh = aWorld([node("a"), node("b"), node("c")]);
    expect(nodesIn(plan(leave(fresh, "a", "Cordoned")))).to.have.members(["b", "c"]);
  });

  for (const phase of ["Leaving", undefined] as const)
    it(`is left by what was evicted from it (${phase ?? "gone"}), and by that alone`, () => {
      const evicted: Known = {
        ...before,
        ranks: before.ranks.flatMap((rank) =>
          rank.assignment.node !== "a" ? [rank] : phase === undefined ? [] : [{ ...rank, phase }],
        ),
      };
      const decided = plan(evicted);
      expect(nodesIn(decided)).to.have.members(["b", "c"]);
      expect(touched(decided).every((action) => action.name === ofNode(before, "a"))).to.equal(true);
    });
});
