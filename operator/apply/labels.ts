/** Names and labels that the operator gives to what it makes, and finds it again by. */
import type { KubeObject } from "../kube/objects.ts";
import { rankName } from "../plan/names.ts";
import type { Assignment, ModelSpec } from "../plan/types.ts";

export const MODEL_LABEL = "tessellate.dev/model";
/** On a rank's pod: the ShardNode that it runs on, and who owns that; the latter on node agents' pods, too. */
export const NODE_LABEL = "tessellate.dev/node";
export const PROVIDER_LABEL = "tessellate.dev/provider";
/** On a rank's pod, and on the Secret that its chain's ranks mount: where it is at home. */
export const CHAIN_LABEL = "tessellate.dev/chain";
/** Keeps machines for ranks alone. */
export const SHARDS_TAINT = "tessellate.dev/shards";
export const COMPONENT_LABEL = "app.kubernetes.io/component";
export const MANAGED_BY_LABEL = "app.kubernetes.io/managed-by";
export const MANAGER = "tessellate-operator";

/** What finds all rank pods, whatever their model. */
export const RANK_SELECTOR = `${COMPONENT_LABEL}=rank,${MANAGED_BY_LABEL}=${MANAGER}`;

/** What a pod was told, as JSON; the pod itself is the record of what runs. */
export const ASSIGNMENT_ANNOTATION = "tessellate.dev/assignment";
export const REVISION_ANNOTATION = "tessellate.dev/revision";
/** When the rank's certificate is to be made anew: long before it expires, and the rank goes on meanwhile. */
export const RENEW_ANNOTATION = "tessellate.dev/renew-certificate-after";
export const NEIGHBOURS_ANNOTATION = "tessellate.dev/neighbours";

/** On a ShardNode: what it holds is to be made elsewhere first, and then to go; "false": it stays, though the machine is cordoned. */
export const DRAIN_ANNOTATION = "tessellate.dev/drain";

/** On a proposed ShardPlan: set by a person, it lets through the plan whose spec.approval it repeats, and no other. */
export const APPROVED_ANNOTATION = "tessellate.dev/approved";
/** A ShardPlan that only waits for an approval: nothing runs by it. */
const PROPOSAL_LABEL = "tessellate.dev/proposal";

export const proposalLabels = (model: Pick<ModelSpec, "name">): Readonly<Record<string, string>> => ({
  [PROPOSAL_LABEL]: model.name,
});

export const isProposal = ({ metadata }: KubeObject): boolean => metadata.labels?.[PROPOSAL_LABEL] !== undefined;

/** Key of the model whose plan, in force or proposed, this is. */
export const modelKeyOfPlan = ({ metadata }: KubeObject): string =>
  `${metadata.namespace}/${metadata.labels?.[PROPOSAL_LABEL] ?? metadata.name}`;

/** `namespace/name` of a model: the key of its reconciliation. */
export const modelKey = ({ namespace, name }: Pick<ModelSpec, "namespace" | "name">): string => `${namespace}/${name}`;

export const modelLabels = (model: ModelSpec): Readonly<Record<string, string>> => ({
  "app.kubernetes.io/name": "tessellate",
  "app.kubernetes.io/instance": model.name,
  "app.kubernetes.io/part-of": "tessellate",
  [MANAGED_BY_LABEL]: MANAGER,
  [MODEL_LABEL]: model.name,
});

export const rankLabels = (model: ModelSpec, assignment: Assignment): Readonly<Record<string, string>> => ({
  ...modelLabels(model),
  [COMPONENT_LABEL]: "rank",
  "tessellate.dev/rank": rankName(model, assignment),
  [CHAIN_LABEL]: String(assignment.chain),
  "tessellate.dev/segment": String(assignment.segment),
  [PROVIDER_LABEL]: assignment.provider,
  [NODE_LABEL]: assignment.node,
});
