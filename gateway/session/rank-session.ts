/** One session on one chain, as the gateway drives it: ids in at the first segment, sampled ids out of the last. */
import type { ClientReadableStream } from "@grpc/grpc-js";
import { present } from "../../core/assert.ts";
import type { CloseReply__Output } from "../../core/gen/proto/tessellate/shard/v1/CloseReply.ts";
import type { Token__Output } from "../../core/gen/proto/tessellate/shard/v1/Token.ts";
import { EdgeLog, tokenBytes } from "../../core/hand-off.ts";
import { type Refusal, type Result, ok, refuse } from "../../core/result.ts";
import { ask } from "../../core/wire/door.ts";
import { refusalOf } from "../../core/wire/status.ts";
import type { Ranks, StepStream } from "./step-stream.ts";
import type { ChainSegment, RankAddress, SampledToken, Session, SessionReceipts, SessionRequest } from "./types.ts";

/** Positions of one prompt chunk: small enough that decoded tokens of others need not wait long behind it. */
const CHUNK_ROWS = 128;
const CLOSE_TIMEOUT_MS = 10_000;

export class RankSession implements Session {
  readonly #ranks: Ranks;
  readonly #request: SessionRequest;
  readonly #steps: StepStream;
  readonly #tokens: ClientReadableStream<Token__Output>;
  readonly #forget: () => void;
  readonly #edgeIn: EdgeLog;
  readonly #edgeOut: EdgeLog;
  readonly #arrived: SampledToken[] = [];
  #taken: { readonly position: number; readonly tokenId: number } | undefined; // the token that came last
  #lastToken: number | undefined; // the one that was asked for last
  #failure: Refusal | undefined;
  #waiting: ((outcome: Result<SampledToken>) => void) | undefined;
  #closing: Promise<SessionReceipts> | undefined;

  /** The session must be open at every rank of its chain. */
  constructor(ranks: Ranks, request: SessionRequest) {
    this.#ranks = ranks;
    this.#request = request;
    this.#edgeIn = new EdgeLog(request.nonce, 0);
    this.#edgeOut = new EdgeLog(request.nonce, request.chain.length);
    const last = leaderOf(request.chain.at(-1));
    this.#steps = ranks.steps(leaderOf(request.chain[0]));
    this.#steps.join(request.id, (refusal) => this.#fail(refusal));
    this.#tokens = ranks.client(last).Tokens({ session: request.id });
    this.#forget = ranks.onClose(() => this.#tokens.cancel()); // a client that is closed lets its calls run on
    this.#tokens.on("data", (token: Token__Output) => this.#take(token, last));
    this.#tokens.on("error", (error) => this.#fail(refusalOf(error, `rank ${last.name}`)));
    this.#tokens.on("end", () => this.#fail(refuse("RankLost", `rank ${last.name} ended the stream of tokens`)));
  }

  async next(): Promise<Result<SampledToken>> {
    if (this.#failure !== undefined) return this.#failure;
    if (this.#closing !== undefined) return refuse("Cancelled", "the session is closed");
    const tokenIds = this.#lastToken === undefined ? this.#request.prompt : [this.#lastToken];
    if (this.#edgeIn.positionCount + tokenIds.length > this.#request.maxPositions) {
      return refuse("TooLong", `the session was opened for ${this.#request.maxPositions} positions, and they are used`);
    }
    for (let start = 0; start < tokenIds.length; start += CHUNK_ROWS) {
      // Whatever is sent is signed: nothing more goes in once the session closes, or a rank has refused.
      if (this.#closing !== undefined || this.#failure !== undefined) break;
      await this.#send(tokenIds.slice(start, start + CHUNK_ROWS), start + CHUNK_ROWS >= tokenIds.length);
    }
    const outcome = await this.#nextArrival();
    if (outcome.ok) this.#lastToken = outcome.value.tokenId;
    return outcome;
  }

  close(reason: "done" | "cancelled" | "failed"): Promise<SessionReceipts> {
    this.#closing ??= this.#close(reason);
    return this.#closing;
  }

  async #send(tokenIds: readonly number[], sample: boolean): Promise<void> {
    const position = this.#edgeIn.positionCount;
    const data = tokenBytes(tokenIds);
    this.#edgeIn.appendTokens(position, data);
    const payload = { dtype: "u32", rows: tokenIds.length, columns: 1, data };
    await this.#steps.send({ session: this.#request.id, position, payload, sample });
  }

  #nextArrival(): Promise<Result<SampledToken>> {
    const arrived = this.#arrived.shift();
    if (arrived !== undefined) return Promise.resolve(ok(arrived));
    if (this.#failure !== undefined) return Promise.resolve(this.#failure);
    if (this.#closing !== undefined) return Promise.resolve(refuse("Cancelled", "the session is closed"));
    return new Promise((resolve) => {
      this.#waiting = resolve;
    });
  }

  #take({ position, tokenId, logProbability }: Token__Output, from: RankAddress): void {
    const expected = this.#edgeIn.positionCount;
    // A step that was sent twice is answered twice.
    const last = this.#taken;
    if (last?.position === position && last.tokenId === tokenId) return;
    // Attacker: a last segment that makes up tokens nobody asked for would be billed for them.
    if (position !== expected || this.#edgeOut.end === position + 1) {
      this.#fail(
        refuse("OutOfOrder", `rank ${from.name} sent a token for position ${position}, awaited was ${expected}`),
      );
      return;
    }
    this.#edgeOut.appendTokens(position, tokenBytes([tokenId]));
    this.#taken = { position, tokenId };
    this.#settle(ok({ position, tokenId, logProbability }));
  }

  #settle(outcome: Result<SampledToken>): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    if (waiting !== undefined) waiting(outcome);
    else if (outcome.ok) this.#arrived.push(outcome.value);
  }

  #fail(refusal: Refusal): void {
    if (this.#failure !== undefined || this.#closing !== undefined) return;
    this.#failure = refusal;
    this.#settle(refusal);
  }

  async #close(reason: string): Promise<SessionReceipts> {
    this.#settle(refuse("Cancelled", "the session is closed"));
    this.#steps.leave(this.#request.id);
    // After a failure no rank can get as far as was sent, and none should wait for it.
    const positions = reason === "failed" || this.#failure !== undefined ? 0 : this.#edgeIn.positionCount;
    const replies = await closeRanks(this.#ranks, this.#request, reason, positions);
    this.#tokens.cancel();
    this.#forget();
    return { receipts: replies, handOffsIn: this.#edgeIn.root(), handOffsOut: this.#edgeOut.root() };
  }
}

/** Closes the session at the ranks of its chain (or at those in `only`), all at once; one that does not answer signs nothing. */
export async function closeRanks(
  ranks: Ranks,
  { id, chain }: Pick<SessionRequest, "id" | "chain">,
  reason: string,
  positions: number,
  only?: ReadonlySet<RankAddress>,
): Promise<readonly Uint8Array[]> {
  const replies = await Promise.all(
    chain
      .flatMap((segment) => segment.ranks)
      .filter((rank) => only === undefined || only.has(rank))
      .map((rank) =>
        ask<CloseReply__Output>(`rank ${rank.name}`, CLOSE_TIMEOUT_MS, (options, callback) =>
          ranks.client(rank).Close({ session: id, reason, positions }, options, callback),
        ),
      ),
  );
  return replies.flatMap((reply) => (reply.ok ? reply.value.receipts : []));
}

const leaderOf = (segment: ChainSegment | undefined): RankAddress =>
  present(segment?.ranks[0], "a chain has segments, and each has a leader");
