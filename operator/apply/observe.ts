/** From the copies of objects to a World: pure reading, no request. */
import type { Provider } from "../../core/gen/crds/provider.ts";
import type { ShardedModel } from "../../core/gen/crds/shardedmodel.ts";
import type { ShardNode } from "../../core/gen/crds/shardnode.ts";
import type { ShardPlan } from "../../core/gen/crds/shardplan.ts";
import { type KubeObject, keyOf } from "../kube/objects.ts";
import { sameJson } from "../kube/same.ts";
import { REGION_LABEL, nodeFactsOf } from "../plan/model-spec.ts";
import { rankName } from "../plan/names.ts";
import { type Routed, ranksOn, routesOf, segmentsOf } from "../plan/routes.ts";
import type { Assignment, ModelSpec, NodeFacts, RankState } from "../plan/types.ts";
import { NODE_LABEL } from "./labels.ts";
import { instanceOf, machineIsGone, leavingOf, machineIsReady, rankStateOf } from "./rank-state.ts";
import { measuredDaysAgo } from "../local/measured-age.ts";
import type { Stores } from "./stores.ts";

// Stored objects have passed the schema, whose types are generated from the same file: here they are named, not checked.
export const asModel = (object: KubeObject) => object as unknown as ShardedModel;
export const asPlan = (object: KubeObject) => object as unknown as ShardPlan;
export const asNode = (object: KubeObject) => object as unknown as ShardNode;
export const asProvider = (object: KubeObject) => object as unknown as Provider;

export const machineOf = (stores: Stores, node: ShardNode): KubeObject | undefined =>
  stores.machines.get(node.spec.nodeName ?? node.metadata.name);

/** Pods of a model; `made` are those of it that we made and the copy has not caught up with. */
export function podsOf(stores: Stores, key: string, made: ReadonlyMap<string, KubeObject>): readonly KubeObject[] {
  const known = stores.pods.indexed(key);
  if (made.size === 0) return known;
  const names = new Set(known.map(keyOf));
  const unseen = [...made].filter(([name]) => !names.has(name));
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

type KnownNode = {
  readonly object: KubeObject;
  readonly machine: KubeObject | undefined;
  readonly provider: KubeObject | undefined;
  readonly daysAgo: number | undefined;
  readonly counts: boolean; // its provider has signed for it
  readonly facts: NodeFacts;
  readonly views: Map<string, NodeFacts>; // as models see it: by the labels that they name, and what others take of it
};

/** For which model nodes are asked for. */
export type NodesWanted = {
  readonly key: string;
  readonly nodeSelector: Readonly<Record<string, string>>;
  readonly pods: readonly KubeObject[];
  readonly assignments: readonly Assignment[]; // of every plan that stands or waits
};

/** What is known of each node, read anew only where one of its objects has changed. */
export class NodesKnown {
  readonly #known = new Map<string, KnownNode>();

  /**
   * Nodes that a model's ranks may be on, with the memory that other models leave. A node whose machine is gone is left
   * out, which moves its ranks; one that merely is not ready keeps them.
   */
  for(stores: Stores, { key, nodeSelector, pods, assignments }: NodesWanted, nowMs: number): readonly NodeFacts[] {
    const podOn = new Map(pods.toReversed().map((pod) => [pod.metadata.labels?.[NODE_LABEL], pod] as const));
    const held = [...podOn.keys(), ...assignments.map(({ node }) => node)].filter((name) => name !== undefined);
    const found = stores.nodeIndex.concerned(nodeSelector, held);
    const { own, ruledOut } = found;
    stores.seen.note(key, nodeSelector, held, found);
    const labels = Object.keys(nodeSelector).sort();
    return [...own, ...ruledOut].flatMap((object) => {
      const { name, deletionTimestamp } = object.metadata;
      if (deletionTimestamp !== undefined) return [];
      const machine = machineOf(stores, asNode(object));
      if (machineIsGone(machine, podOn.get(name))) return [];
      return [viewOf(this.#read(stores, object, machine, nowMs), labels, stores.planned.besides(key, name))];
    });
  }

  /** What a node offers to all models together, as it was seen last. */
  freeBytes(name: string): number {
    return this.#known.get(name)?.facts.freeBytes ?? 0;
  }

  #read(stores: Stores, object: KubeObject, machine: KubeObject | undefined, nowMs: number): KnownNode {
    const node = asNode(object);
    const provider = stores.providers.get(node.spec.provider);
    const daysAgo = measuredDaysAgo(node, nowMs);
    const known = this.#known.get(object.metadata.name);
    const counts = stores.offers.whyNot(node, provider && asProvider(provider)) === undefined;
    const isSame = known?.object === object && known.machine === machine && known.provider === provider;
    if (isSame && known.daysAgo === daysAgo && known.counts === counts) return known;
    const providers = provider === undefined ? [] : [asProvider(provider)];
    const read = nodeFactsOf(node, providers, machineIsReady(machine) && counts, daysAgo);
    const region = read.region ?? machine?.metadata.labels?.[REGION_LABEL];
    const signer = node.spec.signer.target ?? stores.offers.signer ?? read.signer;
    const leave = leavingOf(object, machine);
    const drain = leave.leaving === undefined ? {} : { ready: false, ...leave };
    const facts = { ...read, ...drain, signer, ...(region === undefined ? {} : { region }) };
    const found = { object, machine, provider, daysAgo, counts, facts, views: new Map<string, NodeFacts>() };
    this.#known.set(object.metadata.name, found);
    return found;
  }
}

/** Of a node that hundreds of models see, each as much of it taken by others as the next. */
const VIEW_COUNT_MAX = 64;

/**
 * The node as a model sees it: without the memory that others take, and without labels that its selector does not name,
 * which nothing follows from. The same object for as long as that is so.
 */
function viewOf({ facts, views }: KnownNode, labels: readonly string[], takenBytes: number): NodeFacts {
  const seen = `${takenBytes} ${labels.join(" ")}`;
  const known = views.get(seen);
  if (known !== undefined) return known;
  const own = labels.flatMap((label) => {
    const value = facts.labels[label];
    return value === undefined ? [] : [[label, value] as const];
  });
  const view = { ...facts, labels: Object.fromEntries(own), freeBytes: facts.freeBytes - takenBytes };
  if (views.size >= VIEW_COUNT_MAX) views.clear();
  views.set(seen, view);
  return view;
}

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
