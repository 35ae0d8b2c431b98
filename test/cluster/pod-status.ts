/** What a kubelet would say about a pod, from what its containers do. Pure: time comes as an argument. */
import type { Condition, ContainerStatus, Pod, PodStatus } from "./kube-types.ts";

export interface PodFacts {
  readonly pod: Pod;
  readonly podIP: string;
  readonly hostIP: string;
  readonly startTime: string;
  /** Its volumes are there, so its containers can start. */
  readonly prepared: boolean;
  /** Every ordinary init container has ended well, and every sidecar has started. */
  readonly initialized: boolean;
  readonly initContainers: readonly ContainerStatus[];
  readonly containers: readonly ContainerStatus[];
  /** Set once no container will run again. */
  readonly outcome: "Succeeded" | "Failed" | undefined;
}

/** `before` is what was reported last: a condition that has not changed keeps its time of transition. */
export function podStatus(facts: PodFacts, before: PodStatus | undefined, now: string): PodStatus {
  const conditions = conditionsOf(facts).map((condition): Condition => {
    const same = before?.conditions?.find(({ type, status }) => type === condition.type && status === condition.status);
    return { ...condition, lastTransitionTime: same?.lastTransitionTime ?? now };
  });
  const hasAddress = facts.prepared || facts.outcome !== undefined;
  return {
    phase: phaseOf(facts),
    hostIP: facts.hostIP,
    hostIPs: [{ ip: facts.hostIP }],
    ...(hasAddress ? { podIP: facts.podIP, podIPs: [{ ip: facts.podIP }] } : {}),
    startTime: facts.startTime,
    conditions,
    ...(facts.initContainers.length > 0 ? { initContainerStatuses: facts.initContainers } : {}),
    containerStatuses: facts.containers,
  };
}

function phaseOf({ outcome, initialized, containers }: PodFacts): NonNullable<PodStatus["phase"]> {
  if (outcome !== undefined) return outcome;
  const everStarted = ({ state, lastState }: ContainerStatus) => state.waiting === undefined || lastState.terminated;
  return initialized && containers.every(everStarted) ? "Running" : "Pending";
}

/** PodScheduled is the scheduler's and is left alone. Clearing `reason` takes an explicit null in a merge patch. */
function conditionsOf(facts: PodFacts): readonly Condition[] {
  const over = facts.outcome !== undefined;
  const doneReason = over ? (facts.outcome === "Succeeded" ? "PodCompleted" : "PodFailed") : undefined;
  const waitingInit = facts.initContainers.filter(({ ready }) => !ready).map(({ name }) => name);
  const unready = facts.containers.filter(({ ready }) => !ready).map(({ name }) => name);
  const containersReady = !over && unready.length === 0 && facts.initialized;
  const missingGate = facts.pod.spec.readinessGates?.find(
    ({ conditionType }) => facts.pod.status?.conditions?.find(({ type }) => type === conditionType)?.status !== "True",
  )?.conditionType;
  const whyUnready = {
    reason: doneReason ?? "ContainersNotReady",
    message: `containers with unready status: ${list(unready)}`,
  };
  const whyGate = {
    reason: "ReadinessGatesNotReady",
    message: `the status of pod readiness gate "${missingGate}" is not "True"`,
  };
  return [
    condition("PodReadyToStartContainers", facts.prepared && !over),
    condition("Initialized", facts.initialized || facts.outcome === "Succeeded", {
      reason: "ContainersNotInitialized",
      message: `containers with incomplete status: ${list(waitingInit)}`,
    }),
    condition("ContainersReady", containersReady, whyUnready),
    condition("Ready", containersReady && missingGate === undefined, containersReady ? whyGate : whyUnready),
  ];
}

function condition(
  type: string,
  holds: boolean,
  why?: { readonly reason: string; readonly message: string },
): Condition {
  if (holds || why === undefined) return { type, status: holds ? "True" : "False", reason: null, message: null };
  return { type, status: "False", ...why };
}

function list(names: readonly string[]): string {
  return `[${names.join(" ")}]`;
}
