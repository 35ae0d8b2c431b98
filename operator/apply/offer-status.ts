/** What providers and their nodes are told about themselves. */
import { type Provider, type ProviderStatus, providerResource } from "../../core/gen/crds/provider.ts";
import { type ShardNode, type ShardNodeStatus, shardNodeResource } from "../../core/gen/crds/shardnode.ts";
import { parsePublicKey } from "../../core/keys.ts";
import type { WallClock } from "../clock.ts";
import type { KubeClient } from "../kube/client.ts";
import { type NewCondition, withTimes } from "../kube/conditions.ts";
import type { KubeObject } from "../kube/objects.ts";
import { sameJson } from "../kube/same.ts";
import { asNode, asProvider } from "./observe.ts";
import { leavingOf, machineIsReady } from "./rank-state.ts";
import type { Stores } from "./stores.ts";

type Doors = {
  readonly client: KubeClient;
  readonly clock: WallClock;
  readonly stores: Stores;
  /** Models of one namespace alone are looked at. */
  readonly isNamespaced: boolean;
};

/** Of several operators with a namespace each none knows how many there are: they would overwrite one another for good. */
const shardCountOf = ({ stores, isNamespaced }: Doors, place: string): { readonly shardCount?: number } =>
  isNamespaced ? {} : { shardCount: stores.shardCount(place) };

export async function reportProvider(doors: Doors, name: string): Promise<void> {
  const { client, clock, stores } = doors;
  const object = stores.providers.get(name);
  if (object === undefined) return;
  const provider = asProvider(object);
  const generation = object.metadata.generation ?? 1;
  const { spec, status: before } = provider;
  const key = spec.publicKey === undefined ? undefined : parsePublicKey(spec.publicKey, `provider ${name}`);
  const [condition] = withTimes(before?.conditions, [admission(provider)], generation, clock.wallMs());
  const status: ProviderStatus = {
    observedGeneration: generation,
    ...(key?.ok ? { keyId: key.value.keyId } : {}),
    nodeCount: stores.shardNodes.indexed(name).length,
    ...shardCountOf(doors, `provider/${name}`),
    conditions: condition === undefined ? [] : [{ ...condition, type: "Admitted" }],
  };
  if (!sameJson(before, status)) await client.apply(providerResource, { metadata: { name }, status }, "status");
}

export async function reportNode(doors: Doors, name: string): Promise<void> {
  const { client, clock, stores } = doors;
  const object = stores.shardNodes.get(name);
  if (object === undefined) return;
  const node = asNode(object);
  const generation = object.metadata.generation ?? 1;
  const said = [offer(stores, node), ...(doors.isNamespaced ? [] : drained(stores, object))];
  const conditions = withTimes(node.status?.conditions, said, generation, clock.wallMs());
  const status: ShardNodeStatus = {
    observedGeneration: generation,
    ...shardCountOf(doors, `node/${name}`),
    conditions: conditions.map((each) => ({ ...each, type: each.type === "Drained" ? "Drained" : "Ready" })),
  };
  const { measured: _, offer: __, devices: ___, ...before } = node.status ?? {}; // the node agent's
  if (!sameJson(before, status)) await client.apply(shardNodeResource, { metadata: { name }, status }, "status");
}

/** Whether a provider's nodes may hold shards, and why not. */
export function admission({ metadata, spec }: Provider): NewCondition {
  if (spec.publicKey !== undefined)
    return { type: "Admitted", status: "True", reason: "KeyKnown", message: "its receipts can be checked" };
  const message = `spec.publicKey is missing: add the key that \`tessellate provider\` prints on ${metadata.name}'s machine`;
  return { type: "Admitted", status: "False", reason: "NoPublicKey", message };
}

/** Whether a node that is to be emptied is; nothing of any other. */
function drained(stores: Stores, object: KubeObject): readonly NewCondition[] {
  const node = asNode(object);
  const { name } = object.metadata;
  const { leaving, leavingWhy } = leavingOf(object, stores.machines.get(node.spec.nodeName ?? name));
  if (leaving !== "Drained") return [];
  const say = (status: "True" | "False", reason: string, message: string): readonly NewCondition[] => [
    { type: "Drained", status, reason, message },
  ];
  const count = stores.shardCount(`node/${name}`);
  const stuck = stores.drains.of(name);
  if (stuck.length > 0) return say("False", "NoRoom", stuck.join("; "));
  if (count === 0) return say("True", "Empty", `${leavingWhy}, and holds no shard`);
  return say("False", "Draining", `${leavingWhy}: what it holds is loaded elsewhere, and its sessions end`);
}

function offer(stores: Stores, node: ShardNode): NewCondition {
  const { metadata, spec } = node;
  const no = (reason: string, message: string): NewCondition => ({ type: "Ready", status: "False", reason, message });
  const provider = stores.providers.get(spec.provider);
  if (provider === undefined)
    return no("ProviderUnknown", `there is no Provider ${spec.provider}: make it, or correct spec.provider`);
  const { status, message } = admission(asProvider(provider));
  if (status !== "True") return no("ProviderNotAdmitted", `Provider ${spec.provider}: ${message}`);
  const name = spec.nodeName ?? metadata.name;
  const machine = stores.machines.get(name);
  if (machine === undefined)
    return no("NodeMissing", `there is no Kubernetes Node ${name}: add the machine, or correct spec.nodeName`);
  if (!machineIsReady(machine)) return no("NodeNotReady", `the Kubernetes Node ${name} is not ready for new pods`);
  const why = stores.offers.whyNot(node, asProvider(provider));
  if (why !== undefined) return no(why.code, why.detail);
  return { type: "Ready", status: "True", reason: "Offered", message: "may hold shards" };
}
