/**
 * What a rank saw of one session, hashed as it went, and the receipt that follows from it. Leaders and followers keep
 * the same logs: a follower hashes what its leader showed it and the sums it added itself, so that its signature is a
 * witness and not an echo. Followers of the last segment never see a token, and sign nothing about it.
 */
import { EdgeLog, tokenBytes } from "../../core/hand-off.ts";
import { type Receipt, seedCommitment } from "../../core/statement.ts";
import type { SessionPlan } from "../transport/open-request.ts";
import type { RankFacts } from "../transport/rank-facts.ts";

export class SessionLog {
  readonly #facts: RankFacts;
  readonly #plan: SessionPlan;
  readonly #in: EdgeLog;
  readonly #out: EdgeLog;
  #stepCount = 0;
  #sampledCount = 0;

  constructor(facts: RankFacts, plan: SessionPlan) {
    this.#facts = facts;
    this.#plan = plan;
    this.#in = new EdgeLog(plan.nonce, plan.segmentIndex);
    this.#out = new EdgeLog(plan.nonce, plan.segmentIndex + 1);
  }

  /** A step that was run: `payload` as it came on the wire. */
  took(position: number, rows: number, payload: Uint8Array): void {
    if (this.#plan.segmentIndex === 0) this.#in.appendTokens(position, payload);
    else this.#in.append({ position, rows, payload });
    this.#stepCount += 1;
  }

  /** Hidden rows that went, or would go, to the next segment: `payload` as on the wire. */
  gave(position: number, rows: number, payload: Uint8Array): void {
    this.#out.append({ position, rows, payload });
  }

  /** A token that takes `position`; the last segment's leader only. */
  sampled(position: number, tokenId: number): void {
    this.#out.append({ position, rows: 1, payload: tokenBytes([tokenId]) });
    this.#sampledCount += 1;
  }

  /** Positions run so far. */
  get positionCount(): number {
    return this.#in.positionCount;
  }

  /** What to sign, or undefined where nothing was run. */
  receipt(): Receipt | undefined {
    if (this.#in.positionCount === 0) return undefined;
    const { name, provider, node, model, layers, rankIndex, rankCount, shareMillionths, engine } = this.#facts;
    const { id, nonce, segmentIndex, segmentCount, sampler, epoch } = this.#plan;
    const seesOut = segmentIndex < segmentCount - 1 || rankIndex === 0;
    return {
      model: { name: model.name, root: model.root },
      shard: { digest: engine.shardDigest, layers, rankIndex, rankCount, shareMillionths },
      driftClass: engine.driftClass,
      session: { id, nonce: Buffer.from(nonce).toString("hex") },
      segmentIndex,
      segmentCount,
      span: { start: this.#in.start, end: this.#in.end },
      handOffsIn: this.#in.root(),
      handOffsOut: seesOut ? this.#out.root() : "",
      stepCount: this.#stepCount,
      sampler:
        sampler === undefined
          ? null
          : {
              temperature: sampler.temperature,
              topP: sampler.topP,
              seedCommitment: seedCommitment(sampler.seed, nonce),
            },
      tokens: { positions: this.#in.positionCount, sampled: this.#sampledCount },
      previous: null,
      provider,
      node,
      rank: name,
      epoch,
    };
  }
}
