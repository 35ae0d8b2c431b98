/**
 * The door to the cluster: one observes a World, others make a Plan so. What knows of API servers stands behind it, what
 * decides stands before it.
 */
import type { ShardedModel } from "../../core/gen/crds/shardedmodel.ts";
import type { ReadFacts } from "../manifest/read-facts.ts";
import type { Action, Plan, World } from "../plan/types.ts";

/** A world with the objects that it was read from. */
export type Observed = {
  readonly world: World & { readonly facts: ReadFacts | { readonly code: string; readonly detail: string } };
  readonly object: ShardedModel;
  /** What else is read of what is kept and said, the object among it: whatever changes comes as another. */
  readonly read: readonly unknown[];
};

export type CreateRank = Extract<Action, { readonly do: "create-rank" }>;
export type OtherAction = Exclude<Action, CreateRank>;

export interface Cluster {
  /** Undefined: the model is gone, or going; what it owns goes with it. */
  observe(key: string): Promise<Observed | undefined>;
  /** Writes the plan down before anything is done, so that whoever comes next goes on from it. */
  keep(observed: Observed, plan: Plan): Promise<void>;
  /** Makes ranks: all are tried, also where one fails. Idempotent: those that are there are left as they are. */
  make(observed: Observed, plan: Plan, actions: readonly CreateRank[]): Promise<void>;
  /** Does one thing. Idempotent: what is so already is success. */
  perform(observed: Observed, plan: Plan, action: OtherAction): Promise<void>;
  /** Says how it is; writes nothing where nothing changed: true where all was said before, and nothing was put off. */
  report(observed: Observed, plan: Plan): Promise<boolean>;
}
