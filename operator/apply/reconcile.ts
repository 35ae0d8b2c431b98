/** One look at one model: observe, plan, perform. The resting state is no action and no write. */
import type { Plan } from "../plan/types.ts";
import type { Cluster } from "./cluster.ts";
import type { Planner } from "./planner.ts";

/** Undefined where the model is gone. Throws weather; whoever calls tries again later. */
export async function reconcile(cluster: Cluster, planner: Planner, key: string): Promise<Plan | undefined> {
  const observed = await cluster.observe(key);
  if (observed === undefined) return undefined;
  const decided = await planner.plan(observed.world);
  await cluster.keep(observed, decided);
  // Status before actions that take long: people look at it while they wait.
  const [slow, quick] = [
    decided.actions.filter((action) => action.do === "probe"),
    decided.actions.filter((action) => action.do !== "probe"),
  ];
  for (const action of quick.filter((each) => each.do !== "create-rank"))
    await cluster.perform(observed, decided, action);
  await atOnce(
    quick.filter((each) => each.do === "create-rank").map((each) => cluster.perform(observed, decided, each)),
  );
  await cluster.report(observed, decided);
  for (const action of slow) await cluster.perform(observed, decided, action);
  return decided;
}

/** Waits for all, also where one fails: whoever looks next must not find work under way. Throws the first failure. */
async function atOnce(works: readonly Promise<void>[]): Promise<void> {
  for (const result of await Promise.allSettled(works)) if (result.status === "rejected") throw result.reason;
}
