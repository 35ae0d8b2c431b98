import { expect } from "chai";
import fc from "fast-check";
import { parseShardPlan } from "../../core/gen/crds/shardplan.ts";
import { FACTS, aModel, aNode, aPartNode, aWorld, roomForLayers } from "../plan/builders.ts";
import { withLeaving } from "../plan/leaving.ts";
import { place } from "../plan/place.ts";
import { plan } from "../plan/plan.ts";
import { inForce } from "../plan/standing-world.ts";
import type { Known, RankState } from "../plan/types.ts";
import { factsIn } from "./facts.ts";
import { drainingIn, drainingSpec, shardPlanSpec, shardPlanStatus, standingPlanIn } from "./shard-plan.ts";

const CONFIG_TEXT = JSON.stringify({
  model_type: "llama",
  hidden_size: 256,
  intermediate_size: 1024,
  num_hidden_layers: 12,
  num_attention_heads: 8,
  num_key_value_heads: 2,
  vocab_size: 1000,
});
const READ = { ...FACTS, root: `sha256:${"0".repeat(64)}`, configText: CONFIG_TEXT };

describe("a ShardPlan", () => {
  it("says all that its assignments say, and passes its own schema", () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.record({
            provider: fc.constantFrom("x", "y", "z"),
            memoryBytesPerSecond: fc.integer({ min: 1, max: 1e11 }),
          }),
          { minLength: 1, maxLength: 6 },
        ),
        fc.integer({ min: 1, max: 3 }),
        fc.integer({ min: 1, max: 3 }),
        (offers, replicas, tensorParallelMax) => {
          const model = aModel({ replicas }, { tensorParallelMax });
          const placed = place(
            aWorld(
              offers.map((offer, index) => aNode(`n${index}`, offer)),
              model,
            ),
            { evaluationCount: 30 },
          );
          fc.pre(placed.ok);
          if (!placed.ok) return;
          const spec = shardPlanSpec(model, READ, "r1", placed.value);
          const { assignments, routes } = standingPlanIn({ spec });
          expect(assignments).to.deep.equal(placed.value.assignments);
          expect(routes?.map(({ segments }) => segments)).to.deep.equal(
            placed.value.routes?.map(({ segments }) => segments),
          );
          const object = { apiVersion: "tessellate.dev/v1alpha1", kind: "ShardPlan", metadata: { name: "tiny" }, spec };
          expect(parseShardPlan(JSON.parse(JSON.stringify(object)))).to.include({ ok: true });
        },
      ),
      { numRuns: 12 },
    );
  });

  it("remembers which chains drain, and since when, whoever reads it", () => {
    const nodes = ["n0", "n1"].map((name) => aNode(name, { freeBytes: roomForLayers(14) }));
    const world: Known = { ...aWorld(nodes, aModel({ replicas: 2 })), facts: READ, draining: [] };
    const standing = inForce(world, plan(world));
    const { placement, leaving } = plan({ ...standing, model: { ...standing.model, replicas: 1 } });
    if (placement === undefined) throw new Error("no placement");
    const spec = (before: Parameters<typeof drainingSpec>[1], nowMs: number) => ({
      ...shardPlanSpec(aModel(), READ, "r1", withLeaving(placement, leaving)),
      ...drainingSpec(leaving, before, nowMs),
    });
    const first = spec(undefined, 60_000);
    const again = spec(first, 90_000);
    expect(again).to.deep.equal(first);
    const object = {
      apiVersion: "tessellate.dev/v1alpha1",
      kind: "ShardPlan",
      metadata: { name: "tiny" },
      spec: first,
    };
    expect(parseShardPlan(JSON.parse(JSON.stringify(object)))).to.include({ ok: true });
    expect(drainingIn({ spec: first }, 90_500, (chain) => chain === 1)).to.deep.equal([
      { chain: 1, seconds: 30, isQuiet: true },
    ]);
    expect(standingPlanIn({ spec: first }).routes?.map(({ chain }) => chain)).to.deep.equal([0, 1]);
    expect(drainingSpec(undefined, first, 90_000)).to.deep.equal({});
  });

  it("holds what planning needs to know of the model", () => {
    const spec = shardPlanSpec(aModel(), READ, "r1", {
      assignments: [],
      leftOut: [],
      estimate: { millisecondsPerToken: 0, bottleneck: "" },
    });
    const facts = factsIn({ apiVersion: "", kind: "", metadata: { name: "tiny" }, spec });
    expect(facts.ok && facts.value.config.layerCount).to.equal(12);
    expect(facts.ok && facts.value.root).to.equal(READ.root);
  });

  it("counts the ranks that are ready, and names those that are missing", () => {
    const placed = place(aWorld([aPartNode("a"), aPartNode("b")]));
    const assignments = placed.ok ? placed.value.assignments : [];
    const [first] = assignments;
    const ranks: readonly RankState[] =
      first === undefined
        ? []
        : [
            {
              name: "tiny-0-0-0",
              assignment: first,
              revision: "r1",
              phase: "Ready",
              address: "10.0.0.1:7400",
              detail: "",
            },
          ];
    expect(shardPlanStatus(aModel(), assignments, ranks, 3)).to.deep.equal({
      observedGeneration: 3,
      ranks: "1/2",
      rankStates: [
        { name: "tiny-0-0-0", phase: "Ready", ready: true, address: "10.0.0.1:7400" },
        { name: "tiny-0-1-0", phase: "Missing", ready: false },
      ],
    });
  });
});
