/** Better plans, moved to beside what serves: carried out by a cluster that does at once, or never, what it is told. */
import { expect } from "chai";
import { aModel, aNode, roomForLayers } from "./builders.ts";
import { House, LIMITS } from "./rolling-house.ts";
import type { ModelSpec, NodeFacts } from "./types.ts";

const room = (layers: number): Partial<NodeFacts> => ({ freeBytes: roomForLayers(layers) });
const slow = (name: string, layers = 14) => aNode(name, { ...room(layers), memoryBytesPerSecond: 2e9 });
const quick = (name: string, layers = 14, speed = 100e9) =>
  aNode(name, { ...room(layers), memoryBytesPerSecond: speed });
const aHouse = (nodes: readonly NodeFacts[], set: Partial<ModelSpec> = {}): House => {
  const house = new House(nodes, aModel(set));
  house.settle();
  return house;
};
const join = (house: House, ...nodes: readonly NodeFacts[]) => {
  house.nodes = [...house.nodes, ...nodes];
};
const message = (house: House) => house.last?.conditions.find(({ type }) => type === "Planned")?.message;

describe("a better plan", () => {
  it("is made beside what serves, which drains once a probe has gone through, and goes once it is quiet", () => {
    const house = aHouse([slow("a")]);
    expect([house.nodesHeld, house.openChains]).to.deep.equal([["a"], [0]]);
    house.quiet = false;
    join(house, quick("b"));
    const seen: string[] = [];
    for (let round = 0; round < 12; round++) {
      house.look();
      seen.push(`${house.nodesHeld.join()} open ${house.openChains.join()} ${house.said("Planned")}`);
      expect(house.said("UpToDate")).to.equal("True AsAsked");
      expect(house.last?.readyChainCount).to.equal(1);
    }
    expect([...new Set(seen)]).to.deep.equal(["a,b open 0 True Moving", "a,b open 1 True Moving"]);
    expect(message(house)).to.match(/^a better plan gains \d+ %: its chains are made beside those that serve/);
    house.quiet = true;
    house.settle();
    expect([house.nodesHeld, house.openChains, house.said("Planned")]).to.deep.equal([["b"], [1], "True Placed"]);
    expect(house.last?.actions).to.deep.equal([]);
    expect(house.revisions).to.have.length(1);
    expect(house.last?.placement?.better).to.equal(undefined);
  });

  it("is gone on with by whoever leads next", () => {
    const house = aHouse([slow("a")]);
    join(house, quick("b"));
    for (let round = 0; round < 12; round++) {
      house.look();
      house.forget();
      expect(house.openChains.length).to.be.at.least(1);
    }
    house.settle();
    expect([house.nodesHeld, house.last?.actions]).to.deep.equal([["b"], []]);
  });

  it("leaves alone the chains that it keeps", () => {
    const house = aHouse([slow("a"), quick("b")], { replicas: 2, gainMinPercent: 10 });
    const kept = house.ranks.filter(({ assignment }) => assignment.node === "b");
    expect(kept).to.have.length(1);
    join(house, quick("c"));
    for (let round = 0; round < 12; round++) {
      house.look();
      expect(house.openChains.length).to.be.at.least(2);
    }
    expect(house.nodesHeld).to.deep.equal(["b", "c"]);
    expect(house.ranks).to.deep.include(kept[0]);
  });

  it("is not moved to where it finds no room beside what serves, and it is said what would let it", () => {
    const slower = (name: string, layers: number) => quick(name, layers, 2e8);
    const house = aHouse([slower("a", 8), slower("b", 10)]);
    const before = house.ranks;
    house.nodes = [slower("a", 8), quick("b", 10)];
    for (let round = 0; round < 4; round++) {
      house.look();
      expect([house.ranks, house.said("Planned")]).to.deep.equal([before, "True BetterPlanWaits"]);
      expect(message(house)).to.match(
        /; a plan that gains \d+ % is not moved to: no chain of it finds room beside those that serve: .*memory for one chain more/,
      );
    }
    join(house, quick("c"));
    house.settle();
    expect([house.said("Planned"), house.openChains]).to.deep.equal(["True Placed", [1]]);
  });

  it("takes chains away first only as far as it may, and never the last one", () => {
    const busy = () => aHouse([slow("a", 13), slow("b", 13)], { replicas: 2, gainMinPercent: 10 });
    for (const [maxUnavailable, least] of [
      [0, 2],
      [1, 1],
      [2, 1],
    ] as const) {
      const house = busy();
      house.limits = { ...LIMITS, maxUnavailable };
      house.nodes = [slow("a", 13), slow("b", 13), quick("c", 8), quick("d", 8)];
      for (let round = 0; round < 30; round++) {
        house.look();
        expect(house.openChains.length, `maxUnavailable ${maxUnavailable}`).to.be.at.least(least);
      }
    }
  });

  it("is taken back where it does not come up, and only another is tried after that", () => {
    const house = aHouse([slow("a")]);
    house.bad = (_, node) => node === "b";
    join(house, quick("b"));
    for (let round = 0; round < 80; round++) {
      house.look();
      expect(house.openChains).to.deep.equal([0]);
    }
    expect([house.nodesHeld, house.said("Planned"), house.said("UpToDate")]).to.deep.equal([
      ["a"],
      "True BetterPlanWaits",
      "True AsAsked",
    ]);
    expect(message(house)).to.match(/it was tried and taken back: no progress in 60 s: tiny-1-0-0: will not start/);
    house.nodes = [slow("a"), quick("b", 14, 70e9)]; // seen anew, and the same
    house.settle();
    expect(house.nodesHeld).to.deep.equal(["a"]);
    join(house, quick("c", 14, 400e9));
    house.settle();
    expect([house.nodesHeld, house.openChains, house.said("Planned")]).to.deep.equal([["c"], [1], "True Placed"]);
  });

  it("is taken back where it is slower than what it was to better", () => {
    const house = aHouse([slow("a")]);
    house.pace = (_, __, nodes) => (nodes.includes("b") ? 80 : 20);
    join(house, quick("b"));
    house.settle();
    expect([house.nodesHeld, house.openChains]).to.deep.equal([["a"], [0]]);
    expect(message(house)).to.contain("80.0 ms");
  });

  it("is given up at once where its node goes away before it has served", () => {
    const house = aHouse([slow("a")]);
    house.bad = () => true;
    join(house, quick("b"));
    house.look();
    expect(house.nodesHeld).to.deep.equal(["a", "b"]);
    house.lose("b");
    expect(house.look().placement?.better?.whyNot).to.contain("node b went away before its chain served");
    house.settle();
    expect([house.nodesHeld, house.openChains, house.said("Planned")]).to.deep.equal([["a"], [0], "True Placed"]);
  });

  it("gives way to another revision, whatever it has come to", () => {
    for (let rounds = 1; rounds < 6; rounds++) {
      const house = aHouse([slow("a", 30), slow("c", 30)]);
      house.quiet = false;
      join(house, quick("b", 30));
      for (let round = 0; round < rounds; round++) house.look();
      house.quiet = true;
      house.model = { ...house.model, handOffDtype: "f16" };
      for (let round = 0; round < 20; round++) {
        house.look();
        expect(house.openChains.length, `${rounds} rounds`).to.be.at.least(1);
      }
      house.settle();
      expect([house.said("UpToDate"), house.revisions.length]).to.deep.equal(["True AsAsked", 1]);
      expect(house.revisions[0]).to.contain("-f16");
      expect(house.last?.actions).to.deep.equal([]);
    }
  });

  it("waits for whoever lets plans through, and nothing has begun before", () => {
    const house = aHouse([slow("a")]);
    house.model = { ...house.model, planPolicy: "Manual" };
    join(house, quick("b"));
    house.settle();
    expect([house.nodesHeld, house.said("Planned")]).to.deep.equal([["a"], "True AwaitsApproval"]);
    house.approved = house.last?.proposal?.approval;
    house.settle();
    expect([house.nodesHeld, house.openChains]).to.deep.equal([["b"], [1]]);
  });
});
