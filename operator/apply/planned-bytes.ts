/**
 * How much memory the plans in force take of each node, kept as plans come and go: a thousand plans are not read anew
 * for each look at one of them. What we are about to write counts from then on, so that two models that are planned at
 * the same time cannot both be given the same memory.
 */
import { type KubeObject, keyOf } from "../kube/objects.ts";
import { bytesOfRank } from "../plan/footprint.ts";
import type { Assignment } from "../plan/types.ts";
import { isProposal } from "./labels.ts";
import { asPlan } from "./observe.ts";
import { assignmentsIn } from "./shard-plan.ts";

type Known = {
  readonly bytes: Bytes;
  readonly generation: number;
  readonly uid: string;
  readonly isEmpty: boolean; // though it has ranks
};
type Bytes = ReadonlyMap<string, number>; // by node

export class PlannedBytes {
  readonly #totals = new Map<string, number>();
  readonly #plans = new Map<string, Known>();

  /** A stored plan, as it was written or read. What is older than what is known is left aside. */
  put(plan: KubeObject): void {
    this.#put(plan, false);
  }

  /** A stored plan of which nothing is there. */
  empty(plan: KubeObject): void {
    this.#put(plan, true);
  }

  remove(plan: KubeObject): void {
    if (!isProposal(plan) && this.#plans.get(keyOf(plan))?.uid === plan.metadata.uid) this.#drop(keyOf(plan));
  }

  /** From now on the model's plan counts as this, until it is stored or {@link release} takes it back. */
  reserve(key: string, assignments: readonly Assignment[]): void {
    const known = this.#plans.get(key);
    const { generation = 0, uid = "" } = known ?? {};
    this.#set(key, { bytes: bytesBy(assignments), generation, uid, isEmpty: false });
  }

  /** It was not written after all: `stored` is what stands. */
  release(key: string, stored: KubeObject | undefined): void {
    this.#drop(key);
    if (stored !== undefined) this.put(stored);
  }

  /** What the plans of all other models take of `node`. */
  besides(key: string, node: string): number {
    return (this.#totals.get(node) ?? 0) - (this.#plans.get(key)?.bytes.get(node) ?? 0);
  }

  #put(plan: KubeObject, isEmpty: boolean): void {
    if (isProposal(plan)) return;
    const { uid = "", generation = 0 } = plan.metadata;
    const known = this.#plans.get(keyOf(plan));
    if (known?.uid === uid && known.generation > generation) return;
    // Each pod that comes or goes leads here.
    if (known?.uid === uid && known.generation === generation && known.isEmpty === isEmpty) return;
    const bytes: Bytes = isEmpty ? new Map() : bytesBy(assignmentsIn(asPlan(plan)));
    this.#set(keyOf(plan), { bytes, generation, uid, isEmpty });
  }

  #set(key: string, plan: Known): void {
    this.#drop(key);
    this.#plans.set(key, plan);
    for (const [node, count] of plan.bytes) this.#totals.set(node, (this.#totals.get(node) ?? 0) + count);
  }

  #drop(key: string): void {
    for (const [node, count] of this.#plans.get(key)?.bytes ?? []) {
      const left = (this.#totals.get(node) ?? 0) - count;
      if (left > 0) this.#totals.set(node, left);
      else this.#totals.delete(node);
    }
    this.#plans.delete(key);
  }
}

/** Memory of the assignments by node. */
export function bytesBy(assignments: readonly Assignment[]): Bytes {
  const bytes = new Map<string, number>();
  for (const assignment of assignments)
    bytes.set(assignment.node, (bytes.get(assignment.node) ?? 0) + bytesOfRank(assignment));
  return bytes;
}
