/** What a rank does for its sessions, as leader of its segment or as one that follows. */
import type { Step__Output } from "../../core/gen/proto/tessellate/shard/v1/Step.ts";
import type { Identity } from "../../core/identity.ts";
import type { Result } from "../../core/result.ts";
import type { Receipt } from "../../core/statement.ts";
import type { SessionPlan } from "./open-request.ts";
import type { TokenTaker, Upstream } from "./session.ts";

export interface Role {
  readonly sessionCount: number;
  readonly freeSlotCount: number;
  /** Reserves what the session needs. Asked again for the same session, says the same again. */
  open(plan: SessionPlan): Promise<Result<undefined>>;
  /** Runs up to `positions`, frees the session and says what to sign; undefined where nothing was run. */
  close(session: string, opener: string, positions: number): Promise<Result<Receipt | undefined>>;
  /** A step from the gateway or the leader before. Refusals go back over `from`. */
  take(step: Step__Output, from: Upstream, caller: Identity): void;
  /** A stream of steps, or of a session's tokens, is gone. Whoever had it may come again on another, but not for long. */
  left(gone: Upstream | TokenTaker): void;
  /** The gateway wants the session's tokens, those sampled already included. */
  tokens(session: string, opener: string, taker: TokenTaker): Result<undefined>;
  /** Told whenever this rank wants streams of steps to pause or to go on. */
  onPressure: (paused: boolean) => void;
  shutdown(): void;
}

/** Ends of sessions that neither gateway nor leader has spoken of for so long. */
export const IDLE_SESSION_MS = 60_000;
/** The same, where the stream that its steps came on has broken. */
export const ORPHAN_SESSION_MS = 15_000;
export const SWEEP_MS = 5_000;
/** How long Close waits for steps that are still on their way. */
export const SETTLE_TIMEOUT_MS = 8_000;
