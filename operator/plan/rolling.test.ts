/** Rollouts as whole plans, carried out by a cluster that does at once, or never, what it is told. */
import { expect } from "chai";
import fc from "fast-check";
import { aModel, aNode, roomForLayers } from "./builders.ts";
import { House, LIMITS, aHouse } from "./rolling-house.ts";

/** Found once: who led next knew nothing of the chain that had served all along. */
const LEADER_CHANGES_WITH_A_REVERT = {
  nodeCount: 4,
  replicas: 2,
  freeBytes: roomForLayers(14),
  maxSurge: 0,
  maxUnavailable: 1,
  steps: [
    { at: 3, wish: "bad" as const, leader: false },
    { at: 4, wish: "f32" as const, leader: true },
  ],
};

describe("a rollout", () => {
  it("makes the next chain beside, and ends the old one once a probe has gone through", () => {
    const house = aHouse(2);
    const [before] = house.names;
    expect([house.said("UpToDate"), house.last?.readyChainCount]).to.deep.equal(["True AsAsked", 1]);
    house.model = { ...house.model, handOffDtype: "f16" };
    const seen: string[] = [];
    for (let round = 0; round < 12; round++) {
      const { readyChainCount } = house.look();
      expect(readyChainCount).to.equal(1);
      seen.push(`${house.names.length} ${house.said("UpToDate")}`);
    }
    expect([...new Set(seen)]).to.deep.equal(["2 False RollingOut", "1 False RollingOut", "1 True AsAsked"]);
    expect(house.names).to.not.include(before);
    expect(house.revisions).to.have.length(1);
    expect(house.last?.actions).to.deep.equal([]);
  });

  it("breaks nothing where there is no room, keeps repairing, and says what would let it go on", () => {
    const house = aHouse(1);
    const names = house.names;
    house.model = { ...house.model, contextLength: 128 };
    house.settle();
    expect(house.names).to.deep.equal(names);
    expect(house.said("UpToDate")).to.equal("False NoRoomToRoll");
    const words = house.last?.conditions.find(({ type }) => type === "UpToDate")?.message;
    expect(words).to.include("spec.update.maxUnavailable: 1");
    house.ranks = [];
    house.settle();
    expect(house.names).to.deep.equal(names);
    house.limits = { ...LIMITS, maxUnavailable: 1 };
    house.settle();
    expect(house.said("UpToDate")).to.equal("True AsAsked");
    expect(house.ranks.every(({ revision }) => revision.includes("-128-"))).to.equal(true);
  });

  it("takes back what does not come up, remembers that, and tries again once something else is asked for", () => {
    const house = aHouse(2);
    const [before] = house.names;
    house.bad = (revision) => revision.includes("-128-");
    house.model = { ...house.model, contextLength: 128 };
    for (let round = 0; round < 80; round++) expect(house.look().readyChainCount).to.equal(1);
    expect(house.names).to.deep.equal([before]);
    expect(house.said("UpToDate")).to.equal("False RolledBack");
    expect(house.last?.rolled?.refused?.why).to.include("will not start");
    house.model = { ...house.model, replicas: 2 }; // as an autoscaler would
    house.settle();
    expect(house.said("UpToDate")).to.equal("False RolledBack");
    expect(house.ranks.some(({ revision }) => revision.includes("-128-"))).to.equal(false);
    house.bad = () => false;
    house.model = { ...house.model, contextLength: 64, replicas: 1 };
    house.settle();
    expect(house.said("UpToDate")).to.equal("True AsAsked");
  });

  it("takes back at once what no source has the right bytes of", () => {
    const house = aHouse(2);
    house.bad = (revision) => revision.includes("-128-");
    house.trouble = "Failed: CorruptChunk: bucket/model.safetensors: bytes 0 to 1 MiB are not the manifest's";
    house.model = { ...house.model, contextLength: 128 };
    for (let round = 0; round < 3; round++) house.look();
    expect(house.said("UpToDate")).to.match(/^False Roll(ing|ed)Back$/);
    expect(house.last?.rolled?.refused?.reason).to.equal("CorruptChunk");
  });

  it("takes back what is slower than was to be expected", () => {
    const house = aHouse(2);
    const names = house.names;
    house.pace = (_, revision) => (revision.includes("f16") ? 80 : 20);
    house.model = { ...house.model, handOffDtype: "f16" };
    house.settle();
    expect(house.said("UpToDate")).to.equal("False RolledBack");
    expect(house.last?.rolled?.refused?.why).to.include("80.0 ms");
    expect(house.names).to.deep.equal(names);
  });

  it("takes nothing back because machines are busier than when an old chain was measured", () => {
    const house = aHouse(2);
    let measuredCount = 0;
    house.pace = () => {
      measuredCount += 1;
      return 80;
    };
    house.model = { ...house.model, handOffDtype: "f16" };
    house.settle();
    expect(house.said("UpToDate")).to.equal("True AsAsked");
    expect(measuredCount, "the next, the old again, the next again").to.equal(3);
  });

  it("does not wait for the pace of an old chain that gives none any more", () => {
    const house = aHouse(2);
    house.pace = (_, revision) => (revision.includes("f16") ? 80 : undefined);
    house.model = { ...house.model, handOffDtype: "f16" };
    house.settle();
    expect(house.said("UpToDate")).to.equal("False RolledBack");
    expect(house.last?.rolled?.refused?.reason).to.equal("Slower");
  });

  it("follows a changed image, and no unchanged one", () => {
    const house = aHouse(2);
    const [before] = house.names;
    house.settle();
    expect(house.names).to.deep.equal([before]);
    house.image = "ranks:2";
    house.settle();
    expect(house.names).to.not.include(before);
    expect(house.said("UpToDate")).to.equal("True AsAsked");
    house.image = "ranks:1";
    house.settle();
    expect([house.said("UpToDate"), house.revisions.length]).to.deep.equal(["True AsAsked", 1]);
  });

  it("moves the shard of an old chain whose node is lost, and no other, while nothing of the next revision serves", () => {
    const house = aHouse(4, { replicas: 2 }, roomForLayers(8));
    const before = new Map(house.ranks.map(({ name, assignment }) => [name, assignment.node]));
    expect(before.size).to.be.at.least(2);
    house.addNodes(3);
    house.bad = (revision) => revision.includes("-128-");
    house.model = { ...house.model, contextLength: 128 };
    house.look();
    expect(house.said("UpToDate")).to.equal("False RollingOut");
    const [lost = "", gone = ""] = [...before][0] ?? [];
    house.lose(gone);
    expect(house.look().readyChainCount).to.equal(1);
    for (let round = 0; round < 3; round++) house.look();
    expect(house.last?.readyChainCount).to.equal(2);
    expect(house.said("UpToDate")).to.equal("False RollingOut");
    const after = new Map(house.ranks.map(({ name, assignment }) => [name, assignment.node]));
    for (const [name, node] of before) {
      if (name === lost) expect(after.get(name)).to.not.be.oneOf([undefined, gone]);
      else expect(after.get(name)).to.equal(node);
    }
  });

  it("moves nothing of an old chain that nobody has let through", () => {
    const house = aHouse(3, {}, roomForLayers(14));
    const [{ assignment: { node = "" } = {} } = {}] = house.ranks;
    house.model = { ...house.model, planPolicy: "Manual", contextLength: 128 };
    house.look();
    house.lose(node);
    house.look();
    expect(house.last?.actions.filter((action) => action.do === "create-rank")).to.deep.equal([]);
  });

  it("costs no more than its ceiling while chains of two revisions stand", () => {
    for (const [ceiling, said] of [
      [10n, "False NoRoomToRoll"],
      [20n, "True AsAsked"],
    ] as const) {
      const nodes = ["a", "b"].map((name) => aNode(name, { freeBytes: roomForLayers(14), pricePerHour: 10n }));
      const house = new House(nodes, aModel({ objective: { kind: "Latency", pricePerHourMax: ceiling } }));
      house.settle();
      expect(house.said("UpToDate")).to.equal("True AsAsked");
      house.model = { ...house.model, contextLength: 128 };
      house.settle();
      expect(house.said("UpToDate"), `a ceiling of ${ceiling}`).to.equal(said);
    }
  });

  it("waits for sessions to end", () => {
    const house = aHouse(2);
    house.quiet = false;
    house.model = { ...house.model, handOffDtype: "f16" };
    house.settle();
    expect(house.names).to.have.length(2);
    house.quiet = true;
    house.settle();
    expect(house.names).to.have.length(1);
  });

  it("ends at what was asked for last, whoever leads, and never has fewer chains than it may", () => {
    const step = fc.record({
      at: fc.integer({ min: 0, max: 30 }),
      wish: fc.constantFrom("f32", "f16", "bad"),
      leader: fc.boolean(),
    });
    const worlds = fc.record({
      nodeCount: fc.integer({ min: 2, max: 5 }),
      replicas: fc.integer({ min: 1, max: 3 }),
      freeBytes: fc.constantFrom(roomForLayers(7), roomForLayers(14), 2 * roomForLayers(14)),
      maxSurge: fc.integer({ min: 0, max: 2 }),
      maxUnavailable: fc.integer({ min: 0, max: 2 }),
      steps: fc.array(step, { maxLength: 5 }),
    });
    fc.assert(
      fc.property(worlds, ({ nodeCount, replicas, freeBytes, maxSurge, maxUnavailable, steps }) => {
        fc.pre(maxSurge + maxUnavailable > 0);
        const house = aHouse(nodeCount, { replicas, slotCount: 1 }, freeBytes);
        fc.pre(house.last?.readyChainCount === replicas && house.said("UpToDate").startsWith("True"));
        house.limits = { ...LIMITS, maxSurge, maxUnavailable, progressSeconds: 6 };
        house.bad = (revision) => revision.includes("-77-");
        for (let round = 0; round < 40; round++) {
          for (const { at, wish, leader } of steps) {
            if (at !== round) continue;
            const {
              handOffDtype: _,
              contextLength: __,
              ...model
            } = aModel({ objective: { kind: "Latency" }, replicas, slotCount: 1 });
            house.model =
              wish === "bad"
                ? { ...model, handOffDtype: "f32", contextLength: 77 }
                : { ...model, handOffDtype: wish === "f16" ? "f16" : "f32", contextLength: 256 };
            if (leader) house.forget();
          }
          const { readyChainCount } = house.look();
          expect(readyChainCount).to.be.at.least(Math.max(0, replicas - Math.max(1, maxUnavailable)));
          if (maxUnavailable === 0) expect(readyChainCount).to.equal(replicas);
        }
        house.settle(300);
        const reasons = ["True AsAsked", "False RolledBack", "False NoRoomToRoll"];
        expect(house.said("UpToDate")).to.be.oneOf(reasons);
        if (house.said("UpToDate") !== "False NoRoomToRoll") expect(house.revisions).to.have.length(1);
      }),
      { numRuns: 25, examples: [[LEADER_CHANGES_WITH_A_REVERT]] },
    );
  });
});
