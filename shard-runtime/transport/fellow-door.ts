/**
 * Pieces of the model between ranks of its chains: asking for them, and giving them. Only ranks of the same model are let
 * in; what they send is believed by nobody, see weights/fellows.ts.
 */
import { readFile } from "node:fs/promises";
import type { ServerWritableStream } from "@grpc/grpc-js";
import type { PieceBytes, PieceBytes__Output } from "../../core/gen/proto/tessellate/shard/v1/PieceBytes.ts";
import type { PiecesRequest__Output } from "../../core/gen/proto/tessellate/shard/v1/PiecesRequest.ts";
import type { Identity } from "../../core/identity.ts";
import type { Fellow } from "../../core/rank-config.ts";
import type { Range } from "../../core/ranges.ts";
import { RefusalError, type Result, refuse } from "../../core/result.ts";
import { endRefused, refusalFrom } from "../../core/wire/peer.ts";
import type { Client } from "../../core/wire/proto.ts";
import { refusalOf } from "../../core/wire/status.ts";
import type { FellowDoor } from "../weights/fellows.ts";
import type { Given } from "../weights/verified-reader.ts";
import type { Address } from "./open-request.ts";

/** The other side may have to fetch first; its own patience with a source is of this order. */
const ASK_MS = 120_000;
/** As many chunks as a stretch has, with room; 16 MiB. */
const PIECES_MAX = 16;
/** Asks that are answered at once; each holds a chunk or two in memory. A fellow asks once at a time. */
const GIVING_MAX = 32;

/** Whether a caller is a rank of the model that `own`, a rank's full name, is of. */
export const isOfModel = (caller: Identity, own: string): boolean =>
  caller.kind === "rank" && modelOf(caller.name) === modelOf(own);

const modelOf = (rank: string): string => rank.replace(/-\d+-\d+-\d+$/, "");

export class GrpcFellowDoor implements FellowDoor {
  readonly #fellow: Fellow;
  readonly #modelRoot: string;
  readonly #dial: (to: Address) => Client<"ShardRuntime">;
  #open: { readonly address: string; readonly client: Client<"ShardRuntime"> } | undefined;

  constructor(fellow: Fellow, modelRoot: string, dial: (to: Address) => Client<"ShardRuntime">) {
    this.#fellow = fellow;
    this.#modelRoot = modelRoot;
    this.#dial = dial;
  }

  get name(): string {
    return this.#fellow.name;
  }

  async isThere(): Promise<boolean> {
    return (await this.#address()) !== undefined;
  }

  async ask(path: string, pieces: readonly Range[], fetch: boolean): Promise<readonly Given[]> {
    const client = await this.#client();
    const call = client.Pieces(
      { modelRoot: this.#modelRoot, path, pieces: [...pieces], fetch },
      { deadline: Date.now() + ASK_MS },
    );
    const given: Given[] = [];
    try {
      for await (const message of call) {
        const { index, data } = message as PieceBytes__Output;
        // Attacker: a stream without end would fill this process.
        if (given.length >= pieces.length) break;
        given.push({ index, bytes: new Uint8Array(data) });
      }
      return given;
    } catch (error) {
      this.close();
      throw new RefusalError(refusalOf(error instanceof Error ? error : {}, `rank ${this.name}`));
    } finally {
      call.cancel();
    }
  }

  close(): void {
    this.#open?.client.close();
    this.#open = undefined;
  }

  async #client(): Promise<Client<"ShardRuntime">> {
    const { name } = this.#fellow;
    const address = await this.#address();
    if (address === undefined) throw new RefusalError(refuse("Unreachable", `rank ${name} does not listen yet`));
    if (this.#open?.address !== address) {
      this.close();
      this.#open = { address, client: this.#dial({ name, address }) };
    }
    return this.#open.client;
  }

  /** Undefined while the file that will hold it is not there. */
  async #address(): Promise<string | undefined> {
    const { address } = this.#fellow;
    if (!address.startsWith("file:")) return address;
    const text = await readFile(address.slice("file:".length), "utf8").catch(() => "");
    return text.trim() || undefined;
  }
}

/** What a rank needs to answer other ranks. */
export interface Giver {
  /** Pieces that are here, or come; a refusal where the rank does not know the model yet, or knows another. */
  give(request: {
    readonly modelRoot: string;
    readonly path: string;
    readonly pieces: readonly Range[];
    readonly fetch: boolean;
  }): Result<AsyncIterable<Given>>;
}

/**
 * Answers to Pieces. Too many are refused and not made to wait: a queue would let ranks wait for each other in a ring,
 * each behind somebody who waits for the next.
 */
export class Giving {
  #busyCount = 0;

  async answer(giver: Giver, call: ServerWritableStream<PiecesRequest__Output, PieceBytes>): Promise<void> {
    const { modelRoot, path, pieces, fetch } = call.request;
    if (pieces.length > PIECES_MAX)
      return endRefused(call, refuse("BadRequest", `pieces: has ${pieces.length}, at most ${PIECES_MAX} are given`));
    if (this.#busyCount >= GIVING_MAX)
      return endRefused(call, refuse("Overloaded", "too many ranks ask for pieces; ask another, or the source"));
    this.#busyCount += 1;
    try {
      const given = giver.give({ modelRoot, path, pieces, fetch });
      if (!given.ok) return endRefused(call, given);
      for await (const { index, bytes } of given.value) {
        if (call.cancelled) return;
        if (!call.write({ index, data: Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length) }))
          await drained(call);
      }
      call.end();
    } catch (error) {
      endRefused(call, refusalFrom(error));
    } finally {
      this.#busyCount -= 1;
    }
  }
}

const drained = (call: ServerWritableStream<PiecesRequest__Output, PieceBytes>): Promise<void> =>
  new Promise((resolve) => {
    call.once("drain", resolve);
    call.once("cancelled", resolve);
    call.once("close", resolve);
  });
