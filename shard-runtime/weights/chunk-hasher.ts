/** A file's chunks and leaves, hashed as its bytes go by. */
import { CHUNK_BYTES, type ManifestFile, leafHashes } from "../../core/manifest.ts";
import { merkleRoot } from "../../core/merkle.ts";

export class ChunkHasher {
  readonly #chunk = new Uint8Array(CHUNK_BYTES);
  readonly #chunks: Uint8Array[] = [];
  #leaves: Uint8Array[] = [];
  #filled = 0;
  #sizeBytes = 0;

  update(bytes: Uint8Array): void {
    for (let taken = 0; taken < bytes.length; ) {
      const part = bytes.subarray(taken, taken + CHUNK_BYTES - this.#filled);
      this.#chunk.set(part, this.#filled);
      this.#filled += part.length;
      taken += part.length;
      if (this.#filled === CHUNK_BYTES) this.#finishChunk();
    }
    this.#sizeBytes += bytes.length;
  }

  /** The hashes of the leaves since the last call, 32 bytes each; those of a chunk that is not full yet come later. */
  takeLeaves(): Uint8Array {
    const leaves = new Uint8Array(Buffer.concat(this.#leaves));
    this.#leaves = [];
    return leaves;
  }

  /** What the manifest says about the file; nothing may be added afterwards. */
  finish(path: string): ManifestFile {
    if (this.#filled > 0) this.#finishChunk();
    return { path, sizeBytes: this.#sizeBytes, chunks: new Uint8Array(Buffer.concat(this.#chunks)) };
  }

  #finishChunk(): void {
    const leaves = leafHashes(this.#chunk.subarray(0, this.#filled));
    this.#leaves.push(...leaves);
    this.#chunks.push(merkleRoot(leaves));
    this.#filled = 0;
  }
}
