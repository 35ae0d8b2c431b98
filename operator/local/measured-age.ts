/** How old a node's measurements are: asked where a clock is, so that planning needs none. */
import type { ShardNode } from "../../core/gen/crds/shardnode.ts";

const DAY_MS = 86_400_000;

/** Whole days at `nowMs` since 1970; undefined where nobody wrote down when, or the clocks disagree. */
export function measuredDaysAgo({ status }: Pick<ShardNode, "status">, nowMs: number): number | undefined {
  const time = status?.measured?.time;
  const days = time === undefined ? Number.NaN : Math.floor((nowMs - Date.parse(time)) / DAY_MS);
  return days >= 0 ? days : undefined;
}
