/** Which leaves of which files, as bits: what was read already, for progress. */
import { LEAF_BYTES, type ManifestFile, leafCountOf } from "../../core/manifest.ts";
import type { Range } from "../../core/ranges.ts";

export class LeafSet {
  readonly #bits = new Map<string, Uint8Array>();
  #byteCount = 0;

  /** Bytes of all leaves in the set. */
  get byteCount(): number {
    return this.#byteCount;
  }

  /** Adds leaves of a file; the bytes of those that were not there yet. */
  add(file: ManifestFile, leaves: Range): number {
    const bits = this.#bitsOf(file);
    let added = 0;
    for (let leaf = leaves.start; leaf < leaves.end; leaf += 1) {
      const bit = 1 << (leaf & 7);
      const before = bits[leaf >> 3] ?? 0;
      if ((before & bit) !== 0) continue;
      bits[leaf >> 3] = before | bit;
      added += Math.min(LEAF_BYTES, file.sizeBytes - leaf * LEAF_BYTES);
    }
    this.#byteCount += added;
    return added;
  }

  has(file: ManifestFile, leaf: number): boolean {
    return ((this.#bits.get(file.path)?.[leaf >> 3] ?? 0) & (1 << (leaf & 7))) !== 0;
  }

  #bitsOf(file: ManifestFile): Uint8Array {
    const known = this.#bits.get(file.path);
    if (known !== undefined) return known;
    const bits = new Uint8Array(Math.ceil(leafCountOf(file.sizeBytes) / 8));
    this.#bits.set(file.path, bits);
    return bits;
  }
}
