/**
 * Which of a model's ready chains takes the next session, from what this gateway has seen of each. Chains are fixed;
 * the choice is between whole chains, because picking ranks one by one loads the near ones and starves the rest.
 */
import { assert } from "../../core/assert.ts";

/** How one ready chain looks from here. Times are of the gateway's clock. */
export type ChainLoad = {
  readonly key: string;
  readonly sessionCount: number; // of this gateway, opened or being opened
  readonly fullUntilMs: number; // it had no slot; asked again then, or once a session of ours ends
  readonly failureCount: number; // in a row
  readonly coolUntilMs: number; // it failed; not asked before then
};

export type Choice =
  | { readonly do: "take"; readonly key: string }
  | { readonly do: "wait"; readonly untilMs: number | undefined }; // undefined: no chain is ready

/** How a session ended, as far as its chain is concerned. */
export type Outcome = "served" | "noSlot" | "lost";

/** Other gateways free slots without telling us, so a full chain is asked again after this. */
export const FULL_RETRY_MS = 250;
const COOL_FIRST_MS = 500;
const COOL_MAX_MS = 30_000;

export const newLoad = (key: string): ChainLoad => ({
  key,
  sessionCount: 0,
  fullUntilMs: 0,
  failureCount: 0,
  coolUntilMs: 0,
});

/** The free chain with the fewest sessions; of equals the one with fewer failures, then the first. */
export function chooseChain(ready: readonly ChainLoad[], nowMs: number): Choice {
  const freeFromMs = (load: ChainLoad): number => Math.max(load.fullUntilMs, load.coolUntilMs);
  const [best] = ready
    .filter((load) => freeFromMs(load) <= nowMs)
    .toSorted((a, b) => a.sessionCount - b.sessionCount || a.failureCount - b.failureCount);
  if (best !== undefined) return { do: "take", key: best.key };
  return { do: "wait", untilMs: ready.length === 0 ? undefined : Math.min(...ready.map(freeFromMs)) };
}

export const taken = (load: ChainLoad): ChainLoad => ({ ...load, sessionCount: load.sessionCount + 1 });

/** The chain after one of its sessions ended. Failures in a row double the time for which it is left alone. */
export function freed(load: ChainLoad, outcome: Outcome, nowMs: number): ChainLoad {
  assert(load.sessionCount > 0, "only a session that was taken is freed");
  const sessionCount = load.sessionCount - 1;
  switch (outcome) {
    case "served":
      return { ...load, sessionCount, fullUntilMs: 0, failureCount: 0, coolUntilMs: 0 };
    case "noSlot":
      return { ...load, sessionCount, fullUntilMs: nowMs + FULL_RETRY_MS };
    case "lost": {
      const coolMs = Math.min(COOL_MAX_MS, COOL_FIRST_MS * 2 ** Math.min(load.failureCount, 10));
      return { ...load, sessionCount, failureCount: load.failureCount + 1, coolUntilMs: nowMs + coolMs };
    }
  }
}
