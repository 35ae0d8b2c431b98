/**
 * What both sides of every hand-off hash and sign. An edge is a list of leaves in order of position: edge 0 carries the
 * token ids from the gateway to segment 0, edge k the hidden rows from segment k-1 to segment k, and edge S (the segment
 * count) the sampled tokens back to the gateway. Token edges have one leaf per token, so that their root does not depend
 * on how a prompt was cut into chunks and anyone who holds the ids can recompute it; hidden edges have one leaf per step.
 *
 * leaf = SHA-256(0x00 || nonce (32) || edge u32 || position u32 || rows u32 || payload as on the wire), integers
 * little-endian; root = RFC 6962 over the leaves. The nonce is the gateway's, so no root can be replayed elsewhere.
 */
import { assert } from "./assert.ts";
import { digestText } from "./digest.ts";
import { merkleLeaf, merkleRoot } from "./merkle.ts";

export type HandOff = {
  readonly nonce: Uint8Array; // 32 bytes
  readonly edge: number; // 0..segmentCount
  readonly position: number; // of the first row
  readonly rows: number; // positions in the payload, ≥ 1
  readonly payload: Uint8Array; // the bytes on the wire
};

/** The 32-byte leaf of one hand-off. */
export function leafHash({ nonce, edge, position, rows, payload }: HandOff): Uint8Array {
  assert(nonce.length === 32, "a session's nonce has 32 bytes");
  const head = new Uint8Array(44);
  head.set(nonce);
  const view = new DataView(head.buffer);
  view.setUint32(32, edge, true);
  view.setUint32(36, position, true);
  view.setUint32(40, rows, true);
  return merkleLeaf(head, payload);
}

/**
 * One edge of one session as one side saw it. Positions only ever go on where they stopped: whoever receives a step
 * twice answers it again without appending. 32 bytes are kept per leaf, for later openings.
 */
export class EdgeLog {
  readonly edge: number;
  readonly #nonce: Uint8Array;
  readonly #leaves: Uint8Array[] = [];
  #start: number | undefined;
  #end = 0;

  constructor(nonce: Uint8Array, edge: number) {
    this.#nonce = nonce;
    this.edge = edge;
  }

  /** One step of a hidden edge, or any payload that is one leaf. `position` must be where the last append ended. */
  append({
    position,
    rows,
    payload,
  }: {
    readonly position: number;
    readonly rows: number;
    readonly payload: Uint8Array;
  }): void {
    assert(
      this.#start === undefined || position === this.#end,
      `an edge goes on at position ${this.#end}, not ${position}`,
    );
    assert(rows >= 1, "a hand-off has rows");
    this.#start ??= position;
    this.#end = position + rows;
    this.#leaves.push(leafHash({ nonce: this.#nonce, edge: this.edge, position, rows, payload }));
  }

  /** Token ids as on the wire (u32 little-endian, one per position), one leaf each. For edges 0 and S. */
  appendTokens(position: number, payload: Uint8Array): void {
    assert(payload.length % 4 === 0, "token ids have four bytes each");
    for (let index = 0; index < payload.length; index += 4) {
      this.append({ position: position + index / 4, rows: 1, payload: payload.subarray(index, index + 4) });
    }
  }

  /** Position of the first row; 0 where nothing was appended. */
  get start(): number {
    return this.#start ?? 0;
  }

  /** One past the position of the last row; 0 where nothing was appended. */
  get end(): number {
    return this.#end;
  }

  /** Positions appended. */
  get positionCount(): number {
    return this.#end - this.start;
  }

  get leafCount(): number {
    return this.#leaves.length;
  }

  /** The leaf hashes so far, in order; not a copy, not to be changed. */
  get leaves(): readonly Uint8Array[] {
    return this.#leaves;
  }

  /** `sha256:…`: what both sides sign. */
  root(): string {
    return digestText(merkleRoot(this.#leaves));
  }
}

/** Token ids as a token edge's payload: u32 little-endian. */
export function tokenBytes(tokenIds: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(tokenIds.length * 4);
  const view = new DataView(bytes.buffer);
  tokenIds.forEach((id, index) => view.setUint32(index * 4, id, true));
  return bytes;
}

/** The root of a token edge, from the ids alone. */
export function tokenEdgeRoot(
  edge: { readonly nonce: Uint8Array; readonly edge: number; readonly position: number },
  tokenIds: readonly number[],
): string {
  const log = new EdgeLog(edge.nonce, edge.edge);
  log.appendTokens(edge.position, tokenBytes(tokenIds));
  return log.root();
}
