/** When a model is looked at again although nothing that is watched has changed. */
import type { Plan } from "./plan/types.ts";

export const STARTING_MS = 3_000;
const UNPLANNED_MS = 30_000;
const ROLLING_MS = 1_000;

/** `settledMs`: between two looks at a model that is as it should be. */
export function nextLookMs({ conditions, asleep, rolled, leaving }: Plan, settledMs: number): number {
  const holds = (type: string) =>
    conditions.some((condition) => condition.type === type && condition.status === "True");
  if (asleep !== undefined) return conditions.some(({ reason }) => reason === "Leaving") ? STARTING_MS : settledMs;
  if (leaving === undefined && conditions.some(({ reason }) => reason === "BrakeHolds"))
    return Math.min(UNPLANNED_MS, settledMs);
  // Chains that drain are asked about, and what gets ready is to be seen soon.
  if (leaving !== undefined || (rolled !== undefined && rolled.outgoing.length > 0)) return ROLLING_MS;
  // Whatever is still loading is looked at while it does, also beside chains that serve.
  if (holds("Ready") && holds("WeightsReady")) return settledMs;
  return holds("Planned") ? STARTING_MS : UNPLANNED_MS;
}
