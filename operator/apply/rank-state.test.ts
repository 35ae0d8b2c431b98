import { expect } from "chai";
import type { JsonObject } from "../../core/json.ts";
import type { KubeObject } from "../kube/objects.ts";
import { aModel, aNode } from "../plan/builders.ts";
import type { Assignment } from "../plan/types.ts";
import { rankPod } from "./rank-objects.ts";
import { instanceOf, machineIsGone, machineIsReady, rankStateOf } from "./rank-state.ts";

const ASSIGNMENT: Assignment = {
  chain: 0,
  segment: 1,
  rank: 0,
  node: "a",
  provider: "a-owner",
  layers: { start: 4, end: 12 },
  sliceWeights: [1],
  weightBytes: 1000,
  kvBytes: 100,
};

/** The pod that we make for it, with what Kubernetes would add. */
const aPod = (status: JsonObject = {}, metadata: object = {}): KubeObject => {
  const made = rankPod({
    model: aModel(),
    assignment: ASSIGNMENT,
    node: aNode("a"),
    revision: "r1",
    neighbours: ["default/tiny-0-0-0"],
    renewAfter: "2027-01-01T00:00:00Z",
    secretName: "tiny-0.a-owner",
    image: "tessellate:test",
  });
  return { ...made, metadata: { ...made.metadata, uid: "u1", ...metadata }, status };
};
const condition = (type: string, status: string, message = "") => ({ type, status, message });
const container = (state: object, set: object = {}) => ({
  containerStatuses: [{ name: "rank", restartCount: 0, state, lastState: {}, ...set }],
});

describe("rankStateOf", () => {
  const cases: readonly {
    name: string;
    pod: KubeObject;
    gone?: boolean;
    phase: string;
    detail?: string;
    address?: string;
  }[] = [
    { name: "a pod that nobody has looked at yet", pod: aPod(), phase: "Starting", detail: "not started" },
    {
      name: "one that does not fit on its node",
      pod: aPod({ conditions: [condition("PodScheduled", "False", "0/3 nodes are available: 1 Insufficient memory")] }),
      phase: "Starting",
      detail: "cannot be scheduled: 0/3 nodes are available: 1 Insufficient memory",
    },
    {
      name: "one whose image cannot be had",
      pod: aPod(container({ waiting: { reason: "ImagePullBackOff", message: "no such image" } })),
      phase: "Starting",
      detail: "waits: ImagePullBackOff: no such image",
    },
    {
      name: "one that keeps ending",
      pod: aPod(
        container(
          { waiting: { reason: "CrashLoopBackOff" } },
          { restartCount: 3, lastState: { terminated: { exitCode: 1 } } },
        ),
      ),
      phase: "Starting",
      detail: "waits: CrashLoopBackOff, ended 3 times, last with exit code 1",
    },
    {
      name: "one that loads",
      pod: aPod({ podIP: "10.0.0.7", ...container({ running: {} }) }),
      phase: "Starting",
      detail: "runs, not ready yet",
      address: "10.0.0.7:7400",
    },
    {
      name: "one that serves",
      pod: aPod({ podIP: "10.0.0.7", conditions: [condition("Ready", "True")] }),
      phase: "Ready",
      address: "10.0.0.7:7400",
    },
    {
      name: "one with an IPv6 address",
      pod: aPod({ podIP: "fd00::7", conditions: [condition("Ready", "True")] }),
      phase: "Ready",
      address: "[fd00::7]:7400",
    },
    {
      name: "one that Kubernetes threw out",
      pod: aPod({ phase: "Failed", reason: "Evicted", message: "the node was low on memory" }),
      phase: "Failed",
      detail: "Evicted: the node was low on memory",
    },
    {
      name: "one that is being deleted",
      pod: aPod({}, { deletionTimestamp: "2026-01-01T00:00:00Z" }),
      phase: "Leaving",
    },
    {
      name: "one whose machine is gone",
      pod: aPod({ conditions: [condition("Ready", "True")] }),
      gone: true,
      phase: "Lost",
    },
  ];
  for (const { name, pod, gone = false, phase, detail, address } of cases) {
    it(name, () => {
      const state = rankStateOf(pod, gone);
      expect(state).to.deep.include({
        name: "tiny-0-1-0",
        assignment: ASSIGNMENT,
        revision: "r1",
        phase,
        neighbours: ["default/tiny-0-0-0"],
      });
      if (detail !== undefined) expect(state?.detail).to.equal(detail);
      expect(state?.address).to.equal(address);
    });
  }

  it("passes over pods that only look like ours", () => {
    expect(rankStateOf(aPod({}, { annotations: {} }), false)).to.equal(undefined);
    expect(rankStateOf(aPod({}, { annotations: { "tessellate.dev/assignment": "{" } }), false)).to.equal(undefined);
  });
});

describe("machines", () => {
  const aMachine = (spec: JsonObject, ready = "True"): KubeObject => ({
    metadata: { name: "a" },
    spec,
    status: { conditions: [condition("Ready", ready)] },
  });
  const unreachable = { taints: [{ key: "node.kubernetes.io/unreachable", effect: "NoExecute" }] };

  it("take new pods when they are Ready and open", () => {
    expect(machineIsReady(aMachine({}))).to.equal(true);
    expect(machineIsReady(aMachine({}, "Unknown"))).to.equal(false);
    expect(machineIsReady(aMachine({ unschedulable: true }))).to.equal(false);
    expect(machineIsReady(undefined)).to.equal(false);
  });

  it("are gone only on evidence: no such Node, or Kubernetes has evicted what ran there", () => {
    expect(machineIsGone(undefined, aPod())).to.equal(true);
    expect(machineIsGone(aMachine({}, "Unknown"), aPod()), "silent").to.equal(false);
    expect(machineIsGone(aMachine(unreachable, "Unknown"), aPod()), "unreachable, pods still tolerated").to.equal(
      false,
    );
    expect(
      machineIsGone(aMachine(unreachable, "Unknown"), aPod({}, { deletionTimestamp: "2026-01-01T00:00:00Z" })),
    ).to.equal(true);
    expect(
      machineIsGone(aMachine({ taints: [{ key: "maintenance", effect: "NoExecute" }] }), undefined),
      "a taint of somebody's",
    ).to.equal(false);
  });
});

describe("instanceOf", () => {
  it("changes with every start of the process", () => {
    const all = [aPod(), aPod(container({}, { restartCount: 1 })), aPod({}, { uid: "u2" })].map(instanceOf);
    expect(new Set(all).size).to.equal(3);
  });
});
