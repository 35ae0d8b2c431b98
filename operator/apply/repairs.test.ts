import { expect } from "chai";
import { aModel, aNode, aWorld, roomForLayers } from "../plan/builders.ts";
import { rankName } from "../plan/names.ts";
import { plan } from "../plan/plan.ts";
import { inForce, without } from "../plan/standing-world.ts";
import type { RankState, World } from "../plan/types.ts";
import { type Before, RepairBook, type Repairs, lossIn, repairsAfter } from "./repairs.ts";

const model = aModel({ spares: 1 });
const nodes = ["a", "b", "c"].map((name) => aNode(name, { freeBytes: roomForLayers(6) }));
const fresh = aWorld(nodes, model);
const world = inForce(fresh, plan(fresh));
const chain = world.previous?.assignments.filter((each) => each.chain === 0) ?? [];
const [lost] = chain;
const name = lost === undefined ? "" : rankName(model, lost);
const reported = (ready = true): Before["reported"] => ({
  status: { rankStates: world.ranks.map((rank) => ({ name: rank.name, phase: "Ready", ready })) },
});
const known = (set: Partial<Before> = {}): Before => ({ reported: reported(), takenAway: new Set(), ...set });
const withRank = (phase: RankState["phase"] | undefined): World => ({
  ...world,
  ranks: world.ranks.flatMap((rank) =>
    rank.name !== name ? [rank] : phase === undefined ? [] : [{ ...rank, phase, detail: "" }],
  ),
});

describe("repairs", () => {
  const cases: readonly (readonly [string, World, Before, string | undefined])[] = [
    ["all is well", world, known(), undefined],
    ["its machine is gone", withRank("Lost"), known(), "NodeGone"],
    [
      "its node is no longer offered",
      { ...world, nodes: nodes.filter((node) => node.name !== lost?.node) },
      known(),
      "NodeGone",
    ],
    ["it failed", withRank("Failed"), known(), "RankFailed"],
    ["its process began again", withRank("Starting"), known(), "RankRestarted"],
    ["somebody deletes it", withRank("Leaving"), known(), "RankDeleted"],
    ["somebody has deleted it", withRank(undefined), known(), "RankDeleted"],
    ["the operator deletes it", withRank("Leaving"), known({ takenAway: new Set([name]) }), undefined],
    ["it was never ready", withRank("Starting"), known({ reported: reported(false) }), undefined],
    ["nothing was reported yet", withRank("Starting"), known({ reported: undefined }), undefined],
  ];
  for (const [what, seen, reportedBefore, cause] of cases)
    it(`${cause ?? "none"} where ${what}`, () => {
      const loss = cause === undefined ? undefined : { rank: name, node: lost?.node, cause };
      expect(lossIn(seen, reportedBefore)).to.deep.equal(loss);
    });

  it("of what the operator took away are none, unless it was lost before", () => {
    for (const [seen, count] of [
      [world, undefined],
      [withRank("Failed"), 1],
    ] as const) {
      const book = new RepairBook();
      book.takenAway(seen, name);
      const down = { ...plan(world), readyChainCount: 0 };
      expect(book.look(withRank(undefined), down, undefined, reported(), 0).repairs.repairs?.count).to.equal(count);
    }
  });

  it("a spare's loss costs no session, and is none", () => {
    const spare = world.previous?.assignments.find((each) => each.chain !== 0);
    expect(lossIn(without(world, spare?.node ?? ""), known())).to.equal(undefined);
  });

  it("last from the loss until every chain serves, one at a time, and then stay as they are", () => {
    const serving = plan({ ...world, probes: [{ chain: 0, passed: true, detail: "" }] });
    const down = { ...serving, readyChainCount: 0 };
    const loss = { rank: name, node: "a", cause: "RankFailed" } as const;
    const t = Date.parse("2026-01-01T00:00:00Z");
    const told: (Repairs | undefined)[] = [];
    const look = (set: typeof loss | undefined, decided: typeof serving, seconds: number) => {
      const { repairs, over } = repairsAfter(told.at(-1), set, decided, t + 1000 * seconds);
      told.push(repairs);
      return over;
    };
    expect(serving.readyChainCount).to.equal(1);
    expect(look(undefined, serving, 0)).to.equal(undefined);
    expect(told.at(-1)).to.equal(undefined);
    look(loss, down, 10);
    look({ ...loss, rank: "another" }, down, 11);
    look(undefined, down, 12);
    expect(told.at(-1)).to.deep.equal({ count: 1, last: { ...loss, startedAt: "2026-01-01T00:00:10.000Z" } });
    expect(look(undefined, serving, 14.26)).to.deep.equal({ cause: "RankFailed", seconds: 4.26 });
    expect(told.at(-1)?.last?.secondsToServe).to.equal(4.3);
    expect(look(undefined, serving, 99)).to.equal(undefined);
    expect(told.at(-1)).to.equal(told.at(-2), "nothing to be written");
    look(loss, down, 100);
    expect(told.at(-1)?.count).to.equal(2);
  });
});
