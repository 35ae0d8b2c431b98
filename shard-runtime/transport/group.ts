/**
 * The ranks of one tensor-parallel segment, joined by a stream for every pair: the lower rank index dials the higher.
 * Over them go the leader's batches, everyone's partial sums, and the followers' slices of the logits to the leader.
 *
 * All or nothing: a KV cache that missed one batch is worth nothing, so when one stream breaks, every rank drops all of
 * its streams and every session, and the next Open joins the group anew.
 */
import type { ClientDuplexStream, ServerDuplexStream } from "@grpc/grpc-js";
import type { GroupBatch, GroupBatch__Output } from "../../core/gen/proto/tessellate/shard/v1/GroupBatch.ts";
import type { GroupFrame, GroupFrame__Output } from "../../core/gen/proto/tessellate/shard/v1/GroupFrame.ts";
import type { GroupPartial__Output } from "../../core/gen/proto/tessellate/shard/v1/GroupPartial.ts";
import type { Identity } from "../../core/identity.ts";
import { type Refusal, RefusalError, type Result, ok, refuse } from "../../core/result.ts";
import { endRefused } from "../../core/wire/peer.ts";
import type { Client } from "../../core/wire/proto.ts";
import { rankOf, refusalOf } from "../../core/wire/status.ts";
import { sumInRankOrder } from "../engine/reduce.ts";
import { Gatherings } from "./gatherings.ts";
import type { DialRank } from "./hand-off-link.ts";
import type { Address } from "./open-request.ts";

const JOIN_TIMEOUT_MS = 5_000;
const EXCHANGE_TIMEOUT_MS = 30_000;

export type GroupEvents = {
  /** From the leader, in order. Followers only. */
  onBatch(batch: GroupBatch__Output): void;
  /** Every stream is dropped; whatever ran or was held is void. `lost` names the rank, where it is known. */
  onBroken(refusal: Refusal, lost: string): void;
  /** Whether sessions depend on the streams as they are. */
  inUse(): boolean;
};

export type GroupPlace = {
  readonly name: string; // of this rank
  readonly rankIndex: number;
  readonly rankCount: number;
  readonly neighbours: ReadonlySet<string>;
};

type Stream = {
  write(frame: GroupFrame): unknown;
  drop(refusal: Refusal, lost?: string): void;
  readonly address: string | undefined;
};
export class Group {
  readonly #self: GroupPlace;
  readonly #dial: DialRank;
  readonly #events: GroupEvents;
  #streams: (Stream | undefined)[];
  #joining: Promise<Result<undefined>> | undefined;
  readonly #gatherings: Gatherings;
  readonly #watchdog: NodeJS.Timeout;
  #waitingSinceMs: number | undefined;

  constructor(self: GroupPlace, dial: DialRank, events: GroupEvents) {
    this.#self = self;
    this.#gatherings = new Gatherings(self.rankCount, self.rankIndex);
    this.#dial = dial;
    this.#events = events;
    this.#streams = new Array<Stream | undefined>(self.rankCount).fill(undefined);
    this.#watchdog = setInterval(() => this.#watch(), 5_000).unref();
  }

  /** Makes sure that every rank above this one is joined; those below join by themselves. */
  async join(ranks: readonly Address[]): Promise<Result<undefined>> {
    for (;;) {
      // One at a time: two sessions that open at once must not dial twice.
      if (this.#joining !== undefined) {
        await this.#joining;
        continue;
      }
      this.#joining = this.#join(ranks);
      try {
        return await this.#joining;
      } finally {
        this.#joining = undefined;
      }
    }
  }

  /** A lower rank's stream. Its first frame must say hello with the name that its certificate shows. */
  accept(call: ServerDuplexStream<GroupFrame__Output, GroupFrame>, caller: Identity): void {
    const rankIndex = caller.kind === "rank" ? indexIn(this.#self, caller.name) : undefined;
    if (rankIndex === undefined || rankIndex >= this.#self.rankIndex || !this.#self.neighbours.has(caller.name))
      return endRefused(
        call,
        refuse("NotMyNeighbour", `${caller.name} is no lower rank of the segment of ${this.#self.name}`),
      );
    const stream: Stream = {
      address: undefined,
      write: (frame) => call.write(frame),
      drop: (refusal, lost) => endRefused(call, refusal, lost),
    };
    let greeted = false;
    call.on("data", (frame: GroupFrame__Output) => {
      if (greeted) return this.#receive(stream, rankIndex, frame);
      if (frame.hello?.rank !== caller.name)
        return endRefused(
          call,
          refuse("BadFrame", "the first frame of a group stream is hello, with the rank's own name"),
        );
      greeted = true;
      // A second stream from the same rank means that it began anew, and knows nothing of what we hold.
      if (this.#streams[rankIndex] !== undefined)
        this.break(refuse("RankLost", `rank ${caller.name} joined anew`), caller.name);
      this.#streams[rankIndex] = stream;
      call.write({ hello: { rank: this.#self.name } });
    });
    const gone = () => this.#lose(stream, rankIndex, refuse("RankLost", `rank ${caller.name} left the segment`));
    call.on("cancelled", gone);
    call.on("error", gone);
    call.on("end", () => {
      gone();
      call.end();
    });
  }

  /** Leader: tells every follower what runs next. */
  sendBatch(batch: GroupBatch): void {
    for (const stream of this.#streams) stream?.write({ batch });
  }

  /** Adds every rank's partial sum in rank order, in place. Same bits on every rank. */
  async allReduce(batch: number, exchange: number, partial: Float32Array): Promise<void> {
    const { rankIndex, rankCount } = this.#self;
    // A copy: the stream may serialize later, and by then the sum may stand in the partial's place.
    const data = Buffer.from(new Uint8Array(partial.buffer, partial.byteOffset, partial.byteLength));
    for (let rank = 0; rank < rankCount; rank += 1)
      if (rank !== rankIndex) this.#send(rank, { partial: { batch, exchange, data } });
    sumInRankOrder(await this.#gather(batch, exchange, partial, () => partial.length), partial);
  }

  /** Follower: hands its slice of the logits to the leader. */
  sendLogits(batch: number, exchange: number, logits: Float32Array): void {
    const data = Buffer.from(logits.buffer, logits.byteOffset, logits.byteLength);
    this.#send(0, { partial: { batch, exchange, data } });
  }

  /** Leader: every rank's slice of the logits, in rank order; its own place is filled with `own`. */
  async gatherLogits(
    batch: number,
    exchange: number,
    own: Float32Array,
    valueCounts: readonly number[],
  ): Promise<readonly Float32Array[]> {
    const absent = this.#streams.findIndex((stream, rank) => stream === undefined && rank !== this.#self.rankIndex);
    if (absent >= 0) throw this.#broke(refuse("RankLost", `${this.nameOf(absent)} is not joined`), absent);
    return this.#gather(batch, exchange, own, (rank) => valueCounts[rank] ?? 0);
  }

  /** Drops every stream; the others of the segment notice, and do the same. */
  break(refusal: Refusal, lost: string): void {
    const streams = this.#streams;
    this.#streams = streams.map(() => undefined);
    this.#waitingSinceMs = undefined;
    for (const stream of streams) stream?.drop(refuse("RankLost", refusal.detail), lost);
    this.#gatherings.fail(refusal);
    this.#events.onBroken(refusal, lost);
  }

  close(): void {
    clearInterval(this.#watchdog);
    const streams = this.#streams;
    this.#streams = streams.map(() => undefined);
    for (const stream of streams) stream?.drop(refuse("Draining", `${this.#self.name} is shutting down`));
  }

  nameOf(rankIndex: number): string {
    return `${this.#self.name.slice(0, this.#self.name.lastIndexOf("-"))}-${rankIndex}`;
  }

  async #join(ranks: readonly Address[]): Promise<Result<undefined>> {
    for (let rank = this.#self.rankIndex + 1; rank < this.#self.rankCount; rank += 1) {
      const to = ranks[rank];
      const stream = this.#streams[rank];
      if (to === undefined || stream?.address === to.address) continue;
      if (stream !== undefined) {
        if (this.#events.inUse())
          return refuse(
            "RouteMismatch",
            `the segment runs with ${to.name} at ${stream.address}, the chain says ${to.address}; try again when its sessions end`,
          );
        this.break(refuse("RankLost", `${to.name} moved to ${to.address}`), to.name);
      }
      const joined = await this.#reach(rank, to);
      if (!joined.ok) return joined;
    }
    return ok(undefined);
  }

  /** Dials a higher rank and waits for its hello. */
  #reach(rank: number, to: Address): Promise<Result<undefined>> {
    return new Promise((resolve) => {
      const client = this.#dial(to, "both-ways");
      const call = client.Group();
      const stream = outgoing(client, call, to.address);
      let greeted = false;
      const fail = (refusal: Refusal, lost = to.name) => {
        clearTimeout(timer);
        if (greeted) return this.#lose(stream, rank, refusal, lost);
        stream.drop(refusal);
        resolve(refuse(refusal.code, `rank ${to.name}: ${refusal.detail}`));
      };
      const timer = setTimeout(
        () => fail(refuse("TimedOut", `no hello within ${JOIN_TIMEOUT_MS} ms`)),
        JOIN_TIMEOUT_MS,
      );
      call.on("data", (frame: GroupFrame__Output) => {
        if (greeted) return this.#receive(stream, rank, frame);
        if (frame.hello?.rank !== to.name) return fail(refuse("BadFrame", `expected hello of ${to.name}`));
        greeted = true;
        clearTimeout(timer);
        this.#streams[rank] = stream;
        resolve(ok(undefined));
      });
      call.on("error", (error) => fail(refusalOf(error, `rank ${to.name} at ${to.address}`), rankOf(error)));
      call.on("end", () => fail(refuse("RankLost", `rank ${to.name} at ${to.address} left the segment`)));
      call.write({ hello: { rank: this.#self.name } });
    });
  }

  #send(rank: number, frame: GroupFrame): void {
    const stream = this.#streams[rank];
    if (stream === undefined) throw this.#broke(refuse("RankLost", `${this.nameOf(rank)} is not joined`), rank);
    stream.write(frame);
  }

  #receive(stream: Stream, rank: number, frame: GroupFrame__Output): void {
    if (this.#streams[rank] !== stream) return; // of a group that is no more
    if (frame.partial) return this.#collect(rank, frame.partial);
    if (frame.batch && rank === 0) return this.#events.onBatch(frame.batch);
    this.#broke(
      refuse(
        "BadFrame",
        `${this.nameOf(rank)} sent a frame that is neither its partial sum nor, from the leader, a batch`,
      ),
      rank,
    );
  }

  #collect(rank: number, { batch, exchange, data }: GroupPartial__Output): void {
    const put = this.#gatherings.put(rank, batch, exchange, data);
    if (!put.ok) this.#broke(refuse(put.code, `${this.nameOf(rank)} sent ${put.detail}`), rank);
  }

  /** The others' parts of one exchange, each of as many values as `valueCounts` says; `own` in its place. */
  async #gather(
    batch: number,
    exchange: number,
    own: Float32Array,
    valueCounts: (rank: number) => number,
  ): Promise<readonly Float32Array[]> {
    this.#waitingSinceMs = performance.now();
    const parts = await this.#gatherings.take(batch, exchange);
    this.#waitingSinceMs = undefined;
    parts[this.#self.rankIndex] = own;
    return parts.map((part, rank) => {
      if (part?.length === valueCounts(rank)) return part;
      const detail = `${this.nameOf(rank)} sent ${part?.length} values for exchange ${exchange}, expected ${valueCounts(rank)}`;
      throw this.#broke(refuse("BadFrame", detail), rank);
    });
  }

  #watch(): void {
    const since = this.#waitingSinceMs;
    const late = this.#gatherings.awaited();
    if (late === undefined || since === undefined || performance.now() - since < EXCHANGE_TIMEOUT_MS) return;
    this.#broke(refuse("RankLost", `${this.nameOf(late)} sent nothing for ${EXCHANGE_TIMEOUT_MS} ms`), late);
  }

  #lose(stream: Stream, rank: number, refusal: Refusal, lost = this.nameOf(rank)): void {
    if (this.#streams[rank] !== stream) return;
    this.break(refusal, lost);
  }

  #broke(refusal: Refusal, rank: number): RefusalError {
    this.break(refusal, this.nameOf(rank));
    return new RefusalError(refusal);
  }
}

function outgoing(
  client: Client<"ShardRuntime">,
  call: ClientDuplexStream<GroupFrame, GroupFrame__Output>,
  address: string,
): Stream {
  return {
    address,
    write: (frame) => call.write(frame),
    drop: () => {
      call.cancel();
      client.close();
    },
  };
}

/** The rank index of `name` if it belongs to the same segment: names differ in their last number only. */
function indexIn(place: GroupPlace, name: string): number | undefined {
  const prefix = place.name.slice(0, place.name.lastIndexOf("-") + 1);
  if (!name.startsWith(prefix)) return undefined;
  const index = name.slice(prefix.length);
  return /^(0|[1-9][0-9]{0,3})$/.test(index) && Number(index) < place.rankCount ? Number(index) : undefined;
}
