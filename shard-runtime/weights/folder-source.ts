/** A model in a folder of this machine, a mounted volume included. */
import { type FileHandle, open } from "node:fs/promises";
import { join } from "node:path";
import { type Range, lengthOf } from "../../core/ranges.ts";
import { RefusalError, refuse } from "../../core/result.ts";
import { type Place, shownFile } from "../../core/source.ts";
import type { Source } from "./source.ts";

const PIECE_BYTES = 1 << 20;

export class FolderSource implements Source {
  readonly #place: Extract<Place, { kind: "folder" }>;

  constructor(place: Extract<Place, { kind: "folder" }>) {
    this.#place = place;
  }

  where(path: string): string {
    return shownFile(this.#place, path);
  }

  async *stream(path: string, range: Range, fileBytes: number): AsyncIterable<Uint8Array> {
    const file = await this.#open(path);
    try {
      const { size } = await file.stat();
      if (size !== fileBytes) throw new RefusalError(wrongLength(this.where(path), `${size} bytes`, `${fileBytes}`));
      const piece = new Uint8Array(Math.min(PIECE_BYTES, Math.max(1, lengthOf(range))));
      for (let at = range.start; at < range.end; ) {
        const { bytesRead } = await file.read(piece, 0, Math.min(piece.length, range.end - at), at);
        if (bytesRead === 0) throw new RefusalError(wrongLength(this.where(path), `${at} bytes`, `${fileBytes}`));
        yield piece.subarray(0, bytesRead);
        at += bytesRead;
      }
    } finally {
      await file.close();
    }
  }

  async readSmall(path: string, limitBytes: number): Promise<Uint8Array> {
    const sizeBytes = await this.sizeOf(path);
    if (sizeBytes > limitBytes)
      throw new RefusalError(wrongLength(this.where(path), `${sizeBytes} bytes`, `at most ${limitBytes}`));
    return this.read(path, { start: 0, end: sizeBytes }, sizeBytes);
  }

  /** The bytes of `range`, in an array of their own. `fileBytes` is what the file should measure. */
  async read(path: string, range: Range, fileBytes: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(lengthOf(range));
    let at = 0;
    for await (const piece of this.stream(path, range, fileBytes)) {
      bytes.set(piece, at);
      at += piece.length;
    }
    return bytes;
  }

  /** Refused as MissingFile where there is no such file. */
  async sizeOf(path: string): Promise<number> {
    const file = await this.#open(path);
    try {
      return (await file.stat()).size;
    } finally {
      await file.close();
    }
  }

  async #open(path: string): Promise<FileHandle> {
    try {
      const file = await open(join(this.#place.directory, path), "r");
      if ((await file.stat()).isFile()) return file;
      await file.close();
    } catch (error) {
      const code = error instanceof Error && "code" in error ? error.code : undefined;
      if (code === "EACCES" || code === "EPERM")
        throw new RefusalError(
          refuse("AccessDenied", `${this.where(path)}: this process may not read it; give it read permission`),
        );
      if (code !== "ENOENT" && code !== "ENOTDIR")
        throw new Error(`${this.where(path)}: cannot be opened`, { cause: error });
    }
    throw new RefusalError(
      refuse("MissingFile", `${this.where(path)}: no such file; fetch the checkpoint again, or correct the source`),
    );
  }
}

export const wrongLength = (where: string, found: string, expected: string) =>
  refuse(
    "WrongLength",
    `${where}: has ${found}, expected ${expected}; the file is cut short or another revision, fetch it again`,
  );
