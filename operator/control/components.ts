/** Gateways, ledgers, node agents and providers as the copies have them: who is told things, and of whom. */
import { parsePublicKey } from "../../core/keys.ts";
import { isJsonObject } from "../../core/json.ts";
import { COMPONENT_LABEL, PROVIDER_LABEL } from "../apply/labels.ts";
import { asProvider } from "../apply/observe.ts";
import { objectAt } from "../apply/rank-state.ts";
import type { Stores } from "../apply/stores.ts";
import type { KubeObject } from "../kube/objects.ts";
import type { AgentPod } from "./agents.ts";
import type { Component } from "./house.ts";

/** Gateways and ledgers that have an address; also those that are not ready, which they are only once they are told. */
export function componentsIn(stores: Stores): {
  readonly gateways: readonly Component[];
  readonly ledgers: readonly Component[];
} {
  const found = (component: string, port: string) =>
    stores.components
      .all()
      .filter(
        ({ metadata }) => metadata.labels?.[COMPONENT_LABEL] === component && metadata.deletionTimestamp === undefined,
      )
      .flatMap((pod) => componentIn(pod, port));
  return { gateways: found("gateway", "control"), ledgers: found("ledger", "grpc") };
}

function componentIn(pod: KubeObject, portName: string): readonly Component[] {
  const { phase, podIP } = objectAt(pod, "status");
  const containers = objectAt(pod, "spec")["containers"];
  const ports = (Array.isArray(containers) ? containers : []).flatMap((container) =>
    isJsonObject(container) && Array.isArray(container["ports"]) ? container["ports"].filter(isJsonObject) : [],
  );
  const port = ports.find(({ name }) => name === portName)?.["containerPort"];
  if (phase !== "Running" || typeof podIP !== "string" || typeof port !== "number") return [];
  return [{ name: pod.metadata.name, address: podIP.includes(":") ? `[${podIP}]:${port}` : `${podIP}:${port}` }];
}

/** Those without a good key are left out: nothing that they sign can be checked. */
export const providersIn = (stores: Stores) =>
  stores.providers.all().flatMap((object) => {
    const { metadata, spec } = asProvider(object);
    const { name } = metadata;
    if (spec.publicKey === undefined || !parsePublicKey(spec.publicKey, `provider ${name}`).ok) return [];
    return [{ name, publicKey: spec.publicKey, admitted: true }];
  });

/** Pods of node agents, those that do not run included: their nodes are expected to answer. */
export const agentsIn = (stores: Stores): readonly AgentPod[] =>
  stores.components.all().flatMap((pod) => {
    const { metadata } = pod;
    const provider = metadata.labels?.[PROVIDER_LABEL];
    const machine = objectAt(pod, "spec")["nodeName"];
    if (metadata.labels?.[COMPONENT_LABEL] !== "agent" || metadata.deletionTimestamp !== undefined) return [];
    if (provider === undefined || typeof machine !== "string") return [];
    return [{ name: metadata.name, provider, machine, address: componentIn(pod, "agent")[0]?.address }];
  });
