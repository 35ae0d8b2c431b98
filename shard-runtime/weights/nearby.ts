/**
 * What is nearer than a source: the node's cache and the model's other ranks; and the same the other way round, giving
 * other ranks what this one has. Ranks that want the same at the same time agree on who fetches it (asking-order.ts) by
 * stretches of {@link STRETCH_CHUNK_COUNT} chunks; what is on its way here is waited for and not fetched twice.
 */
import type { Fellows } from "./fellows.ts";
import type { Arrival, Fetching, Near } from "./intake.ts";
import { type Piece, isPiece } from "./piece.ts";
import type { PieceCache } from "./piece-cache.ts";

const STRETCH_CHUNK_COUNT = 8;

/** What is being fetched of a chunk. `ended`: it is here, or it is not coming. */
type Coming = { readonly owner: object; readonly ended: Promise<void>; fromSources: boolean };

/** What of a cache is needed here. */
export type Kept = Pick<PieceCache, "keeps" | "get" | "put" | "drop">;

export class Nearby implements Near {
  readonly #cache: Kept | undefined;
  readonly #fellows: Fellows | undefined;
  readonly #coming = new Map<string, Coming>(); // by chunk
  #keptCount = 0;

  constructor({ cache, fellows }: { readonly cache?: Kept | undefined; readonly fellows?: Fellows | undefined }) {
    this.#cache = cache;
    this.#fellows = fellows;
  }

  /** By stretches. With two at a time, two ranks could each wait for the one that the other does last. */
  batchesOf(pieces: readonly Piece[]): Iterable<readonly Piece[]> {
    return Map.groupBy(pieces, stretchOf).values();
  }

  /** `pieces` are of one stretch. */
  async take(pieces: readonly Piece[], fetching: Fetching): Promise<readonly Arrival[]> {
    const arrivals: Arrival[] = [];
    const missing: Piece[] = [];
    for (const piece of pieces) {
      const coming = this.#coming.get(chunkOf(piece));
      if (coming !== undefined && coming.owner !== fetching) await coming.ended; // for another rank
      const bytes = await this.#cached(piece);
      if (bytes === undefined) missing.push(piece);
      else arrivals.push({ piece, bytes });
    }
    const [first] = missing;
    if (first === undefined || this.#fellows === undefined) return arrivals;
    for (const arrival of await this.#fellows.take(missing, stretchOf(first))) {
      await fetching.keep(arrival.piece, arrival.bytes);
      arrivals.push(arrival);
    }
    return arrivals;
  }

  fetching(pieces: readonly Piece[]): Fetching {
    const waiting = new Map<string, () => void>();
    const own: Coming[] = [];
    const fetching: Fetching = {
      fromSources: () => {
        for (const coming of own) coming.fromSources = true;
      },
      keep: async (piece, bytes) => {
        await this.#cache?.put(piece, bytes);
        this.#keptCount += 1;
        waiting.get(chunkOf(piece))?.();
      },
      end: () => {
        for (const done of waiting.values()) done();
      },
    };
    for (const key of new Set(pieces.map(chunkOf))) {
      if (this.#coming.has(key)) continue; // take() waits for it
      const { promise, resolve } = Promise.withResolvers<void>();
      const coming: Coming = { owner: fetching, ended: promise, fromSources: false };
      own.push(coming);
      this.#coming.set(key, coming);
      waiting.set(key, () => {
        if (this.#coming.get(key) === coming) this.#coming.delete(key);
        resolve();
      });
    }
    return fetching;
  }

  /**
   * A piece for another rank: what is here, what is just coming, and, where `pull` is given, what that fetches. It is not
   * waited for what this rank itself asks of others, unless it shall fetch: two that ask each other would wait for ever.
   */
  async give(
    piece: Piece,
    pull?: (piece: Piece, fetching: Fetching) => Promise<Uint8Array | undefined>,
  ): Promise<Uint8Array | undefined> {
    for (let looks = 1; ; looks += 1) {
      const coming = this.#coming.get(chunkOf(piece));
      if (coming !== undefined && (pull !== undefined || coming.fromSources)) await coming.ended;
      const keptCount = this.#keptCount;
      const bytes = await this.#cached(piece);
      if (bytes !== undefined) return bytes;
      if (pull === undefined || this.#cache?.keeps !== true) return undefined;
      // Looking takes time: meanwhile it may have come, or somebody may have begun to fetch it.
      if ((keptCount === this.#keptCount || looks > 2) && !this.#coming.has(chunkOf(piece)))
        return pull(piece, this.fetching([piece]));
    }
  }

  /** The piece from the cache, checked. */
  async #cached(piece: Piece): Promise<Uint8Array | undefined> {
    const bytes = await this.#cache?.get(piece);
    if (bytes === undefined || isPiece(piece, bytes)) return bytes;
    await this.#cache?.drop(piece);
    return undefined;
  }
}

const chunkOf = ({ file, chunk }: Piece): string => `${chunk} ${file.path}`;

/** The name of the stretch that a piece lies in, the same on every rank. */
const stretchOf = ({ file, chunk }: Piece): string => `${file.path} ${Math.floor(chunk / STRETCH_CHUNK_COUNT)}`;
