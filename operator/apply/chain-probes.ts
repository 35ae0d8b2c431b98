/** What became of the probes through each chain, for as long as the same processes stand behind it. */
import type { ShardedModelStatus } from "../../core/gen/crds/shardedmodel.ts";
import type { KubeObject } from "../kube/objects.ts";
import { withLeaving } from "../plan/leaving.ts";
import { routesOf } from "../plan/routes.ts";
import type { Action, ModelSpec, Plan, Probe, StandingPlan } from "../plan/types.ts";
import { modelKey } from "./labels.ts";
import { type KnownProbe, inheritedProbes } from "./known-probes.ts";
import { chainInstance } from "./observe.ts";

/** `tokenMs`: the time between two tokens, where more than one was asked for. */
export type ProbeOutcome = { readonly passed: boolean; readonly detail: string; readonly tokenMs?: number };

/** Sends a token through a chain, or a few, by a gateway that knows how the chain is now. */
export type Prober = (
  model: { readonly namespace: string; readonly name: string },
  chain: number,
  tokenCount: number,
) => Promise<ProbeOutcome>;

export type AskProbe = Extract<Action, { readonly do: "probe" }>;

/** Enough for a middle that says something, few enough for a chain of a token a second. */
const MEASURED_TOKENS = 9;
const PACES_KEPT = 6;

export class ChainProbes {
  readonly #probe: Prober;
  readonly #onProbed: (key: string, passed: boolean) => void;
  readonly #known = new Map<string, readonly KnownProbe[]>(); // by model
  readonly #probing = new Set<string>();
  #measuredCount = 0;

  constructor(probe: Prober, onProbed: (key: string, passed: boolean) => void) {
    this.#probe = probe;
    this.#onProbed = onProbed;
  }

  /**
   * Those that speak of the processes that there are. `status`: what an operator before this one said. `rollout`: what the
   * plan says of it, while one is under way.
   */
  of(
    model: ModelSpec,
    standing: readonly StandingPlan[],
    status: ShardedModelStatus | undefined,
    pods: readonly KubeObject[],
    rollout: { readonly unproven?: readonly number[] } | undefined,
  ): readonly Probe[] {
    const key = modelKey(model);
    const known =
      this.#known.get(key) ?? inheritedProbes(model, standing, status, pods, rollout && (rollout.unproven ?? []));
    this.#known.set(key, known);
    return known.filter(
      ({ chain, instance }) =>
        instance !== "" && standing.some((plan) => instance === chainInstance(model, plan, pods, chain)),
    );
  }

  /** Begins; whoever is told of the outcome looks at the model again. It may take a minute, and nobody waits for it. */
  ask(model: ModelSpec, plan: Plan, { chain, isMeasure }: AskProbe, pods: readonly KubeObject[]): void {
    const { rolled, leaving, trial } = plan;
    if (plan.placement === undefined) return;
    const placement = withLeaving(plan.placement, leaving, trial);
    const key = modelKey(model);
    const standing = [placement, ...(rolled?.outgoing ?? []).map((side) => side.plan)];
    const routed = standing.find((each) => routesOf(each).some((route) => route.chain === chain)) ?? placement;
    const instance = chainInstance(model, routed, pods, chain);
    const what = `${key} ${chain} ${instance}`;
    if (this.#probing.has(what)) return;
    this.#probing.add(what);
    this.#probe(model, chain, isMeasure === true ? MEASURED_TOKENS : 1)
      .then(
        (outcome) => {
          this.#keep(key, { chain, instance }, outcome, isMeasure === true);
          this.#onProbed(key, outcome.passed);
        },
        () => undefined, // we do not lead any more
      )
      .finally(() => this.#probing.delete(what));
  }

  #keep(
    key: string,
    { chain, instance }: Pick<KnownProbe, "chain" | "instance">,
    { tokenMs, ...outcome }: ProbeOutcome,
    isMeasure: boolean,
  ): void {
    const known = this.#known.get(key) ?? [];
    const before = known.find((probe) => probe.chain === chain && probe.instance === instance);
    const paces = [...(before?.paces ?? [])];
    if (isMeasure) {
      this.#measuredCount += 1;
      paces.push({ order: this.#measuredCount, ...(tokenMs === undefined ? {} : { tokenMs }) });
    }
    const measured = paces.length > 0 ? { paces: paces.slice(-PACES_KEPT) } : {};
    const others = known.filter((probe) => probe.chain !== chain);
    this.#known.set(key, [...others, { ...outcome, ...measured, chain, instance }]);
  }

  forget(key: string): void {
    this.#known.delete(key);
  }
}
