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
};

export interface Cluster {
  /** Undefined: the model is gone, or going; what it owns goes with it. */
  observe(key: string): Promise<Observed | undefined>;
  /** Writes the plan down before anything is done, so that whoever comes next goes on from it. */
  keep(observed: Observed, plan: Plan): Promise<void>;
  /** Does one thing. Idempotent: what is so already is success. */
  perform(observed: Observed, plan: Plan, action: Action): Promise<void>;
  /** Says how it is; writes nothing where nothing changed. */
  report(observed: Observed, plan: Plan): Promise<void>;
}
