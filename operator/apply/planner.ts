/**
 * The door to planning. A fresh plan takes most of a second at forty nodes and seconds at thousands, so the operator
 * plans in a thread of its own (planner-thread.ts), and its loop goes on meanwhile.
 */
import { plan } from "../plan/plan.ts";
import type { Plan, World } from "../plan/types.ts";

export interface Planner {
  /** The plan of this world: the same for the same one. Throws weather where planning broke off. */
  plan(world: World): Promise<Plan>;
}

/** Plans where it is asked, which keeps the caller's loop for as long. For tests, and where nothing else waits. */
export const planInPlace: Planner = { plan: async (world) => plan(world) };
