/** From a pod to the planner's view of a rank. Pure: what the cluster says, and nothing guessed. */
import { isJsonObject, type JsonObject, parseJson } from "../../core/json.ts";
import type { KubeObject } from "../kube/objects.ts";
import type { Assignment, NodeFacts, RankState } from "../plan/types.ts";
import { ASSIGNMENT_ANNOTATION, DRAIN_ANNOTATION, NEIGHBOURS_ANNOTATION, REVISION_ANNOTATION } from "./labels.ts";
import { RANK_PORT } from "./rank-objects.ts";

/** Of pods as they were read, whose machines are there: a copy is never changed, and asked about at every look. */
const states = new WeakMap<KubeObject, { readonly state: RankState | undefined }>();

/** Undefined where the pod is none of ours after all: somebody wrote its labels, but not what it was told. */
export function rankStateOf(pod: KubeObject, machineIsGone: boolean): RankState | undefined {
  if (machineIsGone) return readState(pod, true);
  const known = states.get(pod) ?? { state: readState(pod, false) };
  states.set(pod, known);
  return known.state;
}

function readState(pod: KubeObject, machineIsGone: boolean): RankState | undefined {
  const { name, annotations = {}, deletionTimestamp } = pod.metadata;
  const assignment = parseAssignment(annotations[ASSIGNMENT_ANNOTATION]);
  if (assignment === undefined) return undefined;
  const neighbours = annotations[NEIGHBOURS_ANNOTATION];
  const told = {
    name,
    assignment,
    revision: annotations[REVISION_ANNOTATION] ?? "",
    ...(neighbours === undefined ? {} : { neighbours: neighbours.split(",").filter(Boolean) }),
  };
  const status = objectAt(pod, "status");
  const [container] = containersOf(status);
  const endedCount = Number(container?.["restartCount"] ?? 0);
  const ended = endedCount > 0 ? { endedCount } : {};
  if (machineIsGone) return { ...told, phase: "Lost", detail: `the machine of node ${assignment.node} is gone` };
  if (deletionTimestamp !== undefined) return { ...told, phase: "Leaving", detail: "is being deleted" };
  if (hasEndedBy(status)) {
    return {
      ...told,
      ...ended,
      phase: "Failed",
      detail: [status["reason"], status["message"]].filter(Boolean).join(": ") || "ended",
    };
  }
  const podIP = status["podIP"];
  const address =
    typeof podIP === "string" && podIP !== ""
      ? { address: podIP.includes(":") ? `[${podIP}]:${RANK_PORT}` : `${podIP}:${RANK_PORT}` }
      : {};
  if (podIsReady(pod)) return { ...told, ...address, phase: "Ready", detail: "" };
  return { ...told, ...address, ...ended, phase: "Starting", detail: whyNotReady(status) };
}

const hasEndedBy = ({ phase }: JsonObject): boolean => phase === "Failed" || phase === "Succeeded";

/** Whether the pod runs no more, or is being deleted. */
export const podHasEnded = (pod: KubeObject): boolean =>
  pod.metadata.deletionTimestamp !== undefined || hasEndedBy(objectAt(pod, "status"));

/** As its kubelet says. */
export const podIsReady = (pod: KubeObject): boolean =>
  conditionOf(objectAt(pod, "status"), "Ready")?.["status"] === "True";

/**
 * Whether the machine of a pod is gone: no such Node, or Kubernetes has found it unreachable and evicted its pods. One
 * that merely does not answer is not: what runs there may serve on.
 */
export function machineIsGone(machine: KubeObject | undefined, pod: KubeObject | undefined): boolean {
  if (machine === undefined) return true;
  const taints = objectAt(machine, "spec")["taints"];
  const evicting =
    Array.isArray(taints) &&
    taints.some((taint) => isJsonObject(taint) && taint["effect"] === "NoExecute" && AWAY.has(String(taint["key"])));
  return evicting && (pod === undefined || pod.metadata.deletionTimestamp !== undefined);
}

const AWAY: ReadonlySet<string> = new Set(["node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready"]);

/** Whether new pods may go to a machine. */
export function machineIsReady(machine: KubeObject | undefined): boolean {
  if (machine === undefined || objectAt(machine, "spec")["unschedulable"] === true) return false;
  return conditionOf(objectAt(machine, "status"), "Ready")?.["status"] === "True";
}

export type Leave = Pick<NodeFacts, "leaving" | "leavingWhy">;

/**
 * Drained: by its owner's word, or since its machine is cordoned, which is all of `kubectl drain` that an API server
 * keeps. Cordoned: it is, and the owner's word is that what runs there stays.
 */
export function leavingOf(node: KubeObject, machine: KubeObject | undefined): Leave {
  const word = node.metadata.annotations?.[DRAIN_ANNOTATION];
  if (word !== undefined && word !== "false") return { leaving: "Drained", leavingWhy: "it is drained" };
  if (machine === undefined || objectAt(machine, "spec")["unschedulable"] !== true) return {};
  return { leaving: word === "false" ? "Cordoned" : "Drained", leavingWhy: "its machine is cordoned" };
}

/** Changes with every start of the rank's process: what was learned of an earlier one no longer counts. */
export function instanceOf(pod: KubeObject): string {
  const [container] = containersOf(objectAt(pod, "status"));
  return `${pod.metadata.uid}/${String(container?.["restartCount"] ?? 0)}`;
}

function parseAssignment(text: string | undefined): Assignment | undefined {
  const value = text === undefined ? undefined : parseJson(text);
  if (!isJsonObject(value) || !isJsonObject(value["layers"]) || !Array.isArray(value["sliceWeights"])) return undefined;
  return value as unknown as Assignment; // we wrote it; whoever may edit pods may do worse than lie here
}

function whyNotReady(status: JsonObject): string {
  const unscheduled = conditionOf(status, "PodScheduled");
  if (unscheduled?.["status"] === "False") return `cannot be scheduled: ${String(unscheduled["message"] ?? "")}`;
  const [container] = containersOf(status);
  const state = isJsonObject(container?.["state"]) ? container["state"] : {};
  const waiting = state["waiting"];
  const last = isJsonObject(container?.["lastState"]) ? container["lastState"]["terminated"] : undefined;
  const ended = isJsonObject(last)
    ? `, ended ${String(container?.["restartCount"])} times, last with exit code ${String(last["exitCode"])}`
    : "";
  if (isJsonObject(waiting)) {
    const words = [waiting["reason"], waiting["message"]].filter(Boolean).join(": ");
    return `waits: ${words || "container is being made"}${ended}`;
  }
  if (isJsonObject(state["running"])) return `runs, not ready yet${ended}`;
  return `not started${ended}`;
}

function containersOf(status: JsonObject): readonly JsonObject[] {
  const statuses = status["containerStatuses"];
  return Array.isArray(statuses) ? statuses.filter(isJsonObject) : [];
}

function conditionOf(status: JsonObject, type: string): JsonObject | undefined {
  const conditions = status["conditions"];
  return Array.isArray(conditions)
    ? conditions.filter(isJsonObject).find((condition) => condition["type"] === type)
    : undefined;
}

/** The object in a field, or an empty one. */
export function objectAt(object: JsonObject, field: string): JsonObject {
  const value = object[field];
  return isJsonObject(value) ? value : {};
}
