/** What driving one session looks like from the HTTP side: tokens as they come, receipts at the end. */
import type { Result } from "../../core/result.ts";

export type RankAddress = {
  readonly name: string; // <namespace>/<model>-<chain>-<segment>-<rank>
  readonly address: string; // host:port
  readonly provider: string;
  readonly node: string;
};

export type ChainSegment = {
  readonly layers: { readonly start: number; readonly end: number };
  readonly ranks: readonly RankAddress[]; // in rank order; the first leads
};

export type SessionRequest = {
  readonly id: string;
  readonly nonce: Uint8Array; // 32 bytes
  readonly modelRoot: string;
  readonly chain: readonly ChainSegment[];
  readonly prompt: readonly number[]; // token ids, at least one
  readonly sampler: { readonly temperature: number; readonly topP: number; readonly seed: Uint8Array };
  readonly maxPositions: number; // prompt and generated tokens together
  readonly handOffDtype: "f32" | "f16";
  readonly epoch: number;
};

export type SampledToken = {
  readonly position: number;
  readonly tokenId: number;
  readonly logProbability: number; // natural logarithm
};

export type SessionReceipts = {
  readonly receipts: readonly Uint8Array[]; // DSSE envelopes, segments in order, ranks in order
  readonly handOffsIn: string; // root of edge 0 as the gateway computed it
  readonly handOffsOut: string; // root of the last edge as the gateway computed it
};

/**
 * One generation on one chain. `next` feeds the token sampled last back into the chain and waits for the one after;
 * its first call waits for the prompt. A refusal names the rank that refused or was lost, in its detail.
 */
export type Session = {
  next(): Promise<Result<SampledToken>>;
  /** Frees every rank's slot, even after a failure, and gathers what was signed. Never throws; idempotent. */
  close(reason: "done" | "cancelled" | "failed"): Promise<SessionReceipts>;
};

/** The gateway's door to the ranks. */
export type Wire = {
  /** Opens the session at every rank; a refusal (`NoSlot`, `ModelMismatch`, `Unreachable`, …) leaves nothing open. */
  open(request: SessionRequest): Promise<Result<Session>>;
  /** A verified-by-the-rank file of the model (manifest, tokenizer, configuration); the caller checks it again. */
  readFile(rank: RankAddress, path: string): Promise<Result<Uint8Array>>;
  close(): Promise<void>;
};
