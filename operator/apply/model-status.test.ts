/** A model's life as those read it who know Kubernetes' conventions and none of our conditions: Argo CD, Flux, kubectl. */
import { expect } from "chai";
import type { ShardedModelStatus } from "../../core/gen/crds/shardedmodel.ts";
import { aModel, aNode, aWorld, roomForLayers } from "../plan/builders.ts";
import { plan } from "../plan/plan.ts";
import { inForce, without } from "../plan/standing-world.ts";
import type { Condition, Known, Plan } from "../plan/types.ts";
import { isHappening, modelStatus } from "./model-status.ts";

type Read = "InProgress" | "Current" | "Failed" | "Terminating";
type Seen = {
  readonly generation: number;
  readonly isDeleted?: boolean;
  readonly status: ShardedModelStatus;
};

/** By the rules of kstatus for resources that it does not know: sigs.k8s.io/cli-utils, pkg/kstatus. */
function kstatusOf({ generation, isDeleted = false, status }: Seen): Read {
  if (isDeleted) return "Terminating";
  if (status.observedGeneration !== generation) return "InProgress";
  const holds = (type: string) => status.conditions?.find((each) => each.type === type)?.status;
  if (holds("Reconciling") === "True") return "InProgress";
  if (holds("Stalled") === "True") return "Failed";
  const ready = holds("Ready");
  return ready === "True" || ready === undefined ? "Current" : "InProgress";
}

const nodes = ["a", "b"].map((name) => aNode(name, { freeBytes: roomForLayers(14) }));
const fresh = aWorld(nodes, aModel({ generation: 3 }));
const standing = inForce(fresh, plan(fresh));
const chain = { chain: 0, passed: true, detail: "" };
const serving: Known = { ...standing, probes: [chain] };
const starting: Known = { ...standing, ranks: standing.ranks.map((rank) => ({ ...rank, phase: "Starting" })) };

const upToDate = (status: Condition["status"], reason: string): Condition => ({
  type: "UpToDate",
  status,
  reason,
  message: "so it is",
});
const seen = (world: Known, decided: Plan = plan(world)): Seen => ({
  generation: 3,
  status: modelStatus(world, decided, undefined, 0),
});
const rolling = (status: Condition["status"], reason: string): Seen => {
  const decided = plan(serving);
  return seen(serving, { ...decided, conditions: [...decided.conditions, upToDate(status, reason)] });
};

const moving = (): Seen => {
  const decided = plan(serving);
  const planned = decided.conditions.map((each) => (each.type === "Planned" ? { ...each, reason: "Moving" } : each));
  return seen(serving, { ...decided, conditions: [...planned, upToDate("True", "AsAsked")] });
};

describe("what kstatus makes of a model", () => {
  const lost = without(serving, serving.previous?.assignments[0]?.node ?? "");
  const life: readonly (readonly [what: string, seen: Seen, read: Read])[] = [
    ["made, and no node is there", seen({ ...fresh, nodes: [] }), "InProgress"],
    ["planned", seen(fresh), "InProgress"],
    ["its ranks start", seen(starting), "InProgress"],
    ["they are ready, nothing went through", seen(standing), "InProgress"],
    ["it serves", seen(serving), "Current"],
    ["turned off", seen({ ...serving, model: { ...serving.model, replicas: 0 } }), "Current"],
    [
      "turned off and asleep",
      seen({
        ...serving,
        model: { ...serving.model, replicas: 0 },
        ...(serving.previous === undefined ? {} : { previous: { ...serving.previous, asleep: "TurnedOff" } }),
        demand: { isAsked: false, isIdle: true, isLetGo: true },
      }),
      "Current",
    ],
    ["moves to a better plan", moving(), "Current"],
    ["changed, and nobody has looked", { ...seen(serving), generation: 4 }, "InProgress"],
    ["rolls out", rolling("False", "RollingOut"), "InProgress"],
    ["rolls back", rolling("False", "RollingBack"), "InProgress"],
    ["was rolled back", rolling("False", "RolledBack"), "Failed"],
    ["finds no room to roll", rolling("False", "NoRoomToRoll"), "Failed"],
    ["waits for somebody's consent", rolling("False", "AwaitsApproval"), "Failed"],
    ["is as asked", rolling("True", "AsAsked"), "Current"],
    ["lost a node, and all that served", seen(lost), "InProgress"],
    [
      "another manifest than was asked for",
      seen({ ...fresh, model: { ...fresh.model, digest: "sha256:1" } }),
      "Failed",
    ],
    ["deleted", { ...seen(serving), isDeleted: true }, "Terminating"],
  ];
  for (const [what, object, read] of life) it(`${what}: ${read}`, () => expect(kstatusOf(object)).to.equal(read));

  it("has no condition of kstatus' own at rest, and one with its reason otherwise", () => {
    const typesOf = ({ status }: Seen) =>
      (status.conditions ?? []).flatMap(({ type, reason }) =>
        type === "Reconciling" || type === "Stalled" ? [`${type} ${reason}`] : [],
      );
    expect(typesOf(rolling("True", "AsAsked"))).to.deep.equal([]);
    expect(typesOf(rolling("False", "RollingOut"))).to.deep.equal(["Reconciling RollingOut"]);
    expect(typesOf(rolling("False", "RolledBack"))).to.deep.equal(["Stalled RolledBack"]);
  });
});

describe("which conditions that turned an event tells of", () => {
  const table: [string, readonly [string, "True" | "False", string], boolean, boolean][] = [
    ["serves", ["Ready", "True", "Serving"], false, true],
    ["serves no more", ["Ready", "False", "RanksStarting"], true, true],
    ["nothing is ready at first", ["Ready", "False", "RanksStarting"], false, false],
    ["planned: the plan's own event says so", ["Planned", "True", "Placed"], false, false],
    ["no plan", ["Planned", "False", "NoPlacement"], false, true],
    ["moves to a better plan", ["Planned", "True", "Moving"], true, true],
    ["a better plan waits", ["Planned", "True", "BetterPlanWaits"], true, true],
    ["how far ranks are", ["WeightsReady", "False", "Loading"], true, false],
    ["taken back", ["UpToDate", "False", "RolledBack"], true, true],
  ];
  for (const [what, [type, status, reason], wasThere, want] of table)
    it(what, () => expect(isHappening({ type, status, reason, message: "" }, wasThere)).to.equal(want));
});
