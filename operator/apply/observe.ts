/** From the copies of objects to a World: pure reading, no request. */
import type { Provider } from "../../core/gen/crds/provider.ts";
import type { ShardedModel } from "../../core/gen/crds/shardedmodel.ts";
import type { ShardNode } from "../../core/gen/crds/shardnode.ts";
import type { ShardPlan } from "../../core/gen/crds/shardplan.ts";
import { type KubeObject, keyOf } from "../kube/objects.ts";
import { sameJson } from "../kube/same.ts";
import { REGION_LABEL, nodeFactsOf } from "../plan/model-spec.ts";
import { rankName } from "../plan/names.ts";
import { bytesOn } from "../plan/footprint.ts";
import { type Routed, ranksOn, routesOf, segmentsOf } from "../plan/routes.ts";
import type { Assignment, ModelSpec, NodeFacts, RankState } from "../plan/types.ts";
import { instanceOf, machineIsGone, machineIsReady, rankStateOf } from "./rank-state.ts";
import { measuredDaysAgo } from "../local/measured-age.ts";
import { isProposal } from "./labels.ts";
import { assignmentsIn } from "./shard-plan.ts";
import type { Stores } from "./stores.ts";

// Stored objects have passed the schema, whose types are generated from the same file: here they are named, not checked.
export const asModel = (object: KubeObject) => object as unknown as ShardedModel;
export const asPlan = (object: KubeObject) => object as unknown as ShardPlan;
export const asNode = (object: KubeObject) => object as unknown as ShardNode;
export const asProvider = (object: KubeObject) => object as unknown as Provider;

const machineOf = (stores: Stores, node: ShardNode): KubeObject | undefined =>
  stores.machines.get(node.spec.nodeName ?? node.metadata.name);

export function providersIn(stores: Stores): readonly Provider[] {
  return stores.providers.all().map(asProvider);
}

/** Pods of a model; `made` are those that we made and the copy has not caught up with. */
export function podsOf(stores: Stores, key: string, made: ReadonlyMap<string, KubeObject>): readonly KubeObject[] {
  const known = stores.pods.indexed(key);
  const names = new Set(known.map(keyOf));
  const unseen = [...made].filter(
    ([name, pod]) =>
      !names.has(name) && `${pod.metadata.namespace}/${pod.metadata.labels?.["tessellate.dev/model"]}` === key,
  );
  return [...known, ...unseen.map(([, pod]) => pod)];
}

export function rankStatesOf(stores: Stores, pods: readonly KubeObject[]): readonly RankState[] {
  return pods.flatMap((pod) => {
    const state = rankStateOf(pod, false);
    if (state === undefined) return [];
    const node = stores.shardNodes.get(state.assignment.node);
    if (node === undefined || !machineIsGone(machineOf(stores, asNode(node)), pod)) return [state];
    return rankStateOf(pod, true) ?? [];
  });
}

/**
 * Nodes that a model's ranks may be on, with the memory that other models leave. A node whose machine is gone is left
 * out, which moves its ranks; one that merely is not ready keeps them.
 */
export function nodesFor(
  stores: Stores,
  key: string,
  pods: readonly KubeObject[],
  nowMs: number,
): readonly NodeFacts[] {
  const providers = providersIn(stores);
  const others = stores.plans
    .all()
    .filter((plan) => keyOf(plan) !== key && !isProposal(plan) && !hasLeft(stores, plan))
    .flatMap((plan) => assignmentsIn(asPlan(plan)));
  const byNode = Map.groupBy(others, ({ node }: Assignment) => node);
  return stores.shardNodes.all().flatMap((object) => {
    const node = asNode(object);
    if (object.metadata.deletionTimestamp !== undefined) return [];
    const machine = machineOf(stores, node);
    const pod = pods.find(({ metadata }) => metadata.labels?.["tessellate.dev/node"] === node.metadata.name);
    if (machineIsGone(machine, pod)) return [];
    const provider = providers.find(({ metadata }) => metadata.name === node.spec.provider);
    const counts = stores.offers.whyNot(node, provider) === undefined;
    const facts = nodeFactsOf(node, providers, machineIsReady(machine) && counts, measuredDaysAgo(node, nowMs));
    const signer = node.spec.signer.target ?? stores.offers.signer ?? facts.signer;
    const region = facts.region ?? machine?.metadata.labels?.[REGION_LABEL];
    const freeBytes = facts.freeBytes - bytesOn(facts.name, byNode.get(facts.name) ?? []);
    return [{ ...facts, freeBytes, signer, ...(region === undefined ? {} : { region }) }];
  });
}

/** It sleeps, and its last rank is gone: what its plan takes is free for others meanwhile. */
const hasLeft = (stores: Stores, plan: KubeObject): boolean =>
  asPlan(plan).spec.asleep !== undefined && stores.pods.indexed(keyOf(plan)).length === 0;

/** The processes that a chain consists of now, by the plan's routes: a probe speaks of these and no others. */
export function chainInstance(model: ModelSpec, routed: Routed, pods: readonly KubeObject[], chain: number): string {
  const route = routesOf(routed).find((each) => each.chain === chain);
  if (route === undefined) return "";
  const byName = new Map(pods.map((pod) => [pod.metadata.name, pod]));
  return ranksOn(route, segmentsOf(routed.assignments))
    .flat()
    .flatMap((assignment) => byName.get(rankName(model, assignment)) ?? [])
    .map(instanceOf)
    .sort()
    .join(" ");
}

/** Whether a rank holds what the plan gives it. */
export const isAssigned = ({ assignment }: RankState, assignments: readonly Assignment[]): boolean =>
  assignments.some(
    ({ chain, segment, rank, node, layers }) =>
      chain === assignment.chain &&
      segment === assignment.segment &&
      rank === assignment.rank &&
      node === assignment.node &&
      sameJson(layers, assignment.layers),
  );
