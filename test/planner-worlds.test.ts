/** What any plan keeps, on thousands of random worlds: the unit tests look at a few dozen of them. */
import { expect } from "chai";
import fc from "fast-check";
import { present } from "../core/assert.ts";
import { shardPlanSpec, standingPlanIn } from "../operator/apply/shard-plan.ts";
import { eligible } from "../operator/plan/holders.ts";
import { plan } from "../operator/plan/plan.ts";
import { place } from "../operator/plan/place.ts";
import { nodeOf, someNode, someWorld, worldOf } from "../operator/plan/some-world.ts";
import { inForce, isTouched, without } from "../operator/plan/standing-world.ts";
import type { Known, NodeFacts, Placement, Plan } from "../operator/plan/types.ts";
import { boundOfLoss } from "./plan-bounds.ts";
import { rulesBroken } from "./plan-rules.ts";

/** Few, so that many worlds can be looked at: what holds does not depend on how long the search was. */
const EFFORT = { evaluationCount: 30, remedyPlanCountMax: 0 };
const planned = (world: Known): Plan => plan(world, EFFORT);

describe("plans of random worlds", function () {
  this.timeout(600_000);

  it("cover every layer of every chain once, within memory and every wish, on nodes that may take part", () => {
    let placedCount = 0;
    const look = (world: Known) => {
      const placed = place(world, EFFORT);
      if (!placed.ok) return;
      placedCount += 1;
      expect(rulesBroken(world, placed.value)).to.deep.equal([]);
      const { placement } = planned(world);
      expect(rulesBroken(world, present(placement, "what can be placed can be planned"))).to.deep.equal([]);
      const may = new Set(eligible(world.model, world.nodes).nodes.map(({ name }) => name));
      expect(placement?.assignments.filter(({ node }) => !may.has(node))).to.deep.equal([]);
      expect(place({ ...world, nodes: [...world.nodes].reverse() }, EFFORT)).to.deep.equal(placed);
    };
    fc.assert(
      fc.property(someWorld, (drawn) => look(worldOf(drawn))),
      { numRuns: 1_500, seed: 11 },
    );
    expect(placedCount).to.be.above(500);
  });

  it("keep every wish also with groups of several owners", () => {
    const grouped = someWorld.map((drawn) => ({
      ...drawn,
      tensorParallelMax: 3 as const,
      tensorParallelAcross: true,
      tensorParallelAlways: true as const,
      survive: drawn.replicas > 1 && drawn.layerCount % 2 === 0 ? (1 as const) : undefined,
    }));
    fc.assert(
      fc.property(grouped, (drawn) => {
        const world = worldOf(drawn);
        const { placement } = planned(world);
        if (placement !== undefined) expect(rulesBroken(world, placement)).to.deep.equal([]);
      }),
      { numRuns: 500, seed: 12 },
    );
  });

  it("stay as they are while nothing changes, in whatever order it is listed, also as they were written down", () => {
    everyPlan(13, 600, (world, decided, standing) => {
      const facts = { ...world.facts, configText: "{}" };
      const { revision, placement } = decided;
      const { assignments, routes, estimate, leftOut } = placement;
      const spec = shardPlanSpec(world.model, facts, revision, placement);
      const read = standingPlanIn(JSON.parse(JSON.stringify({ spec })));
      expect(read.assignments).to.deep.equal(assignments);
      const { nodes, ranks } = standing;
      for (const again of [
        planned(standing),
        planned({ ...standing, previous: read }),
        planned({ ...standing, nodes: [...nodes].reverse(), ranks: [...ranks].reverse() }),
      ]) {
        expect(again.actions.filter(isTouched)).to.deep.equal([]);
        expect(again.placement).to.deep.include({ assignments, routes, estimate, leftOut });
      }
    });
  });

  it("move nothing for the noise of measurements, nor for a node that does not answer", () => {
    everyPlan(14, 600, (_, __, standing, pick) => {
      const noisy = planned({
        ...standing,
        nodes: standing.nodes.map((node, index) => measuredAgain(node, index + pick)),
      });
      expect(touchedOf(standing, noisy)).to.deep.equal([]);
      const silent = standing.nodes.map((node, index) =>
        index === pick % standing.nodes.length ? asleep(node) : node,
      );
      expect(touchedOf(standing, planned({ ...standing, nodes: silent }))).to.deep.equal([]);
    });
  });

  it("are worth no less when nodes join, one after the other", () => {
    fc.assert(
      fc.property(someWorld, fc.array(someNode, { minLength: 1, maxLength: 3 }), (drawn, joining) => {
        const world = worldOf(drawn);
        let decided = planned(world);
        fc.pre(decided.placement !== undefined);
        let standing = inForce(world, decided);
        for (const [index, node] of joining.entries()) {
          const name = drawn.nodes.length + index;
          const joined = { ...standing, nodes: [...standing.nodes, nodeOf(node, name)] };
          const after = planned(joined);
          const placement = present(after.placement, "what stands can stay");
          expect(rulesBroken(joined, placement)).to.deep.equal([]);
          noWorse(world, present(decided.placement, "it was planned"), placement);
          decided = after;
          standing = inForce(joined, after);
        }
      }),
      { numRuns: 400, seed: 15 },
    );
  });

  it("are worth no less than a hundredth less when made afresh with a node more", () => {
    const effort = { evaluationCount: 300, isDraft: true } as const;
    let comparedCount = 0;
    fc.assert(
      fc.property(someWorld, someNode, (drawn, joining) => {
        // What must be in groups is grouped anew: that may cost more.
        const { tensorParallelAlways: _, objective: __, ...rest } = drawn;
        const wish = {
          ...rest,
          tensorParallelAlways: undefined,
          objective: undefined,
          slotsByPlanner: false,
          spares: 0 as const,
        };
        const world = worldOf(wish);
        const before = place(world, effort);
        if (!before.ok) return;
        comparedCount += 1;
        const joined = [...world.nodes, nodeOf(joining, drawn.nodes.length)];
        const after = place({ ...world, nodes: joined }, effort);
        const rate = after.ok ? (after.value.estimate.tokensPerSecond ?? 0) : 0;
        expect(rate).to.be.at.least(0.99 * (before.value.estimate.tokensPerSecond ?? 0));
      }),
      { numRuns: 400, seed: 18 },
    );
    expect(comparedCount).to.be.above(100);
  });

  it("move no more than they must when a node is lost, and nothing when it comes back", () => {
    const seen = { alone: 0, chains: 0, all: 0 };
    everyPlan(16, 1_500, (world, { placement }, standing, pick) => {
      const held = [...new Set(placement.assignments.map(({ node }) => node))].sort();
      const lost = present(held[pick % held.length], "a plan has ranks");
      const left = without(standing, lost);
      const after = planned(left);
      if (after.placement === undefined) return;
      expect(rulesBroken(left, after.placement)).to.deep.equal([]);
      const bound = boundOfLoss(left, placement, lost, EFFORT);
      seen[bound.by] += 1;
      expect(touchedOf(standing, after).filter((name) => bound.stays.has(name))).to.deep.equal([]);
      const { nodes } = world;
      const repaired = inForce(left, after);
      const back = planned({ ...repaired, nodes });
      if (!gainsEnough(back)) expect(touchedOf(repaired, back)).to.deep.equal([]);
    });
    expect(seen.alone, JSON.stringify(seen)).to.be.above(100);
    expect(seen.chains, JSON.stringify(seen)).to.be.above(5);
  });

  it("move no more than they must when an owner is refused", () => {
    everyPlan(17, 500, (world, { placement }, standing, pick) => {
      const owners = [...new Set(placement.assignments.map(({ provider }) => provider))].sort();
      const refused = present(owners[pick % owners.length], "a plan has ranks");
      const wishes = { ...world.model.placement, providersDeny: [...world.model.placement.providersDeny, refused] };
      const changed = { ...standing, model: { ...world.model, placement: wishes } };
      const after = planned(changed);
      if (after.placement === undefined) return;
      expect(rulesBroken(changed, after.placement)).to.deep.equal([]);
    });
  });
});

/** Ranks that stand and are ended or made anew; a spare that finds room at last is none of them. */
function touchedOf({ ranks }: Known, { actions }: Plan): readonly string[] {
  const standing = new Set(ranks.map(({ name }) => name));
  return actions.filter(isTouched).flatMap(({ name }) => (standing.has(name) ? [name] : []));
}

const gainsEnough = ({ conditions }: Plan): boolean => (conditions[0]?.message ?? "").startsWith("a better plan");

type Placed = Plan & { readonly placement: Placement };

function everyPlan(
  seed: number,
  numRuns: number,
  look: (world: Known, decided: Placed, standing: Known, pick: number) => void,
): void {
  fc.assert(
    fc.property(someWorld, fc.nat({ max: 99 }), (drawn, pick) => {
      const world = worldOf(drawn);
      const decided = planned(world);
      if (decided.placement === undefined) return;
      look(world, { ...decided, placement: decided.placement }, inForce(world, decided), pick);
    }),
    { numRuns, seed },
  );
}

/** Each figure within three hundredths of what it was. */
function measuredAgain(node: NodeFacts, seed: number): NodeFacts {
  const noise = (value: number, index: number) => value * (1 + 0.03 * Math.sin(seed * 12.9898 + index * 78.233));
  const { layerTimes, links } = node;
  return {
    ...node,
    memoryBytesPerSecond: noise(node.memoryBytesPerSecond, 1),
    ...(layerTimes === undefined
      ? {}
      : {
          layerTimes: {
            ...layerTimes,
            oneMicros: noise(layerTimes.oneMicros, 3),
            manyMicros: noise(layerTimes.manyMicros, 4),
          },
        }),
    ...(links === undefined
      ? {}
      : { links: links.map((link) => ({ ...link, roundTripMicros: noise(link.roundTripMicros, 5) })) }),
  };
}

const asleep = (node: NodeFacts): NodeFacts => ({ ...node, ready: false });

/** By what the model asks for. Spares are left out of the price: more room may be used for more of them. */
function noWorse({ model }: Known, before: Placement, after: Placement): void {
  const [was, is] = [before.estimate, after.estimate];
  switch (model.objective?.kind) {
    case "Latency":
      return void expect(is.millisecondsPerToken).to.be.at.most(was.millisecondsPerToken * (1 + 1e-9));
    case "Price":
      if ((model.spares ?? 0) > 0) return;
      return void expect(Number(is.pricePerHour ?? 0n)).to.be.at.most(Number(was.pricePerHour ?? 0n));
    default:
      expect(is.tokensPerSecond ?? 0).to.be.at.least((was.tokensPerSecond ?? 0) * (1 - 1e-9));
  }
}
