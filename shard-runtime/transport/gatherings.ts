/**
 * Parts of exchanges as they come from the other ranks of a segment, in whatever order, each kept until its exchange is
 * taken. Ranks run the same batches in the same order and none gets past an exchange without us, so the others can be
 * ahead by little; whoever is further is not one of us.
 */
import { RefusalError, type Refusal, type Result, ok, refuse } from "../../core/result.ts";

/** Exchanges that may be begun at once: the one we wait for, the next of the batch, and the first of the batch after. */
const BEGUN_MAX = 3;

type Gathering = {
  readonly parts: (Float32Array | undefined)[]; // by rank; the own place stays empty
  missingCount: number;
  resolve?: () => void;
  reject?: (cause: unknown) => void;
};

export class Gatherings {
  readonly #rankCount: number;
  readonly #ownIndex: number;
  readonly #begun = new Map<string, Gathering>();

  constructor(rankCount: number, ownIndex: number) {
    this.#rankCount = rankCount;
    this.#ownIndex = ownIndex;
  }

  /** A part as it came, f32 little-endian. `BadFrame`: nobody can be waiting for it. */
  put(rank: number, batch: number, exchange: number, data: Buffer): Result<undefined, "BadFrame"> {
    const gathering = this.#of(`${batch}/${exchange}`);
    if (gathering === undefined || gathering.parts[rank] !== undefined || data.length % 4 !== 0)
      return refuse(
        "BadFrame",
        `${data.length} bytes for exchange ${exchange} of batch ${batch}, which nobody waits for`,
      );
    const bytes = data.byteOffset % 4 === 0 ? data : new Uint8Array(data);
    gathering.parts[rank] = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
    gathering.missingCount -= 1;
    if (gathering.missingCount === 0) gathering.resolve?.();
    return ok(undefined);
  }

  /** Every other rank's part, by rank, once all are there; the own place is undefined. */
  async take(batch: number, exchange: number): Promise<(Float32Array | undefined)[]> {
    const key = `${batch}/${exchange}`;
    const gathering = this.#of(key);
    if (gathering === undefined)
      throw new RefusalError(refuse("BadFrame", "parts that nobody waits for fill the room"));
    if (gathering.missingCount > 0)
      await new Promise<void>((resolve, reject) => {
        gathering.resolve = resolve;
        gathering.reject = reject;
      });
    this.#begun.delete(key);
    return gathering.parts;
  }

  /** The lowest rank that somebody waits for; undefined where nobody waits. */
  awaited(): number | undefined {
    for (const { parts, resolve } of this.#begun.values())
      if (resolve !== undefined) return parts.findIndex((part, rank) => part === undefined && rank !== this.#ownIndex);
    return undefined;
  }

  /** Drops everything; whoever waits is refused. */
  fail(refusal: Refusal): void {
    const begun = [...this.#begun.values()];
    this.#begun.clear();
    for (const gathering of begun) gathering.reject?.(new RefusalError(refusal));
  }

  #of(key: string): Gathering | undefined {
    const known = this.#begun.get(key);
    if (known !== undefined) return known;
    if (this.#begun.size >= BEGUN_MAX) return undefined;
    const parts = new Array<Float32Array | undefined>(this.#rankCount).fill(undefined);
    const fresh: Gathering = { parts, missingCount: this.#rankCount - 1 };
    this.#begun.set(key, fresh);
    return fresh;
  }
}
