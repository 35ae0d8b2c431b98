/**
 * The stopped Wire: chains of one process and no engine, that answer from a function of seed, position and tokens so far,
 * hash every edge and sign true receipts. It can be made to have few slots, to lose a rank, to hold its tongue.
 */
import { keyNamed } from "../../core/session-fixture.ts";
import { digestOf } from "../../core/digest.ts";
import { IN_TOTO_PAYLOAD_TYPE, envelopeBytes, signEnvelope } from "../../core/dsse.ts";
import { EdgeLog, tokenBytes } from "../../core/hand-off.ts";
import { type Result, ok, refuse } from "../../core/result.ts";
import { type Receipt, receiptStatement, seedCommitment } from "../../core/statement.ts";
import type {
  RankAddress,
  SampledToken,
  Session,
  SessionReceipts,
  SessionRequest,
  Wire,
} from "../../gateway/session/types.ts";
import type { TinyModel } from "./tiny-model.ts";

export type Closed = { readonly id: string; readonly reason: string; readonly sampledCount: number };

/** The token that follows `tokens`: a letter that depends on everything before it and on the seed. */
export function babble(tokens: readonly number[], request: SessionRequest): number {
  const digest = digestOf(
    tokenBytes(tokens),
    request.sampler.temperature === 0 ? new Uint8Array(0) : request.sampler.seed,
  );
  return 97 + (Number.parseInt(digest.slice(7, 15), 16) % 26);
}

export class FakeWire implements Wire {
  readonly #models: ReadonlyMap<string, TinyModel>;
  readonly opened: SessionRequest[] = [];
  readonly closed: Closed[] = [];
  /** What the model says; tests replace it. */
  next: (tokens: readonly number[], request: SessionRequest) => number = babble;
  /** Awaited before each token. */
  before: (tokens: readonly number[], request: SessionRequest) => Promise<void> = async () => {};
  /** Refuses the token after these, as if a rank were lost. */
  lost: (tokens: readonly number[], request: SessionRequest) => string | undefined = () => undefined;
  /** Refuses to open. */
  refused: (request: SessionRequest) => Result<never> | undefined = () => undefined;
  /** Changes what a rank signs. */
  alter: (receipt: Receipt) => Receipt = (receipt) => receipt;
  slotCount = 4; // per chain
  readonly #open = new Map<string, number>();
  #listeners: (() => void)[] = [];

  constructor(models: readonly TinyModel[]) {
    this.#models = new Map(models.map((model) => [model.root, model]));
  }

  /** Lets the model say `tokenIds` and then `last` for ever, whatever the prompt. */
  say(tokenIds: readonly number[], last: number): void {
    let base: number | undefined;
    this.next = (tokens, request) => {
      base ??= request.prompt.length;
      return tokenIds[tokens.length - base] ?? last;
    };
  }

  /** Resolves once `holds`, asked whenever a session is opened or closed. */
  async until(holds: () => boolean): Promise<void> {
    while (!holds()) await new Promise<void>((resolve) => this.#listeners.push(resolve));
  }

  async open(request: SessionRequest): Promise<Result<Session>> {
    const refusal = this.refused(request);
    if (refusal !== undefined) return refusal;
    const chain = chainName(request);
    const sessionCount = this.#open.get(chain) ?? 0;
    if (sessionCount >= this.slotCount) return refuse("NoSlot", `${chain} has no free slot`);
    this.#open.set(chain, sessionCount + 1);
    this.opened.push(request);
    this.#tell();
    return ok(this.#session(request, chain));
  }

  async readFile(rank: RankAddress, path: string): Promise<Result<Uint8Array>> {
    const model = [...this.#models.values()].find((one) => rank.address.endsWith(one.root));
    const bytes = model?.files.get(path);
    return bytes === undefined ? refuse("UnknownFile", `${rank.name} has no ${path}`) : ok(bytes);
  }

  async close(): Promise<void> {}

  #session(request: SessionRequest, chain: string): Session {
    const tokens = [...request.prompt];
    const segmentCount = request.chain.length;
    const edges = Array.from({ length: segmentCount + 1 }, (_, edge) => new EdgeLog(request.nonce, edge));
    const feed = (position: number, ids: readonly number[]): void => {
      edges[0]?.appendTokens(position, tokenBytes(ids));
      for (const edge of edges.slice(1, -1)) edge.append({ position, rows: ids.length, payload: tokenBytes(ids) });
    };
    let closing: SessionReceipts | undefined;
    return {
      next: async (): Promise<Result<SampledToken>> => {
        const first = tokens.length === request.prompt.length;
        const lost = this.lost(tokens, request);
        if (lost !== undefined) return refuse("RankLost", lost);
        await this.before(tokens, request);
        feed(first ? 0 : tokens.length - 1, first ? tokens : tokens.slice(-1));
        const position = tokens.length;
        const tokenId = this.next(tokens, request);
        edges.at(-1)?.appendTokens(position, tokenBytes([tokenId]));
        tokens.push(tokenId);
        return ok({ position, tokenId, logProbability: -0.5 });
      },
      close: async (reason): Promise<SessionReceipts> => {
        if (closing !== undefined) return closing;
        closing = this.#receipts(request, edges, tokens.length - request.prompt.length);
        this.closed.push({ id: request.id, reason, sampledCount: tokens.length - request.prompt.length });
        this.#open.set(chain, (this.#open.get(chain) ?? 1) - 1);
        this.#tell();
        return closing;
      },
    };
  }

  #receipts(request: SessionRequest, edges: readonly EdgeLog[], sampled: number): SessionReceipts {
    const roots = edges.map((edge) => edge.root());
    const positions = edges[0]?.positionCount ?? 0;
    const receipts = request.chain.flatMap((segment, segmentIndex) =>
      segment.ranks.map((rank, rankIndex) => {
        const samples = segmentIndex === request.chain.length - 1 && rankIndex === 0;
        const receipt: Receipt = {
          model: { name: rank.name.replace(/-[0-9]+-[0-9]+-[0-9]+$/, ""), root: request.modelRoot },
          shard: {
            digest: digestOf(new TextEncoder().encode(rank.name)),
            layers: segment.layers,
            rankIndex,
            rankCount: segment.ranks.length,
            shareMillionths: 1_000_000n / BigInt(segment.ranks.length),
          },
          driftClass: "fake",
          session: { id: request.id, nonce: Buffer.from(request.nonce).toString("hex") },
          segmentIndex,
          segmentCount: request.chain.length,
          span: { start: 0, end: positions },
          handOffsIn: roots[segmentIndex] ?? "",
          handOffsOut: segmentIndex < request.chain.length - 1 || samples ? (roots[segmentIndex + 1] ?? "") : "",
          stepCount: positions,
          sampler: samples
            ? {
                temperature: request.sampler.temperature,
                topP: request.sampler.topP,
                seedCommitment: seedCommitment(request.sampler.seed, request.nonce),
              }
            : null,
          tokens: { positions, sampled: samples ? sampled : 0 },
          previous: null,
          provider: rank.provider,
          node: rank.node,
          rank: rank.name,
          epoch: request.epoch,
        };
        return envelopeBytes(
          signEnvelope(
            IN_TOTO_PAYLOAD_TYPE,
            receiptStatement(this.alter(receipt)),
            keyNamed(`provider/${rank.provider}`),
          ),
        );
      }),
    );
    return { receipts, handOffsIn: roots[0] ?? "", handOffsOut: roots.at(-1) ?? "" };
  }

  #tell(): void {
    const listeners = this.#listeners;
    this.#listeners = [];
    for (const listener of listeners) listener();
  }
}

const chainName = (request: SessionRequest): string =>
  request.chain.flatMap((segment) => segment.ranks.map((rank) => rank.name)).join(" ");
