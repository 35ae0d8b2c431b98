/**
 * Writing what has to be known by its digest later, in one pass. A file is a row of sections, each cut into pieces of about
 * 1 MiB that have digests of their own: so whoever loads it can read, check and use the pieces in any order, by as many
 * threads as there are. What is laid out by rows gets pieces of whole rows.
 */
import { hash } from "node:crypto";
import { type FileHandle, open } from "node:fs/promises";
import { join } from "node:path";

const PIECE_BYTES = 1 << 20;
/** Leaves are what lets native code hash several at once (native/digest.c, which has the same number). */
const LEAF_BYTES = 1 << 16;

/** Pieces of `pieceBytes` each, the last one of what is left; their digests in hex. */
export type Section = {
  readonly sizeBytes: number;
  readonly pieceBytes: number;
  readonly digests: readonly string[];
};

/** A packed file: its sections one after the other. */
export type PackedFile = { readonly name: string; readonly sizeBytes: number; readonly sections: readonly Section[] };

/** The digest of a piece: SHA-256, in hex, over the SHA-256s of its leaves. */
export function pieceDigest(bytes: Uint8Array): string {
  const leaves: Buffer[] = [];
  for (let start = 0; start < bytes.length; start += LEAF_BYTES)
    leaves.push(hash("sha256", bytes.subarray(start, start + LEAF_BYTES), "buffer"));
  return hash("sha256", Buffer.concat(leaves), "hex");
}

/** A file that is hashed while it is written. */
export class HashedFile {
  readonly #name: string;
  readonly #handle: FileHandle;
  readonly #sections: Section[] = [];
  #piece = new Uint8Array(PIECE_BYTES);
  #filled = 0;
  #sectionStart = 0;
  #digests: string[] = [];
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
    for (let start = 0; start < bytes.length; ) {
      const count = Math.min(bytes.length - start, this.#piece.length - this.#filled);
      this.#piece.set(bytes.subarray(start, start + count), this.#filled);
      this.#filled += count;
      start += count;
      if (this.#filled === this.#piece.length) this.#endPiece();
    }
    for (let written = 0; written < bytes.byteLength; )
      written += (await this.#handle.write(bytes, written, bytes.byteLength - written)).bytesWritten;
    this.#sizeBytes += bytes.byteLength;
  }

  /**
   * Fills up with zeros to a multiple of `alignment` bytes and begins a section there. Its pieces hold whole units of
   * `unitBytes`, as many as make about 1 MiB and at least one.
   */
  async section(alignment: number, unitBytes = 1): Promise<void> {
    const over = this.#sizeBytes % alignment;
    if (over > 0) await this.write(new Uint8Array(alignment - over));
    this.#endSection();
    this.#piece = new Uint8Array(Math.max(1, Math.floor(PIECE_BYTES / unitBytes)) * unitBytes);
  }

  #endPiece(): void {
    if (this.#filled > 0) this.#digests.push(pieceDigest(this.#piece.subarray(0, this.#filled)));
    this.#filled = 0;
  }

  #endSection(): void {
    this.#endPiece();
    const sizeBytes = this.#sizeBytes - this.#sectionStart;
    if (sizeBytes > 0) this.#sections.push({ sizeBytes, pieceBytes: this.#piece.length, digests: this.#digests });
    this.#digests = [];
    this.#sectionStart = this.#sizeBytes;
  }

  async finish(): Promise<PackedFile> {
    this.#endSection();
    await this.#handle.sync();
    await this.abandon();
    return { name: this.#name, sizeBytes: this.#sizeBytes, sections: this.#sections };
  }

  /** Closes without finishing; after `finish` it does nothing. */
  async abandon(): Promise<void> {
    if (this.#open) await this.#handle.close();
    this.#open = false;
  }
}

export type Piece = {
  readonly offset: number; // in the file
  readonly sizeBytes: number;
  readonly digest: string;
  readonly section: number; // offset where its section begins
};

/** The pieces of a file in order. */
export function* piecesOf(file: PackedFile): Generator<Piece> {
  let section = 0;
  for (const { sizeBytes, pieceBytes, digests } of file.sections) {
    for (const [index, digest] of digests.entries()) {
      const start = index * pieceBytes;
      yield { offset: section + start, sizeBytes: Math.min(pieceBytes, sizeBytes - start), digest, section };
    }
    section += sizeBytes;
  }
}

/** Whether the file in `directory` is what was written. Throws where it cannot be read. */
export async function isIntact(directory: string, file: PackedFile): Promise<boolean> {
  const handle = await open(join(directory, file.name));
  try {
    if ((await handle.stat()).size !== file.sizeBytes) return false;
    let at = 0;
    for (const { offset, sizeBytes, digest } of piecesOf(file)) {
      const bytes = new Uint8Array(sizeBytes);
      if ((await handle.read(bytes, 0, sizeBytes, offset)).bytesRead !== sizeBytes) return false;
      if (pieceDigest(bytes) !== digest) return false;
      at += sizeBytes;
    }
    return at === file.sizeBytes;
  } finally {
    await handle.close();
  }
}
