/**
 * Taints of machines, by what a model's ranks tolerate. One that its ranks do not lets nothing new come (NoSchedule), or
 * empties the node (NoExecute): Kubernetes deletes such pods by itself, past every budget. So ranks tolerate every
 * NoExecute for a while, and what they hold is loaded elsewhere meanwhile, as on any node that is drained.
 */
import { isJsonObject } from "../../core/json.ts";
import type { KubeObject } from "../kube/objects.ts";
import type { ModelSpec, NodeFacts } from "../plan/types.ts";
import { SHARDS_TAINT } from "./labels.ts";

/** After the node's machine stopped answering, until its pods are given up. */
const AWAY_SECONDS = 60;
/** For what a node with a NoExecute taint holds to be loaded elsewhere, before its sessions get their time. */
const LOAD_SECONDS = 300;
const DRAIN_SECONDS = 300;

const NOT_READY = "node.kubernetes.io/not-ready";
const UNREACHABLE = "node.kubernetes.io/unreachable";
/** Somebody has said that the machine is off for good: nothing is loaded from there, and nobody is served. */
const OUT_OF_SERVICE = "node.kubernetes.io/out-of-service";
/** What says that a machine does not answer, or is cordoned, is read from elsewhere: see rank-state.ts. */
const READ_ELSEWHERE: ReadonlySet<string> = new Set([NOT_READY, UNREACHABLE, "node.kubernetes.io/unschedulable"]);

/** In the order in which Kubernetes looks for the first that fits: the last is for all that nobody has named. */
export const tolerationsOf = ({ placement, update }: ModelSpec, { gpuResource }: NodeFacts): readonly object[] => [
  { key: NOT_READY, operator: "Exists", effect: "NoExecute", tolerationSeconds: AWAY_SECONDS },
  { key: UNREACHABLE, operator: "Exists", effect: "NoExecute", tolerationSeconds: AWAY_SECONDS },
  { key: SHARDS_TAINT, operator: "Exists" },
  ...(gpuResource === undefined ? [] : [{ key: gpuResource, operator: "Exists" }]),
  ...(placement.tolerations ?? []),
  { key: OUT_OF_SERVICE, operator: "Exists", effect: "NoExecute", tolerationSeconds: 0 },
  {
    operator: "Exists",
    effect: "NoExecute",
    tolerationSeconds: LOAD_SECONDS + (update?.drainSeconds ?? DRAIN_SECONDS),
  },
];

/** The node as a model's ranks find it; `machine`: its Kubernetes Node. */
export function underTaints(node: NodeFacts, machine: KubeObject | undefined, { placement }: ModelSpec): NodeFacts {
  const spec = machine?.["spec"];
  const taints = isJsonObject(spec) ? spec["taints"] : undefined;
  if (!Array.isArray(taints) || node.leaving === "Drained") return node;
  const tolerated = (taint: Taint) =>
    taint.key === SHARDS_TAINT ||
    taint.key === node.gpuResource ||
    (placement.tolerations ?? []).some((each) => fits(each, taint));
  const open = taints
    .filter(isJsonObject)
    .map(({ key, value = "", effect }): Taint => ({ key: String(key), value: String(value), effect: String(effect) }))
    .filter((taint) => CLOSING.has(taint.effect) && !READ_ELSEWHERE.has(taint.key) && !tolerated(taint));
  const [worst] = open.toSorted((a, b) => (a.effect < b.effect ? -1 : 1)); // NoExecute first
  if (worst === undefined) return node;
  const { key, value, effect } = worst;
  const words = `${key}${value === "" ? "" : `=${value}`}:${effect}`;
  return {
    ...node,
    ready: false,
    leaving: effect === "NoExecute" ? "Drained" : "Cordoned",
    leavingWhy: `its machine has the taint ${words}, which spec.placement.tolerations does not name`,
  };
}

type Taint = { readonly key: string; readonly value: string; readonly effect: string };

const CLOSING: ReadonlySet<string> = new Set(["NoSchedule", "NoExecute"]);

/** As Kubernetes compares them. For a while only is not for good: what runs there is to leave in that time. */
function fits(toleration: object, { key, value, effect }: Taint): boolean {
  if (!isJsonObject(toleration)) return false;
  const { key: wanted = "", operator = "Equal", value: asked = "", effect: of = "", tolerationSeconds } = toleration;
  if (effect === "NoExecute" && tolerationSeconds !== undefined) return false;
  if (of !== "" && of !== effect) return false;
  if (wanted !== "" && wanted !== key) return false;
  return operator === "Exists" || (wanted !== "" && asked === value);
}
