/** Kubernetes objects as raw JSON: what the operator relies on is typed, all else is kept as it came. */
import type { ObjectMeta } from "../../core/gen/crds/object-meta.ts";
import { isJsonObject, type JsonObject, shown } from "../../core/json.ts";

export type KubeObject = JsonObject & {
  readonly apiVersion?: string;
  readonly kind?: string;
  readonly metadata: ObjectMeta;
};

/** Where a kind of object lies. `group` is empty for the core group. */
export type Resource = {
  readonly group: string;
  readonly version: string;
  readonly kind: string;
  readonly plural: string;
  readonly namespaced: boolean;
};

export const apiVersionOf = ({ group, version }: Resource): string => (group === "" ? version : `${group}/${version}`);

const core = (kind: string, plural: string, namespaced = true): Resource => ({
  group: "",
  version: "v1",
  kind,
  plural,
  namespaced,
});

export const PODS = core("Pod", "pods");
export const NODES = core("Node", "nodes", false);
export const SECRETS = core("Secret", "secrets");
export const SERVICES = core("Service", "services");
export const LEASES: Resource = {
  group: "coordination.k8s.io",
  version: "v1",
  kind: "Lease",
  plural: "leases",
  namespaced: true,
};
export const BUDGETS: Resource = {
  group: "policy",
  version: "v1",
  kind: "PodDisruptionBudget",
  plural: "poddisruptionbudgets",
  namespaced: true,
};
export const CLAIM_TEMPLATES: Resource = {
  group: "resource.k8s.io",
  version: "v1",
  kind: "ResourceClaimTemplate",
  plural: "resourceclaimtemplates",
  namespaced: true,
};
export const EVENTS: Resource = {
  group: "events.k8s.io",
  version: "v1",
  kind: "Event",
  plural: "events",
  namespaced: true,
};

export type Place = {
  readonly namespace?: string | undefined;
  readonly name?: string | undefined;
  readonly subresource?: string;
};

/** The URL path of an object, or of all (in a namespace) where no name is given. */
export function pathOf(resource: Resource, { namespace, name, subresource }: Place = {}): string {
  const root = resource.group === "" ? `/api/${resource.version}` : `/apis/${resource.group}/${resource.version}`;
  const parts = [
    ...(resource.namespaced && namespace !== undefined ? ["namespaces", namespace] : []),
    resource.plural,
    ...(name === undefined ? [] : [name]),
    ...(subresource === undefined ? [] : [subresource]),
  ];
  return [root, ...parts.map(encodeURIComponent)].join("/");
}

/** `namespace/name`, or `name` for what lies in none. */
export const keyOf = ({ metadata: { namespace, name } }: KubeObject): string =>
  namespace === undefined ? name : `${namespace}/${name}`;

/** The object in a server's answer; throws weather where it is none. Managed fields are dropped: nobody here reads them. */
export function asKubeObject(value: unknown): KubeObject {
  if (!isJsonObject(value) || !isJsonObject(value["metadata"]) || typeof value["metadata"]["name"] !== "string") {
    throw new Error(`the API server sent ${shown(value)} where an object was expected`);
  }
  const { managedFields: _, ...metadata } = value["metadata"];
  return { ...value, metadata } as unknown as KubeObject;
}
