/** What any plan keeps, on thousands of random worlds: the unit tests look at a few dozen of them. */
import { expect } from "chai";
import fc from "fast-check";
import { present } from "../core/assert.ts";
import { eligible } from "../operator/plan/holders.ts";
import { plan, standingPlanOf } from "../operator/plan/plan.ts";
import { place } from "../operator/plan/place.ts";
import { nodeOf, someNode, someWorld, worldOf } from "../operator/plan/some-world.ts";
import { brokenWishes, overfullNode } from "../operator/plan/soundness.ts";
import type { Assignment, World } from "../operator/plan/types.ts";

/** Few, so that many worlds can be looked at: what holds does not depend on how long the search was. */
const EFFORT = { evaluationCount: 30, remedyPlanCountMax: 0 };
type Known = ReturnType<typeof worldOf>;

describe("plans of random worlds", function () {
  this.timeout(300_000);

  it("cover every layer of every chain once, within memory and every wish, on nodes that may take part", () => {
    let placedCount = 0;
    const look = (world: Known) => {
      const placed = place(world, EFFORT);
      if (!placed.ok) return;
      placedCount += 1;
      soundIn(world, placed.value);
      const may = new Set(eligible(world.model, world.nodes).nodes.map(({ name }) => name));
      expect(placed.value.assignments.filter(({ node }) => !may.has(node))).to.deep.equal([]);
      expect(place({ ...world, nodes: [...world.nodes].reverse() }, EFFORT)).to.deep.equal(placed);
    };
    fc.assert(
      fc.property(someWorld, (drawn) => look(worldOf(drawn))),
      { numRuns: 2_000, seed: 11 },
    );
    expect(placedCount).to.be.above(500);
  });

  it("stay sound, and are worth no less, when a node joins", () => {
    fc.assert(
      fc.property(someWorld, someNode, (drawn, joining) => {
        const world = worldOf(drawn);
        const before = plan(world, EFFORT);
        fc.pre(before.placement !== undefined);
        const joined = { ...inForce(world, before), nodes: [...world.nodes, nodeOf(joining, world.nodes.length)] };
        const after = plan(joined, EFFORT);
        const placement = present(after.placement, "what stands can stay");
        soundIn(joined, placement);
        const was = before.placement?.estimate.tokensPerSecond ?? 0;
        expect(placement.estimate.tokensPerSecond).to.be.at.least(was * (1 - 1e-9));
      }),
      { numRuns: 500, seed: 12 },
    );
  });

  it("stay sound when a node is lost, and move nothing else where its ranks find room elsewhere", () => {
    fc.assert(
      fc.property(someWorld, fc.nat(), (drawn, pick) => {
        const world = worldOf({ ...drawn, tensorParallelMax: 1 });
        const before = plan(world, EFFORT);
        fc.pre(before.placement !== undefined);
        const held = [...new Set((before.placement?.assignments ?? []).map(({ node }) => node))].sort();
        const lost = present(held[pick % held.length], "a plan has ranks");
        const left = { ...inForce(world, before), nodes: world.nodes.filter(({ name }) => name !== lost) };
        const after = plan(left, EFFORT);
        if (after.placement === undefined) return;
        soundIn(left, after.placement);
        if (!(after.conditions[0]?.message ?? "").startsWith("moved")) return;
        const now = new Set(shown(after.placement.assignments));
        const stayed = (before.placement?.assignments ?? []).filter(({ node, chain }) => node !== lost && chain < 256);
        expect(shown(stayed).filter((rank) => !now.has(rank))).to.deep.equal([]);
      }),
      { numRuns: 500, seed: 13 },
    );
  });
});

function soundIn(world: Known, placement: NonNullable<ReturnType<typeof plan>["placement"]>): void {
  const nodes = new Map(world.nodes.map((node) => [node.name, node]));
  expect(brokenWishes({ ...world, nodes }, placement)).to.deep.equal([]);
  expect(overfullNode(nodes, placement.assignments)).to.equal(undefined);
}

const inForce = (world: Known, { placement, revision }: ReturnType<typeof plan>): Known & World => ({
  ...world,
  previous: placement === undefined ? undefined : standingPlanOf(revision, placement, world.model),
});

const shown = (assignments: readonly Assignment[]): readonly string[] =>
  assignments.map(({ chain, segment, node, layers }) => `${chain}.${segment} ${node} ${layers.start}-${layers.end}`);
