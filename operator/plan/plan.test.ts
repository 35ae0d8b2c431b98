import { expect } from "chai";
import fc from "fast-check";
import { aModel, aNode, aPartNode, aWorld, roomForLayers } from "./builders.ts";
import { rankName } from "./names.ts";
import { plan as planned } from "./plan.ts";
import { revisionOf, standingPlanOf } from "./revision.ts";
import type { Action, Assignment, Plan, Probe, RankState, World } from "./types.ts";

/** These worlds are small, and what is tested is not how good the plans are. */
const plan = (world: World): Plan => planned(world, { evaluationCount: 30, remedyPlanCountMax: 0 });

type Phase = RankState["phase"];
type Known = ReturnType<typeof aWorld>;

const TWO = [aPartNode("a"), aPartNode("b")];
const ROOMY = [aNode("a"), aNode("b")];

/** Ranks as they would be once the plan's assignments run. */
const running = (
  world: Known,
  assignments: readonly Assignment[],
  phases: Readonly<Record<string, Phase>> = {},
): readonly RankState[] =>
  assignments.map((assignment) => {
    const name = rankName(world.model, assignment);
    return {
      name,
      assignment,
      revision: revisionOf(world.model, world.facts),
      phase: phases[name] ?? "Ready",
      detail: "",
    };
  });

/** The world after a plan was carried out. */
const carriedOut = (world: Known, phases: Readonly<Record<string, Phase>> = {}, ...probes: readonly Probe[]): Known => {
  const { revision, placement } = plan(world);
  const previous = placement === undefined ? undefined : standingPlanOf(revision, placement, world.model);
  return { ...world, ranks: running(world, placement?.assignments ?? [], phases), previous, probes };
};
const PASSED = { chain: 0, passed: true, detail: "" };

const show = (action: Action) =>
  action.do === "probe" ? `probe ${action.chain}` : `${action.do === "create-rank" ? "+" : "-"} ${action.name}`;
const actions = (decided: Plan) => decided.actions.map(show);
const condition = (decided: Plan, type: string) => {
  const found = decided.conditions.find((each) => each.type === type);
  return `${found?.status} ${found?.reason}`;
};

describe("plan", () => {
  const serving = carriedOut(aWorld(TWO), {}, PASSED);
  const cases: readonly { name: string; world: World; actions: readonly string[]; ready: string }[] = [
    {
      name: "makes every rank of a new model",
      world: aWorld(TWO),
      actions: ["+ tiny-0-0-0", "+ tiny-0-1-0"],
      ready: "False RanksStarting",
    },
    {
      name: "waits while ranks load",
      world: carriedOut(aWorld(TWO), { "tiny-0-1-0": "Starting" }),
      actions: [],
      ready: "False RanksStarting",
    },
    { name: "probes a complete chain", world: carriedOut(aWorld(TWO)), actions: ["probe 0"], ready: "False Probing" },
    { name: "rests once the probe has passed", world: serving, actions: [], ready: "True Serving" },
    {
      name: "believes what an operator before it said, and asks itself",
      world: carriedOut(aWorld(TWO), {}, { ...PASSED, hearsay: true }),
      actions: ["probe 0"],
      ready: "True Serving",
    },
    {
      name: "says why a probe failed, and probes again",
      world: carriedOut(aWorld(TWO), {}, { chain: 0, passed: false, detail: "rank b: lost" }),
      actions: ["probe 0"],
      ready: "False ProbeFailed",
    },
    {
      name: "replaces the one rank that ended",
      world: carriedOut(aWorld(TWO), { "tiny-0-1-0": "Failed" }, PASSED),
      actions: ["- tiny-0-1-0"],
      ready: "False RanksStarting",
    },
    {
      name: "makes a rank again once the old one is gone",
      world: { ...serving, ranks: serving.ranks.slice(0, 1), probes: [] },
      actions: ["+ tiny-0-1-0"],
      ready: "False RanksStarting",
    },
    {
      name: "moves only the rank whose node is gone",
      world: { ...carriedOut(aWorld(TWO)), nodes: [aPartNode("a"), aPartNode("c")], ...lostNode("b") },
      actions: ["- tiny-0-1-0"], // the second segment's
      ready: "False RanksStarting",
    },
    {
      name: "makes a rank anew that was told of other neighbours",
      world: {
        ...serving,
        ranks: serving.ranks.map((rank, index) => ({ ...rank, neighbours: index === 0 ? ["default/tiny-0-1-0"] : [] })),
      },
      actions: ["- tiny-0-1-0"],
      ready: "True Serving",
    },
    {
      name: "rests at no chain at all",
      world: aWorld(TWO, aModel({ replicas: 0 })),
      actions: [],
      ready: "True ScaledToZero",
    },
    {
      name: "keeps a rank whose node only does not answer",
      world: { ...serving, nodes: [aPartNode("a"), aPartNode("b", { ready: false })] },
      actions: [],
      ready: "True Serving",
    },
    {
      name: "leaves all as it is when the model cannot be read",
      world: { ...serving, facts: { code: "Unreachable", detail: "hub" } },
      actions: [],
      ready: "True Serving",
    },
    {
      name: "refuses a source that holds another model",
      world: aWorld(TWO, aModel({ digest: "sha256:11" })),
      actions: [],
      ready: "False DigestMismatch",
    },
    {
      name: "replaces all ranks for another quantization",
      world: { ...serving, model: aModel({ quantization: "int8" }) },
      actions: ["- tiny-0-0-0", "- tiny-0-1-0"],
      ready: "False RanksStarting",
    },
    {
      name: "takes away the chains of fewer replicas",
      world: fewerReplicas(),
      actions: ["- tiny-1-0-0"],
      ready: "True Serving",
    },
    {
      name: "adds a chain without touching the first",
      world: moreReplicas(),
      actions: ["+ tiny-1-0-0"],
      ready: "True Serving",
    },
  ];
  for (const { name, world, actions: wanted, ready } of cases) {
    it(name, () => {
      const decided = plan(world);
      expect(actions(decided)).to.deep.equal(wanted);
      expect(condition(decided, "Ready")).to.equal(ready);
    });
  }

  it("names the node that took a lost node's shard", () => {
    const world = { ...carriedOut(aWorld(TWO)), nodes: [aPartNode("a"), aPartNode("c")] };
    const moved = plan(world).placement?.assignments.map(({ node }) => node);
    expect(moved).to.have.members(["a", "c"]);
    expect(plan(world).conditions[0]?.message).to.match(/moved tiny-0-\d-0 from b to c/);
  });

  it("comes to rest from any world, in a bounded number of rounds", () => {
    const phases = fc.array(fc.constantFrom<Phase>("Ready", "Failed", "Starting", "Lost"), {
      minLength: 4,
      maxLength: 4,
    });
    const nodes = fc.subarray([aNode("a"), aNode("b"), aNode("c", { freeBytes: roomForLayers(12) })], { minLength: 1 });
    fc.assert(
      fc.property(phases, nodes, (drawn, left) => {
        let world: Known = carriedOut(aWorld([aNode("a"), aNode("b"), aNode("x")]));
        world = {
          ...world,
          nodes: left,
          ranks: world.ranks.map((rank, index) => ({ ...rank, phase: drawn[index] ?? "Ready" })),
        };
        for (let round = 0; round < 4; round++) world = carryOut(world);
        expect(actions(plan(world))).to.deep.equal([]);
        expect(condition(plan(world), "Ready")).to.equal("True Serving");
      }),
      { numRuns: 25, seed: 3 },
    );
  });
});

/** A cluster that does at once what it is told. */
function carryOut(world: Known): Known {
  const decided = plan(world);
  let ranks = [...world.ranks];
  let probes = decided.actions.some((action) => action.do !== "probe") ? [] : world.probes;
  for (const action of decided.actions) {
    if (action.do === "delete-rank") ranks = ranks.filter(({ name }) => name !== action.name);
    if (action.do === "create-rank") {
      ranks.push({
        name: action.name,
        assignment: action.assignment,
        revision: decided.revision,
        phase: "Ready",
        detail: "",
      });
    }
    if (action.do === "probe") probes = [...probes, { chain: action.chain, passed: true, detail: "" }];
  }
  // What only starts will be ready in the next round.
  ranks = ranks.map((rank) => (rank.phase === "Starting" ? { ...rank, phase: "Ready" } : rank));
  const previous =
    decided.placement === undefined ? world.previous : standingPlanOf(decided.revision, decided.placement, world.model);
  return { ...world, ranks, previous, probes };
}

function lostNode(gone: string): Pick<World, "ranks" | "previous"> {
  const world = carriedOut(aWorld(TWO));
  const ranks = world.ranks.map(
    (rank): RankState => (rank.assignment.node === gone ? { ...rank, phase: "Lost" } : rank),
  );
  return { ranks: ranks.map((rank) => ({ ...rank })), previous: world.previous };
}

function fewerReplicas(): World {
  const world = carriedOut(aWorld(ROOMY, aModel({ replicas: 2 })), {}, PASSED);
  return { ...world, model: aModel({ replicas: 1 }) };
}

function moreReplicas(): World {
  const world = carriedOut(aWorld([aNode("a")]), {}, PASSED);
  return { ...world, nodes: ROOMY, model: aModel({ replicas: 2 }) };
}
