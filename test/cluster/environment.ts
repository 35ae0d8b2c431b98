/** What a container's command, arguments and environment come to: references looked up, `$(NAME)` replaced. */
import type { ApiClient } from "./api-client.ts";
import type { Container, EnvVar, ObjectMeta, Pod, ResourceFieldRef } from "./kube-types.ts";

/** What downward-API references can ask for and the pod's own object does not say (yet). */
export interface PodPlace {
  readonly podIP: string;
  readonly hostIP: string;
}

interface KeyedObject {
  readonly metadata: ObjectMeta;
  /** Base64 in a Secret, text in a ConfigMap. */
  readonly data?: Readonly<Record<string, string>>;
  /** Base64, ConfigMaps only. */
  readonly binaryData?: Readonly<Record<string, string>>;
}

/** The contents of a Secret or ConfigMap; undefined where it is missing and `optional`. Throws where it is just missing. */
export async function keyedFiles(
  api: ApiClient,
  reference: {
    readonly kind: "secrets" | "configmaps";
    readonly namespace: string;
    readonly name: string;
    readonly optional?: boolean | undefined;
  },
): Promise<ReadonlyMap<string, Buffer> | undefined> {
  const { kind, namespace, name, optional } = reference;
  const found = await api.find<KeyedObject>(`/api/v1/namespaces/${namespace}/${kind}/${name}`);
  if (found === undefined) {
    if (optional) return undefined;
    throw new Error(`${kind.slice(0, -1)} "${name}" not found in namespace ${namespace}`);
  }
  const encoding = kind === "secrets" ? "base64" : "utf8";
  return new Map([
    ...Object.entries(found.data ?? {}).map(([key, value]) => [key, Buffer.from(value, encoding)] as const),
    ...Object.entries(found.binaryData ?? {}).map(([key, value]) => [key, Buffer.from(value, "base64")] as const),
  ]);
}

/**
 * The environment of one container, on top of `base`. Throws, naming what is missing, while a Secret or ConfigMap that
 * it needs is not there.
 */
export async function environmentOf(
  api: ApiClient,
  pod: Pod,
  container: Container,
  place: PodPlace,
  base: Readonly<Record<string, string>>,
): Promise<Readonly<Record<string, string>>> {
  const environment: Record<string, string> = { ...base };
  const namespace = pod.metadata.namespace ?? "default";
  for (const { prefix = "", secretRef, configMapRef } of container.envFrom ?? []) {
    const files =
      (secretRef && (await keyedFiles(api, { kind: "secrets", namespace, ...secretRef }))) ??
      (configMapRef && (await keyedFiles(api, { kind: "configmaps", namespace, ...configMapRef })));
    for (const [key, value] of files ?? []) environment[prefix + key] = value.toString("utf8");
  }
  for (const variable of container.env ?? []) {
    const value = await variableValue(api, pod, container, place, variable, environment);
    if (value !== undefined) environment[variable.name] = value;
  }
  return environment;
}

async function variableValue(
  api: ApiClient,
  pod: Pod,
  container: Container,
  place: PodPlace,
  variable: EnvVar,
  environment: Readonly<Record<string, string>>,
): Promise<string | undefined> {
  const from = variable.valueFrom;
  if (from === undefined) return expand(variable.value ?? "", environment);
  if (from.fieldRef) return fieldOf(pod, from.fieldRef.fieldPath, place);
  if (from.resourceFieldRef) return resourceOf(pod, from.resourceFieldRef, container);
  const reference = from.secretKeyRef ?? from.configMapKeyRef;
  if (reference === undefined) throw new Error(`container ${container.name}: env ${variable.name} has no known source`);
  const kind = from.secretKeyRef ? "secrets" : "configmaps";
  const files = await keyedFiles(api, { kind, namespace: pod.metadata.namespace ?? "default", ...reference });
  const value = files?.get(reference.key);
  if (value === undefined && !reference.optional) {
    throw new Error(`couldn't find key ${reference.key} in ${kind.slice(0, -1)} ${reference.name}`);
  }
  return value?.toString("utf8");
}

/** Replaces `$(NAME)` by the variable and `$$` by `$`; an unknown name stays as it is, as Kubernetes has it. */
export function expand(text: string, environment: Readonly<Record<string, string>>): string {
  return text.replace(/\$\$|\$\(([^()]+)\)/g, (match, name: string | undefined) => {
    if (match === "$$") return "$";
    return (name === undefined ? undefined : environment[name]) ?? match;
  });
}

/** The value of a downward-API field reference. */
export function fieldOf(pod: Pod, path: string, place: PodPlace): string {
  const { metadata, spec } = pod;
  const subscript = /^metadata\.(labels|annotations)\['(.+)'\]$/.exec(path);
  if (subscript) return metadata[subscript[1] === "labels" ? "labels" : "annotations"]?.[subscript[2] ?? ""] ?? "";
  const lines = (map: Readonly<Record<string, string>> = {}) =>
    Object.entries(map)
      .sort()
      .map(([key, value]) => `${key}=${JSON.stringify(value)}`)
      .join("\n");
  switch (path) {
    case "metadata.name":
      return metadata.name;
    case "metadata.namespace":
      return metadata.namespace ?? "default";
    case "metadata.uid":
      return metadata.uid ?? "";
    case "metadata.labels":
      return lines(metadata.labels);
    case "metadata.annotations":
      return lines(metadata.annotations);
    case "spec.nodeName":
      return spec.nodeName ?? "";
    case "spec.serviceAccountName":
      return spec.serviceAccountName ?? "default";
    case "status.podIP":
    case "status.podIPs":
      return place.podIP;
    case "status.hostIP":
    case "status.hostIPs":
      return place.hostIP;
    default:
      throw new Error(`the process-kubelet does not know the field ${path}`);
  }
}

/** A container's limit or request, divided and rounded up. */
export function resourceOf(pod: Pod, reference: ResourceFieldRef, container?: Container): string {
  const named = pod.spec.containers.find(({ name }) => name === reference.containerName) ?? container;
  const [group, ...rest] = reference.resource.split(".");
  const resource = rest.join(".");
  const { limits, requests } = named?.resources ?? {};
  const quantity = (group === "limits" ? limits : requests)?.[resource] ?? "0";
  return String(Math.ceil(parseQuantity(quantity) / parseQuantity(reference.divisor || "1")));
}

const SUFFIXES: Readonly<Record<string, number>> = {
  m: 1e-3,
  "": 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
};

function parseQuantity(text: string): number {
  const [, digits, suffix] = /^([\d.]+)([a-zA-Z]*)$/.exec(text) ?? [];
  const factor = SUFFIXES[suffix ?? ""];
  if (digits === undefined || factor === undefined) throw new Error(`not a quantity: ${text}`);
  return Number(digits) * factor;
}
