/**
 * The brake on mass eviction, as the cluster knows it: which nodes went away, and which were given up of late. The
 * latter is written into the ShardPlans that moved their ranks, before anything is done by them, so that an operator
 * that takes over brakes as hard as the one before.
 */
import type { ShardPlan } from "../../core/gen/crds/shardplan.ts";
import type { WallClock } from "../clock.ts";
import type { KubeObject } from "../kube/objects.ts";
import { type BrakeRule, BRAKE_RULE, type GivenUp, brake, brakeWords } from "../plan/brake.ts";
import { bytesOn } from "../plan/footprint.ts";
import { nodeFactsOf } from "../plan/model-spec.ts";
import type { Assignment, ModelSpec, NodeFacts, Plan, World } from "../plan/types.ts";
import { isProposal, modelKey } from "./labels.ts";
import { asNode, asPlan, asProvider } from "./observe.ts";
import { rankStateOf } from "./rank-state.ts";
import type { Stores } from "./stores.ts";

type Written = NonNullable<ShardPlan["spec"]["givenUp"]>;

export class BrakeBook {
  readonly #stores: Stores;
  readonly #clock: WallClock;
  readonly #rule: BrakeRule;
  /** What we let go and may not have been written yet. */
  readonly #released = new Map<string, number>();
  readonly #held = new Map<string, readonly string[]>(); // by model

  constructor({ stores, clock }: { readonly stores: Stores; readonly clock: WallClock }, rule = BRAKE_RULE) {
    this.#stores = stores;
    this.#clock = clock;
    this.#rule = rule;
  }

  /** Nodes that went away and are waited for. */
  get heldCount(): number {
    return new Set([...this.#held.values()].flat()).size;
  }

  forget(key: string): void {
    this.#held.delete(key);
  }

  /** The world, with nodes that the brake holds in it as such that only do not answer, and their ranks as they are. */
  hold<W extends World>(world: W, pods: readonly KubeObject[]): W {
    const { model, previous } = world;
    this.forget(modelKey(model));
    const known = new Set(world.nodes.map(({ name }) => name));
    const gone = nodesHeld(world).filter((node) => !known.has(node));
    if (previous === undefined || previous.asleep !== undefined || gone.length === 0) return world;
    const nodeCount = this.#nodeCount();
    const nowMs = this.#clock.wallMs();
    const verdict = brake({ gone, givenUp: this.#givenUp(), nodeCount, nowMs }, this.#rule);
    for (const node of verdict.released)
      if (!this.#isRecent(this.#released.get(node), nowMs)) this.#released.set(node, nowMs);
    if (verdict.held.length === 0) return world;
    this.#held.set(modelKey(model), verdict.held);
    const held = new Set(verdict.held);
    return {
      ...world,
      nodes: [...world.nodes, ...verdict.held.map((node) => this.#factsOf(node, model, standingIn(world)))],
      ranks: world.ranks.map((rank) => {
        if (!held.has(rank.assignment.node)) return rank;
        const pod = pods.find(({ metadata }) => metadata.name === rank.name);
        return (pod && rankStateOf(pod, false)) ?? rank;
      }),
      held: { nodes: verdict.held, why: brakeWords(verdict, nodeCount, this.#rule) },
    };
  }

  /** What the next plan of this model has to say of nodes that were given up for it; what is long ago goes. */
  written(
    world: World,
    { placement, rolled }: Pick<Plan, "placement" | "rolled">,
    before: ShardPlan | undefined,
  ): { readonly givenUp?: Written } {
    const nowMs = this.#clock.wallMs();
    const old = before?.spec.givenUp ?? [];
    const known = new Set(world.nodes.map(({ name }) => name));
    const next = [
      ...(placement?.assignments ?? []),
      ...(rolled?.outgoing ?? []).flatMap(({ plan }) => plan.assignments),
    ];
    const used = new Set(next.map(({ node }) => node));
    const left = nodesHeld(world);
    const named = new Set(old.filter(({ at }) => this.#isRecent(Date.parse(at), nowMs)).map(({ node }) => node));
    const fresh = left
      .filter((node) => !known.has(node) && !used.has(node) && !named.has(node) && this.#released.has(node))
      .map((node) => ({ node, at: new Date(this.#released.get(node) ?? nowMs).toISOString() }));
    if (fresh.length === 0) return old.length === 0 ? {} : { givenUp: old }; // a plan that stays is not written anew
    return { givenUp: [...old.filter(({ node }) => named.has(node)), ...fresh] };
  }

  #isRecent = (atMs: number | undefined, nowMs: number): boolean =>
    atMs !== undefined && atMs > nowMs - this.#rule.windowMs;

  #plans(): readonly ShardPlan[] {
    return this.#stores.plans.all().flatMap((plan) => (isProposal(plan) ? [] : [asPlan(plan)]));
  }

  #givenUp(): readonly GivenUp[] {
    return [
      ...[...this.#released].map(([node, atMs]) => ({ node, atMs })),
      ...this.#plans()
        .flatMap(({ spec }) => spec.givenUp ?? [])
        .map(({ node, at }) => ({ node, atMs: Date.parse(at) })),
    ];
  }

  /** Offered, or holding something. */
  #nodeCount(): number {
    const holding = this.#plans().flatMap(({ spec }) =>
      spec.chains.flatMap(({ segments }) => segments.flatMap(({ ranks }) => ranks.map(({ node }) => node))),
    );
    return new Set([...this.#stores.shardNodes.all().map(({ metadata }) => metadata.name), ...holding]).size;
  }

  /** A node that is no longer offered is as the plan in force takes it to be. */
  #factsOf(name: string, { placement }: ModelSpec, assignments: readonly Assignment[]): NodeFacts {
    const object = this.#stores.shardNodes.get(name);
    if (object !== undefined) return nodeFactsOf(asNode(object), this.#stores.providers.all().map(asProvider), false);
    const [device = "cpu"] = placement.devices ?? [];
    const [region] = placement.regions ?? [];
    return {
      name,
      provider: assignments.find(({ node }) => node === name)?.provider ?? "",
      providerAdmitted: true,
      ready: false,
      labels: placement.nodeSelector,
      device,
      ...(region === undefined ? {} : { region }),
      freeBytes: bytesOn(name, assignments),
      memoryBytesPerSecond: 0,
      threadCount: 1,
      signer: "",
    };
  }
}

/** Ranks of the plan in force, and of chains that another revision takes the place of. */
const standingIn = ({ previous, rolls }: World): readonly Assignment[] => [
  ...(previous?.assignments ?? []),
  ...(rolls?.outgoing ?? []).flatMap(({ plan }) => plan.assignments),
];

const nodesHeld = (world: World): readonly string[] => [...new Set(standingIn(world).map(({ node }) => node))];
