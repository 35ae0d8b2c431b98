/// <reference lib="es2025.float16" />
/**
 * Looking up tokens: rows are read from the packed file as they are needed, so that the table takes page cache and no
 * memory of ours. A rank holds the rows of its own vocabulary range; for other tokens it gives zeros, and the sum over
 * the ranks is exact because all but one are zero.
 */
import { closeSync, openSync, readSync } from "node:fs";
import type { Range } from "../../core/ranges.ts";

export class Embedding {
  readonly #path: string;
  readonly #file: number;
  readonly #vocabulary: Range;
  readonly #row: Float32Array | Float16Array;
  readonly #bytes: Uint8Array;
  readonly #scale: number;

  /** `path` holds rows [vocabulary] of `hiddenSize` values, little-endian; `scale` multiplies them when looked up. */
  constructor(
    path: string,
    options: {
      readonly vocabulary: Range;
      readonly hiddenSize: number;
      readonly dtype: "f32" | "f16";
      readonly scale: number;
    },
  ) {
    const { hiddenSize } = options;
    this.#path = path;
    this.#file = openSync(path, "r");
    this.#vocabulary = options.vocabulary;
    this.#scale = Math.fround(options.scale);
    this.#row = options.dtype === "f32" ? new Float32Array(hiddenSize) : new Float16Array(hiddenSize);
    this.#bytes = new Uint8Array(this.#row.buffer);
  }

  /** Writes one f32 row of the table for each token id into `rows` [tokens, hiddenSize]. */
  lookUp(tokenIds: Uint32Array, rows: Float32Array): void {
    const width = this.#row.length;
    for (const [index, token] of tokenIds.entries()) {
      const target = rows.subarray(index * width, (index + 1) * width);
      if (token < this.#vocabulary.start || token >= this.#vocabulary.end) {
        target.fill(0);
        continue;
      }
      const byteCount = this.#bytes.length;
      const read = readSync(this.#file, this.#bytes, 0, byteCount, (token - this.#vocabulary.start) * byteCount);
      if (read !== byteCount)
        throw new Error(`${this.#path} ends before the row of token ${token}; remove it to pack anew`);
      target.set(this.#row);
      if (this.#scale !== 1) for (let i = 0; i < width; i += 1) target[i] = (target[i] ?? 0) * this.#scale;
    }
  }

  close(): void {
    closeSync(this.#file);
  }
}
