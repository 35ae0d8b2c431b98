/** Chains that go while they serve: their sessions end first, and what they need stays until then. */
import { expect } from "chai";
import { aModel, aNode, aWorld, roomForLayers } from "./builders.ts";
import { rankName } from "./names.ts";
import { plan } from "./plan.ts";
import { routesOf } from "./routes.ts";
import { inForce, isTouched } from "./standing-world.ts";
import type { Draining, Known, NodeFacts, Plan } from "./types.ts";

const node = (name: string, layers = 6) => aNode(name, { freeBytes: roomForLayers(layers) });
const standing = (names: readonly string[], replicas = 1): Known => {
  const fresh: Known = {
    ...aWorld(
      names.map((name) => node(name)),
      aModel({ replicas }),
    ),
    draining: [],
  };
  return inForce(fresh, plan(fresh));
};
const touched = (decided: Plan) => decided.actions.filter(isTouched).map((each) => `${each.do} ${each.name}`);
const chains = (decided: Plan) => decided.placement && routesOf(decided.placement).map(({ chain }) => chain);
const left = ({ leaving }: Plan) => leaving?.routes.map(({ chain }) => chain) ?? [];
const leave = (world: Known, name: string, leaving: NonNullable<NodeFacts["leaving"]>): Known => ({
  ...world,
  nodes: world.nodes.map((each) => (each.name === name ? { ...each, ready: false, leaving } : each)),
});
const marked = (world: Known, mark: Partial<Draining>): Known => ({
  ...world,
  draining: (world.draining ?? []).map((each) => ({ ...each, ...mark })),
});
const rankOn = (world: Known, name: string): string => {
  const assignment = world.previous?.assignments.find((each) => each.node === name);
  if (assignment === undefined) throw new Error(`${name} holds nothing`);
  return rankName(world.model, assignment);
};

describe("a chain through a node that is drained", () => {
  const before = leave({ ...standing(["a", "b"]), nodes: ["a", "b", "c"].map((name) => node(name)) }, "a", "Drained");
  const copied = inForce(before, plan(before));
  const tried = plan(copied);
  const trial = inForce(copied, tried);
  const passed: Known = { ...trial, probes: [{ chain: 1, passed: true, detail: "" }] };
  const moved = plan(passed);

  it("stays open beside the one that is to take its place, until a request has gone through that", () => {
    expect([touched(tried), chains(tried), left(tried)]).to.deep.equal([[], [0], []]);
    expect(tried.trial?.map(({ chain }) => chain)).to.deep.equal([1]);
    const probes = (decided: Plan) =>
      decided.actions.flatMap((action) => (action.do === "probe" ? [action.chain] : []));
    expect(probes(tried)).to.include(1);
    expect(trial.previous?.routes?.map(({ chain }) => chain)).to.deep.equal([0, 1]);
    const failed: Known = { ...trial, probes: [{ chain: 1, passed: false, detail: "no" }] };
    for (const world of [trial, failed]) {
      const again = plan(world);
      expect([touched(again), chains(again), again.trial]).to.deep.equal([[], [0], tried.trial]);
      expect(again.placement).to.deep.equal(tried.placement);
      expect(probes(again)).to.include(1);
    }
    const undone = plan({ ...trial, nodes: ["a", "b", "c"].map((name) => node(name)) });
    expect([chains(undone), undone.trial], "the drain was called off").to.deep.equal([[0], undefined]);
    const broken = plan({
      ...trial,
      ranks: trial.ranks.map((rank) => (rank.assignment.node === "a" ? { ...rank, phase: "Failed" as const } : rank)),
    });
    expect([chains(broken), broken.trial], "nothing else is left").to.deep.equal([[0], undefined]);
  });

  it("goes on beside the one that takes its place, under its own number", () => {
    expect(touched(moved)).to.deep.equal([]);
    expect([chains(moved), left(moved)]).to.deep.equal([[1], [0]]);
    expect(moved.placement?.assignments.map((each) => each.node)).to.have.members(["b", "c"]);
    expect(moved.leaving?.assignments.map((each) => each.node)).to.deep.equal(["a"]);
    const { draining: _, ...forgetful } = copied;
    expect(touched(plan(forgetful)), "where nobody would remember").to.deep.equal([
      `delete-rank ${rankOn(before, "a")}`,
    ]);
  });

  const draining = inForce(copied, moved);
  it("stays while sessions run on it, and rests", () => {
    const again = plan(draining);
    expect([touched(again), chains(again), left(again)]).to.deep.equal([[], [1], [0]]);
    expect(again.placement).to.deep.equal(moved.placement);
  });

  for (const [why, mark] of [
    ["they have ended", { isQuiet: true }],
    ["they have had their time", { seconds: 300 }],
  ] as const)
    it(`goes once ${why}, and its own ranks alone`, () => {
      const gone = plan(marked(draining, mark));
      expect([touched(gone), chains(gone), left(gone)]).to.deep.equal([
        [`delete-rank ${rankOn(before, "a")}`],
        [1],
        [],
      ]);
    });

  it("goes at once where a rank of it no longer serves", () => {
    const ranks = draining.ranks.map((rank) =>
      rank.assignment.node === "a" ? { ...rank, phase: "Leaving" as const } : rank,
    );
    const gone = plan({ ...draining, ranks });
    expect([touched(gone), chains(gone), left(gone)]).to.deep.equal([[], [1], []]);
  });

  it("gives its name to nobody before it has gone, be its other node drained meanwhile", () => {
    const both = leave({ ...draining, nodes: [...draining.nodes, node("d")] }, "b", "Drained");
    const second = inForce(both, plan(both));
    const next = plan(second);
    expect([touched(next), chains(next), next.trial?.map(({ chain }) => chain)]).to.deep.equal([[], [1], [2]]);
    const after = plan({ ...inForce(second, next), probes: [{ chain: 2, passed: true, detail: "" }] });
    expect(touched(after)).to.deep.equal([]);
    const names = [...(after.placement?.assignments ?? []), ...(after.leaving?.assignments ?? [])];
    expect(new Set(names.map((each) => rankName(both.model, each))).size).to.equal(names.length);
    expect(after.placement?.assignments.map((each) => each.node)).to.have.members(["c", "d"]);
    expect(left(after)).to.have.members([0, 1]);
  });
});

describe("a chain that fewer replicas leave", () => {
  const two = standing(["a", "b", "c", "d"], 2);
  const one: Known = { ...two, model: { ...two.model, replicas: 1 } };
  const decided = plan(one);
  const draining = inForce(one, decided);

  it("drains, and its ranks go once it is quiet", () => {
    expect([touched(decided), chains(decided), left(decided)]).to.deep.equal([[], [0], [1]]);
    expect(decided.readyChainCount).to.be.at.most(1);
    const gone = plan(marked(draining, { isQuiet: true }));
    expect(touched(gone)).to.have.length(2);
    expect(touched(gone).every((each) => each.startsWith("delete-rank"))).to.equal(true);
  });

  it("is taken back where it is asked for again", () => {
    const back = plan({ ...draining, model: two.model });
    expect([touched(back), chains(back), left(back)]).to.deep.equal([[], [0, 1], []]);
  });

  it("goes at once where it is given no time, or its provider is refused", () => {
    const update = { maxSurge: 1, maxUnavailable: 0, progressSeconds: 600, drainSeconds: 0 };
    expect(left(plan({ ...one, model: { ...one.model, update } }))).to.deep.equal([]);
    const provider = two.previous?.assignments.find(({ chain }) => chain === 1)?.provider ?? "";
    const { placement } = one.model;
    const refused = plan({ ...one, model: { ...one.model, placement: { ...placement, providersDeny: [provider] } } });
    expect(left(refused)).to.deep.equal([]);
  });
});

describe("a drained node whose shard finds no room", () => {
  const full = leave(standing(["a", "b"]), "a", "Drained");
  const said = (decided: Plan) => decided.conditions.find(({ type }) => type === "Planned");

  it("keeps it, and says the smallest change that would let it go", () => {
    const decided = plan(full);
    expect(touched(decided)).to.deep.equal([]);
    expect(decided.stuck?.map(({ node: name, ranks }) => [name, ranks])).to.deep.equal([["a", [rankOn(full, "a")]]]);
    expect(said(decided)).to.include({ status: "True", reason: "DrainBlocked" });
    expect(said(decided)?.message).to.match(
      /^node a is drained and keeps what it holds: no other node may hold \S+ \(layers 0–6, .*\)\. It would fit with: .*add a node with ≥ /,
    );
    const [, size = ""] = /add a node with ≥ ([\d.]+) MiB/.exec(said(decided)?.message ?? "") ?? [];
    const added = (bytes: number) => plan({ ...full, nodes: [...full.nodes, aNode("c", { freeBytes: bytes })] });
    expect(touched(added(Number(size) * 2 ** 20))).to.have.length(1);
    expect(said(added(Number(size) * 2 ** 20))?.reason).to.equal("Placed");
  });

  it("is not copied to where no wish lets it stand in", () => {
    const others = full.nodes.map((each) => ({ ...each, provider: each.name }));
    const { placement } = full.model;
    const world: Known = {
      ...full,
      model: { ...full.model, placement: { ...placement, providersMin: 2 } },
      nodes: [...others, aNode("c", { freeBytes: roomForLayers(6), provider: "b" })],
      previous: full.previous && {
        ...full.previous,
        assignments: full.previous.assignments.map((each) => ({ ...each, provider: each.node })),
      },
    };
    expect([touched(plan(world)), said(plan(world))?.reason]).to.deep.equal([[], "DrainBlocked"]);
  });
});
