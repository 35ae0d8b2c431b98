/**
 * The Merkle tree of RFC 6962 §2.1 over leaves that already are leaf hashes: SHA-256 with 0x00 in front of a leaf's
 * bytes, 0x01 in front of a node's, so that neither can pass for the other.
 */
import { present } from "./assert.ts";
import { sha256 } from "./digest.ts";

const LEAF = Uint8Array.of(0);
const NODE = Uint8Array.of(1);

/** SHA-256(0x00 || parts): the hash of a leaf whose bytes are the parts, one after the other. */
export const merkleLeaf = (...parts: readonly Uint8Array[]): Uint8Array => sha256(LEAF, ...parts);

export const merkleNode = (left: Uint8Array, right: Uint8Array): Uint8Array => sha256(NODE, left, right);

/** The root over leaf hashes, in order; 32 bytes. Of no leaves it is SHA-256 of nothing, as the RFC says. */
export function merkleRoot(leafHashes: readonly Uint8Array[]): Uint8Array {
  if (leafHashes.length === 0) return sha256();
  // The RFC splits at the largest power of two below the count; pairing level by level, with the odd one moved up, is the same tree.
  let level = leafHashes;
  while (level.length > 1) {
    const above: Uint8Array[] = [];
    for (let index = 0; index + 1 < level.length; index += 2) above.push(merkleNode(at(level, index), at(level, index + 1)));
    if (level.length % 2 === 1) above.push(at(level, level.length - 1));
    level = above;
  }
  return at(level, 0);
}

const at = (level: readonly Uint8Array[], index: number): Uint8Array => present(level[index], "an index within its level");
