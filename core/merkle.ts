/**
 * The Merkle tree of RFC 6962 §2.1 over leaves that already are leaf hashes: SHA-256 with 0x00 in front of a leaf's
 * bytes, 0x01 in front of a node's, so that neither can pass for the other.
 */
import { assert, present } from "./assert.ts";
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
    for (let index = 0; index + 1 < level.length; index += 2)
      above.push(merkleNode(at(level, index), at(level, index + 1)));
    if (level.length % 2 === 1) above.push(at(level, level.length - 1));
    level = above;
  }
  return at(level, 0);
}

const at = (level: readonly Uint8Array[], index: number): Uint8Array =>
  present(level[index], "an index within its level");

/** Siblings from the leaf at `index` up to the root (RFC 6962 section 2.1.1). `index` must be in the tree. */
export function inclusionProof(leaves: readonly Uint8Array[], index: number): readonly Uint8Array[] {
  assert(Number.isInteger(index) && index >= 0 && index < leaves.length, "the proven leaf is in the tree");
  if (leaves.length === 1) return [];
  const split = largestPowerBelow(leaves.length);
  return index < split
    ? [...inclusionProof(leaves.slice(0, split), index), merkleRoot(leaves.slice(split))]
    : [...inclusionProof(leaves.slice(split), index - split), merkleRoot(leaves.slice(0, split))];
}

/** What is claimed: the leaf hash stands at `index` of a tree of `leafCount` leaves with this root. */
export type Inclusion = {
  readonly leaf: Uint8Array;
  readonly index: number;
  readonly leafCount: number;
  readonly proof: readonly Uint8Array[];
  readonly root: Uint8Array;
};

/** Whether the proof shows the claim (RFC 9162 section 2.1.3.2). Any input from outside is safe; false, never thrown. */
export function provesInclusion({ leaf, index, leafCount, proof, root }: Inclusion): boolean {
  if (!Number.isSafeInteger(index) || !Number.isSafeInteger(leafCount) || index < 0 || index >= leafCount) return false;
  // Attacker: hashes of other lengths could move the border between two concatenated ones.
  if ([leaf, root, ...proof].some((hash) => hash.length !== 32)) return false;
  let at = index;
  let last = leafCount - 1;
  let hash = leaf;
  for (const sibling of proof) {
    if (last === 0) return false;
    if (at % 2 === 1 || at === last) {
      hash = merkleNode(sibling, hash);
      for (; at % 2 === 0 && at !== 0; at /= 2) last = Math.floor(last / 2);
    } else {
      hash = merkleNode(hash, sibling);
    }
    at = Math.floor(at / 2);
    last = Math.floor(last / 2);
  }
  return last === 0 && Buffer.compare(hash, root) === 0;
}

/** The largest power of two that is smaller than `count`, for count ≥ 2. */
function largestPowerBelow(count: number): number {
  let power = 1;
  while (power * 2 < count) power *= 2;
  return power;
}
