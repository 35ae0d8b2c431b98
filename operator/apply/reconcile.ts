/** One look at one model: observe, plan, perform. The resting state is no action and no write; see settled-looks.ts. */
import type { Plan } from "../plan/types.ts";
import type { Cluster } from "./cluster.ts";
import type { Planner } from "./planner.ts";
import type { SettledLooks } from "./settled-looks.ts";

/** `isAsBefore`: it saw what the last one saw, which left nothing to do, and ended there. */
export type Look = { readonly plan: Plan; readonly isAsBefore: boolean };

/** Undefined where the model is gone. Throws weather; whoever calls tries again later. */
export async function reconcile(
  cluster: Cluster,
  planner: Planner,
  settled: SettledLooks,
  key: string,
): Promise<Look | undefined> {
  const observed = await cluster.observe(key);
  const before = observed && settled.planOf(key, observed);
  if (before !== undefined) return { plan: before, isAsBefore: true };
  settled.forget(key);
  if (observed === undefined) return undefined;
  const decided = await planner.plan(observed.world);
  await cluster.keep(observed, decided);
  const { actions } = decided;
  for (const action of actions) if (action.do === "delete-rank") await cluster.perform(observed, decided, action);
  const made = actions.filter((action) => action.do === "create-rank");
  if (made.length > 0) await cluster.make(observed, decided, made);
  // Status before actions that take long: people look at it while they wait.
  const isSaid = await cluster.report(observed, decided);
  for (const action of actions) if (action.do === "probe") await cluster.perform(observed, decided, action);
  if (isSaid) settled.note(key, observed, decided);
  return { plan: decided, isAsBefore: false };
}
