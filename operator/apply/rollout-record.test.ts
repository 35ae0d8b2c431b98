import { expect } from "chai";
import type { ShardPlan } from "../../core/gen/crds/shardplan.ts";
import { FACTS, aModel, aNode, aWorld, roomForLayers } from "../plan/builders.ts";
import { plan } from "../plan/plan.ts";
import { standingPlanOf } from "../plan/revision.ts";
import type { Rolled, Side } from "../plan/types.ts";
import { outgoingIn, rollsIn, withRollout } from "./rollout-record.ts";
import { assignmentsIn, shardPlanSpec, standingPlanIn } from "./shard-plan.ts";
import { toldOf } from "./sides.ts";

const CONFIG = JSON.stringify({
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  hidden_size: 256,
  num_hidden_layers: 12,
  num_attention_heads: 8,
  num_key_value_heads: 2,
  intermediate_size: 1024,
  vocab_size: 1000,
  rms_norm_eps: 1e-5,
  rope_theta: 10_000,
  max_position_embeddings: 2048,
  hidden_act: "silu",
});
const ROOT = `sha256:${"0".repeat(64)}`;
const facts = { ...FACTS, root: ROOT, configText: CONFIG };
const nodes = ["n0", "n1"].map((name) => aNode(name, { freeBytes: roomForLayers(14) }));

/** One chain of a revision, under a number. */
function aSide(chain: number, handOffDtype: "f16" | "f32"): Side {
  const model = aModel({ handOffDtype, objective: { kind: "Latency" } });
  const { placement, revision } = plan({ ...aWorld(nodes, model), facts, reservedChains: chain === 0 ? [] : [0] });
  if (placement === undefined) throw new Error("no placement");
  const { source, quantization, kvDtype, contextLength, slotCount } = model;
  const form = { source, quantization, kvDtype, contextLength, slotCount, handOffDtype, image: "ranks:1" };
  return { form, facts, plan: standingPlanOf(revision, placement, model) };
}

describe("a rollout on record", () => {
  const [old, next] = [aSide(0, "f32"), aSide(1, "f16")];
  const model = aModel({ handOffDtype: "f16" });
  const rolled: Rolled = {
    form: next.form,
    facts,
    outgoing: [old],
    unproven: [1],
    draining: [0],
    isProgress: true,
    refused: { wish: "abc", revision: "an earlier one", why: "it was slow" },
  };
  const placement = { ...next.plan, leftOut: [], estimate: { millisecondsPerToken: 1, bottleneck: "n0" } };
  const plain = shardPlanSpec(model, facts, next.plan.revision, placement);
  const written = (set: Partial<Rolled>, before?: ShardPlan["spec"], nowMs = 60_000): ShardPlan["spec"] =>
    JSON.parse(JSON.stringify(withRollout(plain, model, { ...rolled, ...set }, before, nowMs)));
  const asPlan = (spec: ShardPlan["spec"]): ShardPlan => ({ metadata: { name: "tiny" }, spec }) as ShardPlan;

  it("is read as it was written, each revision by itself", () => {
    const spec = written({});
    expect(standingPlanIn({ spec }).assignments).to.deep.equal(next.plan.assignments);
    expect(standingPlanIn({ spec }).routes?.map(({ chain }) => chain)).to.deep.equal([1]);
    const { config: _, ...other } = facts;
    const [read] = outgoingIn(asPlan(spec));
    expect(read?.form).to.deep.equal(old.form);
    expect(read?.facts).to.deep.include({ root: other.root, configText: CONFIG });
    expect(read?.plan.assignments).to.deep.equal(old.plan.assignments);
    expect(read?.plan.revision).to.equal(old.plan.revision);
    const rolls = rollsIn(asPlan(spec), facts, model, 90_500);
    expect(rolls).to.deep.include({ unproven: [1], draining: [{ chain: 0, seconds: 30 }], stalledSeconds: 30 });
    expect(rolls.refused).to.deep.equal(rolled.refused);
    expect(rolls.inForce?.form).to.deep.equal(next.form);
    expect(written({ isProgress: false }, spec, 99_000)).to.deep.equal(
      spec,
      "nothing is written where nothing changed",
    );
  });

  it("keeps apart what is left for a better plan and that plan, though they are of one revision", () => {
    const { revision } = next.plan;
    const left: Side = { ...next, plan: { ...old.plan, revision } };
    const better = { gainPercent: 80, plan: "3f9a1c22d0b1" };
    const spec = { ...written({ outgoing: [left] }), better };
    expect(standingPlanIn({ spec })).to.deep.include({ revision, better, assignments: next.plan.assignments });
    const [read] = outgoingIn(asPlan(spec));
    expect(read?.plan).to.deep.include({ revision, assignments: old.plan.assignments });
    expect(read?.plan).to.not.have.property("better");
  });

  it("tells ranks of both such plans of their own neighbours", () => {
    const left: Side = { ...next, plan: { ...old.plan, revision: next.plan.revision } };
    const decided = { placement, revision: next.plan.revision, actions: [], conditions: [], readyChainCount: 1 };
    const told = toldOf(
      { ...aWorld(nodes, model), facts },
      { ...decided, rolled: { ...rolled, outgoing: [left] } },
      next.plan.revision,
    );
    expect(told?.placement.routes?.map(({ chain }) => chain)).to.have.members([0, 1]);
    expect(told?.placement.assignments).to.have.length(next.plan.assignments.length + old.plan.assignments.length);
  });

  it("counts the memory of all revisions", () => {
    const all = [...next.plan.assignments, ...old.plan.assignments];
    expect(assignmentsIn({ spec: written({}) })).to.have.deep.members(all);
  });

  it("starts the time anew with each progress, and keeps since when a chain drains", () => {
    const spec = written({ isProgress: true }, written({}), 99_000);
    expect(spec.rollout?.draining).to.deep.equal([{ chain: 0, since: "1970-01-01T00:01:00.000Z" }]);
    expect(spec.rollout?.progressed).to.equal("1970-01-01T00:01:39.000Z");
    expect(spec.rollout?.since).to.equal("1970-01-01T00:01:00.000Z");
  });

  it("is no more once it is over", () => {
    const spec = written({ outgoing: [], unproven: [], draining: [] });
    expect([spec.rollout, spec.outgoing]).to.deep.equal([undefined, undefined]);
    expect(rollsIn(asPlan(spec), facts, model, 0).stalledSeconds).to.equal(undefined);
  });
});
