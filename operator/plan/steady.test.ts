/** What happens to a plan in force when the world changes: as little as may be. */
import { expect } from "chai";
import fc from "fast-check";
import { aModel, aNode, aPartNode, aWorld, roomForLayers } from "./builders.ts";
import { approvalOf } from "./digests.ts";
import { SPARE_CHAIN_FIRST, rankName } from "./names.ts";
import { plan as planned } from "./plan.ts";
import { standingPlanOf } from "./revision.ts";
import { keysOf, routesOf, segmentKey, sparesIn } from "./routes.ts";
import { inForce, without } from "./standing-world.ts";
import { someNode, someWorld, nodeOf, worldOf } from "./some-world.ts";
import { brokenWishes, overfullNode } from "./soundness.ts";
import type { Assignment, NodeFacts, Placement, Plan, World } from "./types.ts";

type Known = ReturnType<typeof aWorld>;

const plan = (world: World): Plan => planned(world, { evaluationCount: 30, remedyPlanCountMax: 0 });
const placementIn = ({ placement }: Plan): Placement => {
  if (placement === undefined) throw new Error("no placement");
  return placement;
};
const standing = (world: Known, decided: Plan = plan(world)): Known => inForce(world, decided);
const room = (layers: number): Partial<NodeFacts> => ({ freeBytes: roomForLayers(layers) });
const shown = (assignments: readonly Assignment[]) =>
  assignments.map(({ chain, segment, node, layers }) => `${chain}.${segment} ${node} ${layers.start}-${layers.end}`);
const touched = (decided: Plan) => decided.actions.flatMap((action) => (action.do === "probe" ? [] : [action.name]));

describe("a plan in force", () => {
  it("stays when a node joins that would not gain much", () => {
    const world = standing(aWorld([aPartNode("a"), aPartNode("b"), aPartNode("c")]));
    const joined = { ...world, nodes: [...world.nodes, aPartNode("d")] };
    expect(touched(plan(joined))).to.deep.equal([]);
    expect(shown(placementIn(plan(joined)).assignments)).to.deep.equal(shown(world.previous?.assignments ?? []));
  });

  it("is left for one that gains more than half, and says so", () => {
    const world = standing(aWorld([aNode("a", { memoryBytesPerSecond: 1e9 })]));
    const joined = { ...world, nodes: [...world.nodes, aNode("b", { memoryBytesPerSecond: 100e9 })] };
    expect(placementIn(plan(joined)).assignments.some(({ node }) => node === "b")).to.equal(true);
    expect(plan(joined).conditions[0]?.message).to.match(/a better plan gains \d+ %/);
  });

  it("is left as soon, or as late, as the model says", () => {
    const world = standing(aWorld([aNode("a", { memoryBytesPerSecond: 1e9 })]));
    const joined = { ...world, nodes: [...world.nodes, aNode("b", { memoryBytesPerSecond: 1.3e9 })] };
    const isLeft = (gainMinPercent?: number) =>
      touched(
        plan({ ...joined, model: { ...joined.model, ...(gainMinPercent === undefined ? {} : { gainMinPercent }) } }),
      ).length > 0;
    expect([isLeft(), isLeft(50), isLeft(0), isLeft(9999)]).to.deep.equal([false, false, true, false]);
  });

  it("is looked at again only when something has changed", () => {
    const world = standing(aWorld([aPartNode("a"), aPartNode("b")]));
    const again = plan(world);
    expect(again.placement?.basis).to.equal(world.previous?.basis);
    expect(again.placement).to.deep.equal(placementIn(plan(standing(world, again))));
  });

  it("moves off a provider that is refused now", () => {
    const world = standing(aWorld([aNode("a"), aNode("b"), aNode("c")], aModel({}, { providersMin: 2 })));
    const [first] = world.previous?.assignments ?? [];
    const model = aModel({}, { providersMin: 2, providersDeny: [first?.provider ?? ""] });
    const moved = placementIn(plan({ ...world, model }));
    expect(moved.assignments.some(({ provider }) => provider === first?.provider)).to.equal(false);
  });

  it("keeps serving, and says why, where a new wish cannot be kept", () => {
    const world = standing(aWorld([aNode("a")]));
    const decided = plan({ ...world, model: aModel({}, { providersDeny: ["a-owner"] }) });
    expect(decided.actions).to.deep.equal([]);
    expect(decided.conditions[0]).to.include({ status: "False", reason: "NoNodes" });
  });
});

describe("the loss of a node", () => {
  const named = (decided: Plan) => touched(decided).filter((name) => !name.includes("-256-"));

  it("moves its rank alone to a node that answers", () => {
    const before = standing(aWorld([aNode("a", room(6)), aNode("b", room(6))]));
    const joining = [aNode("c", { ...room(6), ready: false }), aNode("d", room(6))];
    const left = without({ ...before, nodes: [...before.nodes, ...joining] }, "b");
    const after = plan(left);
    expect(placementIn(after).assignments.map(({ node }) => node)).to.have.members(["a", "d"]);
    expect(named(after)).to.have.length(1);
  });

  it("touches no other chain where its own can be made of what that leaves alone", () => {
    const before = standing(aWorld([aNode("a"), aNode("b")], aModel({ replicas: 2 })));
    const smaller = ["c", "d", "e"].map((name) => aNode(name, room(5)));
    const lost = before.previous?.assignments.find(({ chain }) => chain === 0)?.node ?? "";
    const after = plan({ ...without({ ...before, nodes: [...before.nodes, ...smaller] }, lost) });
    expect(named(after)).to.not.include("tiny-1-0-0");
    expect(placementIn(after).assignments.filter(({ chain }) => chain === 0).length).to.be.above(1);
  });

  it("is not followed by a better plan before all is ready, and is then", () => {
    const before = standing(aWorld([aNode("a", { ...room(12), memoryBytesPerSecond: 1e9 })]));
    const quick = aNode("b", { memoryBytesPerSecond: 100e9 });
    const joined = { ...before, nodes: [...before.nodes, quick] };
    const loading = { ...joined, ranks: joined.ranks.map((rank) => ({ ...rank, phase: "Starting" }) as const) };
    expect(touched(plan(loading))).to.deep.equal([]);
    const waiting = {
      ...loading,
      previous: standingPlanOf(plan(loading).revision, placementIn(plan(loading)), joined.model),
    };
    expect(touched(plan({ ...waiting, ranks: joined.ranks }))).to.not.deep.equal([]);
  });

  it("is what a refused owner amounts to: only what he held moves", () => {
    const before = standing(aWorld([aNode("a", room(6)), aNode("b", room(6))]));
    const [first, second] = before.previous?.assignments ?? [];
    const model = aModel({}, { providersDeny: [first?.provider ?? ""] });
    const after = plan({ ...before, model, nodes: [...before.nodes, aNode("c", room(6))] });
    expect(after.conditions[0]?.message).to.match(/^node \w: spec.placement.providers.deny names \w-owner; moved /);
    expect(placementIn(after).assignments).to.deep.include(second);
    expect(named(after)).to.deep.equal([rankName(model, first ?? { chain: 0, segment: 0, rank: 0 })]);
  });
});

describe("groups of several owners", () => {
  const nodes = ["a", "b", "c", "d"].map((name) => aNode(name));
  const asked = { tensorParallelMax: 2, tensorParallelAcrossProviders: true, tensorParallelAlways: true } as const;
  const groupsIn = (set: Partial<Known["model"]["placement"]>) =>
    placementIn(plan(aWorld(nodes, aModel({ replicas: 2 }, { ...asked, ...set })))).assignments.filter(
      ({ sliceWeights }) => sliceWeights.length > 1,
    );

  it("are made where nobody counts what an owner holds, and not where somebody does", () => {
    expect(groupsIn({})).to.have.length(4);
    expect(groupsIn({ surviveProviders: 1 })).to.deep.equal([]);
  });
});

describe("spares", () => {
  const nodes = [aNode("a", room(7)), aNode("b", room(7)), aNode("c", room(7))];
  const world = aWorld(nodes, aModel({ spares: 1 }));

  it("are ranks on no route, at home in chains of their own", () => {
    const placement = placementIn(plan(world));
    const spares = sparesIn(placement);
    expect(spares.map(({ chain }) => chain)).to.deep.equal([SPARE_CHAIN_FIRST]);
    expect(placement.assignments).to.have.length(3);
    expect(routesOf(placement).flatMap(keysOf)).to.not.include(spares.map(segmentKey)[0]);
  });

  it("stand in at once for what is lost: no other rank is touched", () => {
    const before = standing(world);
    const [spare] = sparesIn(before.previous ?? { assignments: [] });
    const twin = before.previous?.assignments.find(
      ({ chain, layers }) => chain === 0 && layers.start === spare?.layers.start,
    );
    const decided = plan(without(before, twin?.node ?? ""));
    const placement = placementIn(decided);
    expect(routesOf(placement).flatMap(keysOf)).to.include(segmentKey(spare ?? { chain: 0, segment: 0 }));
    expect(touched(decided)).to.deep.equal([rankName(world.model, twin ?? { chain: 0, segment: 0, rank: 0 })]);
    expect(decided.conditions[0]?.message).to.match(/tiny-256-0-0 stands in for \w; .*1 of 1 spares find no room/);
  });

  it("touch nobody when they find room at last: ranks were told their names from the start", () => {
    const before = standing(aWorld(nodes.slice(0, 2), aModel({ spares: 1 })));
    const joined = plan({ ...before, nodes });
    expect(touched(joined)).to.deep.equal(["tiny-256-0-0"]);
    const served = standing({ ...before, nodes }, joined);
    const twin = sparesIn(served.previous ?? { assignments: [] })[0];
    const lost = served.previous?.assignments.find(
      ({ chain, layers }) => chain === 0 && layers.start === twin?.layers.start,
    );
    const after = plan({
      ...without(served, lost?.node ?? ""),
      ranks: without({ ...served, ranks: before.ranks }, "").ranks,
    });
    expect(touched(after)).to.not.include(
      served.previous?.assignments
        .filter(({ chain }) => chain === 0)
        .map((each) => rankName(world.model, each))
        .find((name) => name !== rankName(world.model, lost ?? { chain: 0, segment: 0, rank: 0 })),
    );
  });

  it("are not given up for a plan that is better without them", () => {
    const quick = aNode("c", { ...room(7), memoryBytesPerSecond: 30e9 });
    const slow = [
      aNode("a", { ...room(7), memoryBytesPerSecond: 2e9 }),
      aNode("b", { ...room(7), memoryBytesPerSecond: 2e9 }),
    ];
    const before = standing(aWorld([...slow, quick], aModel({ spares: 1, replicas: 1 })));
    const noisy = {
      ...before,
      nodes: before.nodes.map((node) => ({ ...node, memoryBytesPerSecond: node.memoryBytesPerSecond * 1.3 })),
    };
    expect(touched(plan(noisy))).to.deep.equal([]);
  });

  it("are not made on a node that does not answer", () => {
    const silent = nodes.map((node) => (node.name === "c" ? { ...node, ready: false } : node));
    expect(placementIn(plan({ ...world, nodes: silent })).assignments.some(({ node }) => node === "c")).to.equal(false);
  });

  it("are said to be missing where they find no room", () => {
    const decided = plan(aWorld(nodes.slice(0, 2), aModel({ spares: 2 })));
    expect(decided.conditions[0]?.message).to.contain("2 of 2 spares find no room");
  });
});

describe("planPolicy Manual", () => {
  const world = aWorld([aPartNode("a"), aPartNode("b")], aModel({ planPolicy: "Manual" }));
  const proposedIn = (decided: Plan) => {
    if (decided.proposal === undefined) throw new Error("no proposal");
    const { revision, placement, approval } = decided.proposal;
    return { proposed: standingPlanOf(revision, placement, world.model), approval };
  };

  it("makes nothing until the very plan is approved", () => {
    const waits = plan(world);
    expect([waits.placement, waits.actions]).to.deep.equal([undefined, []]);
    expect(waits.conditions[0]).to.include({ status: "False", reason: "AwaitsApproval" });
    const { proposed, approval } = proposedIn(waits);
    expect(waits.conditions[0]?.message).to.contain(`tessellate.dev/approved=${approval}`);
    expect(approvalOf(proposed)).to.equal(approval);
    expect(plan({ ...world, proposed, approved: "another" }).actions).to.deep.equal([]);
    const goes = plan({ ...world, proposed, approved: approval });
    expect(touched(goes)).to.deep.equal(["tiny-0-0-0", "tiny-0-1-0"]);
    expect(goes.proposal).to.equal(undefined);
  });

  it("keeps what serves while a repair waits, and says how to let it through", () => {
    const { proposed, approval } = proposedIn(plan(world));
    const serving = standing(world, plan({ ...world, proposed, approved: approval }));
    expect(plan(serving).proposal).to.equal(undefined);
    const lost = { ...without(serving, "b"), nodes: [aPartNode("a"), aPartNode("c")] };
    const waits = plan(lost);
    expect(waits.actions.filter((action) => action.do === "create-rank")).to.deep.equal([]);
    expect(waits.conditions[0]).to.include({ status: "True", reason: "AwaitsApproval" });
    const next = proposedIn(waits);
    // What a person looks at does not change under his eyes.
    const later = plan({ ...lost, proposed: next.proposed, nodes: [...lost.nodes, aNode("d")] });
    expect(later.proposal?.approval).to.equal(next.approval);
    const goes = plan({ ...lost, proposed: next.proposed, approved: next.approval });
    expect(placementIn(goes).assignments.map(({ node }) => node)).to.have.members(["a", "c"]);
  });
});

describe("any plan", () => {
  const soundIn = (world: Known, decided: Plan) => {
    if (decided.placement === undefined) return;
    const nodes = new Map(world.nodes.map((node) => [node.name, node]));
    expect(brokenWishes({ ...world, nodes }, decided.placement)).to.deep.equal([]);
    expect(overfullNode(nodes, decided.placement.assignments)).to.equal(undefined);
  };

  it("is worth no less when a node joins", () => {
    fc.assert(
      fc.property(someWorld, someNode, (drawn, joining) => {
        const world = worldOf(drawn);
        const before = plan(world);
        fc.pre(before.placement !== undefined);
        const joined = { ...standing(world, before), nodes: [...world.nodes, nodeOf(joining, drawn.nodes.length)] };
        const after = plan(joined);
        soundIn(joined, after);
        const rate = (decided: Plan) => decided.placement?.estimate.tokensPerSecond ?? 0;
        expect(rate(after)).to.be.at.least(rate(before) * (1 - 1e-9));
      }),
      { numRuns: 12, seed: 4 },
    );
  });

  it("moves only what was on a lost node, where another node has the room", () => {
    fc.assert(
      fc.property(someWorld, fc.nat(), (drawn, pick) => {
        const world = worldOf({ ...drawn, nodes: drawn.nodes.slice(0, 5) });
        const before = plan(world);
        fc.pre(before.placement !== undefined);
        const was = standing(world, before);
        const held = [...new Set((was.previous?.assignments ?? []).map(({ node }) => node))].sort();
        const lost = held[pick % held.length];
        fc.pre(lost !== undefined);
        const left = without(was, lost ?? "");
        const after = plan(left);
        soundIn(left, after);
        if (after.placement === undefined || !/^(moved|\d+ ranks)/.test(after.conditions[0]?.message ?? "")) return;
        const stayed = (was.previous?.assignments ?? []).filter(
          ({ node, chain }) => node !== lost && chain < SPARE_CHAIN_FIRST,
        );
        const now = new Set(shown(after.placement.assignments));
        const gone = shown(stayed).filter((rank) => !now.has(rank));
        // A spare that stands in takes the place of the whole group.
        if (drawn.tensorParallelMax === 1) expect(gone).to.deep.equal([]);
      }),
      { numRuns: 12, seed: 5 },
    );
  });
});
