/** A session as this rank holds it, from Open to Close or expiry. */
import type { StepRefusal } from "../../core/gen/proto/tessellate/shard/v1/StepRefusal.ts";
import type { Token } from "../../core/gen/proto/tessellate/shard/v1/Token.ts";
import { type Refusal, refuse } from "../../core/result.ts";
import { SessionLog } from "../attest/session-log.ts";
import type { HandOffLink } from "./hand-off-link.ts";
import type { SessionPlan } from "./open-request.ts";
import type { RankFacts } from "./rank-facts.ts";

/** Why a session goes no further, and which rank refused or was lost. */
export type Failure = { readonly code: string; readonly detail: string; readonly rank: string };

/** The stream that a session's steps come in on; refusals go back over it. */
export type Upstream = { refuse(refusal: StepRefusal): void };

/** The gateway's end of a Tokens stream. */
export type TokenTaker = { take(token: Token): void; refuse(refusal: Refusal): void; end(): void };

/** The step accepted last, as it came, and what was answered to it once it ran: a repeated step is answered again. */
export type LastStep = { readonly position: number; readonly rows: number; readonly data: Uint8Array };

export class Session {
  readonly plan: SessionPlan;
  readonly log: SessionLog;
  lastSeenMs: number;
  /** Positions that were accepted, and that were run, hashed and handed on. */
  acceptedEnd = 0;
  doneEnd = 0;
  /** When its last step left this segment, and how long its next usually takes to come. */
  leftMs: number | undefined;
  awayMs: number | undefined;
  lastLeftMs: number | undefined; // whether or not its next has come
  /** Steps that wait or run. */
  pendingCount = 0;
  failure: Failure | undefined;
  released = false; // slot and link are given back
  upstream: Upstream | undefined;
  link: HandOffLink | undefined;
  lastStep: LastStep | undefined;
  resend: (() => void) | undefined;
  readonly tokens: Token[] = [];
  tokenTaker: TokenTaker | undefined;
  readonly #watchers = new Set<() => void>();

  constructor(facts: RankFacts, plan: SessionPlan, nowMs: number) {
    this.plan = plan;
    this.log = new SessionLog(facts, plan);
    this.lastSeenMs = nowMs;
  }

  leave(nowMs: number): void {
    this.leftMs = nowMs;
    this.lastLeftMs = nowMs;
  }

  /** Its next step has come: remembers how long it was away, recent times counting most. */
  cameBack(nowMs: number): void {
    if (this.leftMs === undefined) return;
    const awayMs = nowMs - this.leftMs;
    this.awayMs = this.awayMs === undefined ? awayMs : (this.awayMs + awayMs) / 2;
    this.leftMs = undefined;
  }

  /** When its next step should come; undefined where one is here, or nobody can say. */
  returnsAtMs(): number | undefined {
    return this.leftMs === undefined || this.awayMs === undefined ? undefined : this.leftMs + this.awayMs;
  }

  /** The failure as what a call can end with. */
  failureRefusal(): Refusal {
    return this.failure === undefined ? refuse("Bug", "no failure") : refuse(this.failure.code, this.failure.detail);
  }

  /** Tells those that wait in {@link settled} to look again. */
  changed(): void {
    for (const watcher of this.#watchers) watcher();
  }

  /**
   * Resolves when `positions` were run, or the session failed, and nothing of it runs any more; or after `timeoutMs`.
   * Whoever signs waits for this, so that all ranks of a chain sign the same span.
   */
  settled(positions: number, timeoutMs: number): Promise<void> {
    const isSettled = () => (this.failure !== undefined || this.doneEnd >= positions) && this.pendingCount === 0;
    if (isSettled()) return Promise.resolve();
    return new Promise((resolve) => {
      const finish = () => {
        clearTimeout(timer);
        this.#watchers.delete(look);
        resolve();
      };
      const look = () => {
        if (isSettled()) finish();
      };
      const timer = setTimeout(finish, timeoutMs);
      this.#watchers.add(look);
    });
  }
}
