import { expect } from "chai";
import fc from "fast-check";
import { type BrakeRule, BRAKE_RULE, type GivenUp, allowanceOf, brake, brakeWords } from "./brake.ts";
import { aModel, aNode, aWorld, roomForLayers } from "./builders.ts";
import { plan } from "./plan.ts";
import { inForce, isTouched } from "./standing-world.ts";

const T = Date.parse("2026-01-01T12:00:00Z");
const MINUTE = 60_000;

describe("the brake", () => {
  const cases = [
    { name: "one of ten", gone: ["a"], givenUp: [], nodeCount: 10, released: ["a"], held: [] },
    { name: "one of one: always one", gone: ["a"], givenUp: [], nodeCount: 1, released: ["a"], held: [] },
    {
      name: "three of ten at once",
      gone: ["c", "b", "a"],
      givenUp: [],
      nodeCount: 10,
      released: ["a", "b"],
      held: ["c"],
    },
    {
      name: "those before count",
      gone: ["c", "d"],
      givenUp: [{ node: "a", atMs: T - MINUTE }],
      nodeCount: 10,
      released: ["c"],
      held: ["d"],
    },
    {
      name: "one that was given up is not counted again",
      gone: ["a", "c"],
      givenUp: [
        { node: "a", atMs: T - MINUTE },
        { node: "a", atMs: T - 2 * MINUTE },
      ],
      nodeCount: 10,
      released: ["a", "c"],
      held: [],
    },
    {
      name: "after ten minutes there is room again",
      gone: ["c", "d"],
      givenUp: [
        { node: "a", atMs: T - 10 * MINUTE },
        { node: "b", atMs: T - 11 * MINUTE },
      ],
      nodeCount: 10,
      released: ["c", "d"],
      held: [],
    },
  ];
  for (const { name, released, held, ...question } of cases)
    it(`${name}: gives up ${released.join(", ") || "nobody"}, holds ${held.join(", ") || "nobody"}`, () => {
      expect(brake({ ...question, nowMs: T }, BRAKE_RULE)).to.deep.include({ released, held });
    });

  it("says whom it holds and until when", () => {
    const givenUp = [{ node: "a", atMs: T - 4 * MINUTE }];
    const verdict = brake({ gone: ["b", "c"], givenUp, nodeCount: 5, nowMs: T }, BRAKE_RULE);
    expect(brakeWords(verdict, 5, BRAKE_RULE)).to.match(
      /^nodes b, c went away, and within 10 min at most 1 of 5 nodes are given up: .* at 12:06:00 UTC at the earliest$/,
    );
  });

  it("never gives up more than its share in any window, whoever leads", () => {
    const step = fc.record({
      waitMs: fc.integer({ min: 0, max: 4 * MINUTE }),
      lost: fc.array(fc.integer({ min: 0, max: 39 }), { maxLength: 12 }),
      back: fc.array(fc.integer({ min: 0, max: 39 }), { maxLength: 6 }),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), fc.integer({ min: 1, max: 60 }), (steps, sharePercent) => {
        const rule: BrakeRule = { sharePercent, windowMs: 10 * MINUTE };
        const written: GivenUp[] = []; // all that a new leader knows: nothing is remembered but this
        const gone = new Set<string>();
        let nowMs = T;
        for (const { waitMs, lost, back } of steps) {
          nowMs += waitMs;
          for (const index of lost) gone.add(`n${index}`);
          for (const index of back) gone.delete(`n${index}`);
          const before = written.filter(({ atMs }) => atMs > nowMs - rule.windowMs).map(({ node }) => node);
          const { released, held } = brake({ gone: [...gone], givenUp: written, nodeCount: 40, nowMs }, rule);
          expect([...released, ...held].sort()).to.deep.equal([...gone].sort());
          for (const node of released) if (!before.includes(node)) written.push({ node, atMs: nowMs });
          const recent = new Set(written.filter(({ atMs }) => atMs > nowMs - rule.windowMs).map(({ node }) => node));
          expect(recent.size).to.be.at.most(allowanceOf(rule, 40));
          expect(held.length === 0 || recent.size === allowanceOf(rule, 40), "holds only where it must").to.equal(true);
        }
      }),
    );
  });
});

describe("a plan while nodes are held", () => {
  const nodes = ["a", "b", "c", "d"].map((name) => aNode(name, { freeBytes: roomForLayers(6) }));
  const fresh = aWorld(nodes, aModel());
  const world = inForce(fresh, plan(fresh));
  const [lost] = world.previous?.assignments ?? [];
  const why = "nodes went away";

  it("touches nothing on them, though their ranks are gone, and says why", () => {
    const seen = {
      ...world,
      nodes: nodes.map((node) => ({ ...node, ready: node.name !== lost?.node })),
      ranks: world.ranks.filter(({ assignment }) => assignment !== lost),
      held: { nodes: [lost?.node ?? ""], why },
    };
    const decided = plan(seen);
    expect(decided.actions.filter(isTouched)).to.deep.equal([]);
    expect(decided.placement?.assignments).to.deep.equal(world.previous?.assignments);
    expect(decided.conditions[0]).to.include({ type: "Planned", status: "True", reason: "BrakeHolds" });
    expect(decided.conditions[0]?.message).to.contain(why);
  });

  it("is not left for a better one", () => {
    const quick = aNode("z", { memoryBytesPerSecond: 9e12 });
    const joined = { ...world, nodes: [...nodes, quick] };
    expect(plan(joined).actions.some(isTouched)).to.equal(true);
    const held = { ...joined, held: { nodes: [lost?.node ?? ""], why } };
    expect(plan(held).actions.filter(isTouched)).to.deep.equal([]);
  });
});
