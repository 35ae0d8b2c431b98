/** Writing what has to be known by its digest later, in one pass. */
import { createHash } from "node:crypto";
import { type FileHandle, open } from "node:fs/promises";
import { join } from "node:path";

export type PackedFile = { readonly name: string; readonly sizeBytes: number; readonly sha256: string };

/** A file that is hashed while it is written. */
export class HashedFile {
  readonly #name: string;
  readonly #handle: FileHandle;
  readonly #hash = createHash("sha256");
  #sizeBytes = 0;
  #open = true;

  private constructor(name: string, handle: FileHandle) {
    this.#name = name;
    this.#handle = handle;
  }

  static async create(directory: string, name: string): Promise<HashedFile> {
    return new HashedFile(name, await open(join(directory, name), "w"));
  }

  get name(): string {
    return this.#name;
  }

  /** Bytes written so far. */
  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  async write(bytes: Uint8Array): Promise<void> {
    this.#hash.update(bytes);
    for (let written = 0; written < bytes.byteLength; )
      written += (await this.#handle.write(bytes, written, bytes.byteLength - written)).bytesWritten;
    this.#sizeBytes += bytes.byteLength;
  }

  /** Fills up with zeros to a multiple of `alignment` bytes. */
  async align(alignment: number): Promise<void> {
    const over = this.#sizeBytes % alignment;
    if (over > 0) await this.write(new Uint8Array(alignment - over));
  }

  async finish(): Promise<PackedFile> {
    await this.#handle.sync();
    await this.abandon();
    return { name: this.#name, sizeBytes: this.#sizeBytes, sha256: this.#hash.digest("hex") };
  }

  /** Closes without finishing; after `finish` it does nothing. */
  async abandon(): Promise<void> {
    if (this.#open) await this.#handle.close();
    this.#open = false;
  }
}
