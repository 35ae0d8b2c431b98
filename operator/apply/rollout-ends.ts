/** How rollouts end, as metrics count them: read from the status before and the plan now, so whoever leads counts on. Pure. */
import type { ShardedModelStatus } from "../../core/gen/crds/shardedmodel.ts";
import type { UndoReason } from "../plan/rollout.ts";
import type { Plan } from "../plan/types.ts";

/** `seconds`: since the phase began that the status spoke of last. */
export type RolloutEnd =
  | { readonly result: "Done"; readonly seconds: number }
  | { readonly result: "TakenBack"; readonly seconds: number; readonly reason: UndoReason | "Unknown" };

/** The end that the next status tells of, or undefined where it tells of none. `nowMs`: since 1970. */
export function rolloutEnd(
  before: ShardedModelStatus["rollout"],
  { placement, rolled }: Pick<Plan, "placement" | "rolled">,
  nowMs: number,
): RolloutEnd | undefined {
  if (before === undefined || placement === undefined || rolled === undefined) return undefined;
  const seconds = Math.max(0, nowMs - Date.parse(before.since)) / 1000;
  const phase = rolled.status?.phase;
  const wasOnItsWay = before.phase === "RollingOut" || before.phase === "Waits";
  if (wasOnItsWay && (phase === "RollingBack" || phase === "RolledBack"))
    return { result: "TakenBack", seconds, reason: rolled.refused?.reason ?? "Unknown" };
  return before.phase === "RollingOut" && phase === undefined ? { result: "Done", seconds } : undefined;
}
