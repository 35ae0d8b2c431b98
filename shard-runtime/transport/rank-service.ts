/**
 * The rank's gRPC door. Every call is let in by who calls, then by what the rank can do right now; what it does is the
 * role's business. Steps and Group are long-lived; everything else is short and has the caller's deadline.
 */
import type { ServerDuplexStream, ServerWritableStream } from "@grpc/grpc-js";
import type { CloseReply } from "../../core/gen/proto/tessellate/shard/v1/CloseReply.ts";
import type { CloseRequest__Output } from "../../core/gen/proto/tessellate/shard/v1/CloseRequest.ts";
import type { Description } from "../../core/gen/proto/tessellate/shard/v1/Description.ts";
import type { FileChunk } from "../../core/gen/proto/tessellate/shard/v1/FileChunk.ts";
import type { GroupFrame, GroupFrame__Output } from "../../core/gen/proto/tessellate/shard/v1/GroupFrame.ts";
import type { OpenReply } from "../../core/gen/proto/tessellate/shard/v1/OpenReply.ts";
import type { OpenRequest__Output } from "../../core/gen/proto/tessellate/shard/v1/OpenRequest.ts";
import type { PieceBytes } from "../../core/gen/proto/tessellate/shard/v1/PieceBytes.ts";
import type { PiecesRequest__Output } from "../../core/gen/proto/tessellate/shard/v1/PiecesRequest.ts";
import type { ReadFileRequest__Output } from "../../core/gen/proto/tessellate/shard/v1/ReadFileRequest.ts";
import type { ShardRuntimeHandlers } from "../../core/gen/proto/tessellate/shard/v1/ShardRuntime.ts";
import type { Step__Output } from "../../core/gen/proto/tessellate/shard/v1/Step.ts";
import type { StepRefusal } from "../../core/gen/proto/tessellate/shard/v1/StepRefusal.ts";
import type { Token } from "../../core/gen/proto/tessellate/shard/v1/Token.ts";
import type { TokensRequest__Output } from "../../core/gen/proto/tessellate/shard/v1/TokensRequest.ts";
import { envelopeBytes } from "../../core/dsse.ts";
import { type Identity, identityUri } from "../../core/identity.ts";
import { type Result, ok, refuse } from "../../core/result.ts";
import { receiptStatement } from "../../core/statement.ts";
import { answer, endRefused, exchange, refusalFrom, stream } from "../../core/wire/peer.ts";
import type { Keys } from "../attest/keys.ts";
import { type Giver, Giving, isOfModel } from "./fellow-door.ts";
import { Follower } from "./follower.ts";
import { parseOpen } from "./open-request.ts";
import type { RankFacts } from "./rank-facts.ts";
import type { Role } from "./role.ts";
import type { TokenTaker } from "./session.ts";

/** A rank that can serve. */
export type Serving = { readonly facts: RankFacts; readonly role: Role; readonly keys: Keys; readonly keyId: string };

/** The process around the door: how far it is, and what it has. */
export interface RankState extends Giver {
  readonly name: string; // <namespace>/<model>-<chain>-<segment>-<rank>
  readonly neighbours: ReadonlySet<string>;
  describe(): Description;
  /** What serves, or why nothing does: `NotServing`. Still there while the rank drains. */
  serving(): Result<Serving>;
  /** Whether new sessions are taken: `Draining`. */
  admits(): Result<undefined>;
  /** A verified file of the model, as soon as the manifest is there. */
  readFile(path: string): Promise<Result<Uint8Array>>;
}

const FILE_CHUNK_BYTES = 1 << 20;
/** Sessions closed last whose signed receipt is kept, for a gateway that did not get the reply. */
const CLOSED_MAX = 256;
/** Refusals that may wait for a reader before its stream is cut. */
const REFUSALS_MAX = 1_000;

export function rankHandlers(state: RankState): ShardRuntimeHandlers {
  const flow = new Flow();
  const closed = new Closed();
  const giving = new Giving();
  const isGateway = (caller: Identity) => caller.kind === "gateway";
  const isNeighbour = (caller: Identity) => caller.kind === "rank" && state.neighbours.has(caller.name);
  return {
    Describe: answer(
      () => true,
      () => ok(state.describe()),
    ),
    Open: answer(isGateway, (request: OpenRequest__Output, caller) => open(state, closed, request, caller)),
    Close: answer(isGateway, (request: CloseRequest__Output, caller) => close(state, closed, request, caller)),
    Tokens: stream(isGateway, (call: ServerWritableStream<TokensRequest__Output, Token>, caller) =>
      tokens(state, call, caller),
    ),
    ReadFile: stream(
      isGateway,
      (call: ServerWritableStream<ReadFileRequest__Output, FileChunk>) => void readFile(state, call),
    ),
    Pieces: stream(
      (caller) => isOfModel(caller, state.name),
      (call: ServerWritableStream<PiecesRequest__Output, PieceBytes>) => void giving.answer(state, call),
    ),
    Steps: exchange(
      (caller) => isGateway(caller) || isNeighbour(caller),
      (call: ServerDuplexStream<Step__Output, StepRefusal>, caller) => steps(state, flow, call, caller),
    ),
    Group: exchange(isNeighbour, (call: ServerDuplexStream<GroupFrame__Output, GroupFrame>, caller) =>
      group(state, call, caller),
    ),
  };
}

/** Streams of steps that pause together while too much waits. */
class Flow {
  readonly #calls = new Set<ServerDuplexStream<Step__Output, StepRefusal>>();
  #paused = false;

  add(call: ServerDuplexStream<Step__Output, StepRefusal>): void {
    this.#calls.add(call);
    if (this.#paused) call.pause();
  }

  remove(call: ServerDuplexStream<Step__Output, StepRefusal>): void {
    this.#calls.delete(call);
  }

  set(paused: boolean): void {
    this.#paused = paused;
    for (const call of this.#calls) {
      if (paused) call.pause();
      else call.resume();
    }
  }
}

async function open(
  state: RankState,
  closed: Closed,
  request: OpenRequest__Output,
  caller: Identity,
): Promise<Result<OpenReply>> {
  const serving = state.serving();
  if (!serving.ok) return serving;
  const admits = state.admits();
  if (!admits.ok) return admits;
  const { facts, role, keyId } = serving.value;
  const plan = parseOpen(request, identityUri(caller), facts);
  if (!plan.ok) return plan;
  const opened = await role.open(plan.value);
  if (!opened.ok) return opened;
  closed.forget(request.session, identityUri(caller));
  return ok({ shardDigest: facts.engine.shardDigest, driftClass: facts.engine.driftClass, keyId });
}

/** Answers to Close, the latest ones: a receipt is signed once, and given to whoever opened the session until it is old. */
class Closed {
  readonly #replies = new Map<string, Promise<Result<CloseReply>>>();

  /** The answer given before to the same caller about the same session, or `work`'s. */
  answer(session: string, caller: string, work: () => Promise<Result<CloseReply>>): Promise<Result<CloseReply>> {
    const key = `${session} ${caller}`;
    const known = this.#replies.get(key);
    if (known !== undefined) return known;
    const reply = work();
    this.#replies.set(key, reply);
    const [oldest] = this.#replies.keys();
    if (this.#replies.size > CLOSED_MAX && oldest !== undefined) this.#replies.delete(oldest);
    const forget = () => this.#replies.delete(key);
    void reply.then((result) => result.ok || forget(), forget);
    return reply;
  }

  /** A session with this id is open again. */
  forget(session: string, caller: string): void {
    this.#replies.delete(`${session} ${caller}`);
  }
}

function close(
  state: RankState,
  closed: Closed,
  request: CloseRequest__Output,
  caller: Identity,
): Promise<Result<CloseReply>> {
  const opener = identityUri(caller);
  return closed.answer(request.session, opener, async () => {
    const serving = state.serving();
    if (!serving.ok) return serving;
    const { role, keys, facts } = serving.value;
    const receipt = await role.close(request.session, opener, request.positions);
    if (!receipt.ok) return receipt;
    if (receipt.value === undefined) return ok({ receipts: [] });
    const envelope = await keys.sign(receiptStatement(receipt.value));
    if (!envelope.ok)
      return refuse(envelope.code, `${facts.name} could not have its receipt signed: ${envelope.detail}`);
    return ok({ receipts: [Buffer.from(envelopeBytes(envelope.value))] });
  });
}

function tokens(state: RankState, call: ServerWritableStream<TokensRequest__Output, Token>, caller: Identity): void {
  const serving = state.serving();
  if (!serving.ok) return endRefused(call, serving);
  const { role } = serving.value;
  const taker: TokenTaker = {
    take: (token) => call.write(token),
    refuse: (refusal) => endRefused(call, refusal),
    end: () => call.end(),
  };
  call.on("cancelled", () => role.left(taker));
  const attached = role.tokens(call.request.session, identityUri(caller), taker);
  if (!attached.ok) endRefused(call, attached);
}

function steps(
  state: RankState,
  flow: Flow,
  call: ServerDuplexStream<Step__Output, StepRefusal>,
  caller: Identity,
): void {
  const serving = state.serving();
  if (!serving.ok) return endRefused(call, serving);
  const { role } = serving.value;
  role.onPressure = (paused) => flow.set(paused);
  const upstream = {
    refuse: (refusal: StepRefusal) => {
      // Attacker: a neighbour that sends nonsense and never reads the refusals would fill this process.
      if (call.writableLength > REFUSALS_MAX)
        return endRefused(call, refuse("Overloaded", "too many refusals wait to be read"));
      call.write(refusal);
    },
  };
  flow.add(call);
  call.on("data", (step: Step__Output) => role.take(step, upstream, caller));
  const gone = () => {
    flow.remove(call);
    role.left(upstream);
  };
  call.on("cancelled", gone);
  call.on("close", gone);
  call.on("end", () => {
    gone();
    call.end();
  });
}

function group(state: RankState, call: ServerDuplexStream<GroupFrame__Output, GroupFrame>, caller: Identity): void {
  const serving = state.serving();
  if (!serving.ok) return endRefused(call, serving);
  const { role, facts } = serving.value;
  if (!(role instanceof Follower))
    return endRefused(call, refuse("NotMyNeighbour", `${facts.name} leads its segment; it dials the others`));
  role.group.accept(call, caller);
}

async function readFile(
  state: RankState,
  call: ServerWritableStream<ReadFileRequest__Output, FileChunk>,
): Promise<void> {
  const file = await state.readFile(call.request.path).catch((error: unknown) => refusalFrom(error));
  if (!file.ok) return endRefused(call, file);
  for (let start = 0; start < file.value.length && !call.cancelled; start += FILE_CHUNK_BYTES) {
    const data = Buffer.from(file.value.subarray(start, start + FILE_CHUNK_BYTES));
    if (call.write({ data })) continue;
    await new Promise<void>((resolve) => {
      call.once("drain", resolve);
      call.once("cancelled", resolve);
    });
  }
  call.end();
}
