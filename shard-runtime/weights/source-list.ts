/**
 * Several sources of one model as one: they are asked in order, and where one fails the next goes on at the same byte.
 * What `tessellate pack` adds to a model (hashes of leaves, copies by column) may lie beside the manifest, where that lies
 * elsewhere than the model; there it is looked for first.
 */
import { present } from "../../core/assert.ts";
import { isAddedFile } from "../../core/manifest.ts";
import { type Range, lengthOf } from "../../core/ranges.ts";
import { RefusalError, refuse } from "../../core/result.ts";
import { SourceUnavailable } from "./patience.ts";
import { SourceOrder } from "./source-order.ts";
import type { Source } from "./source.ts";

/** Told of what went wrong and was got over, for logs. */
export type Trouble = (event: string, fields: Readonly<Record<string, unknown>>) => void;

export type SourceListOptions = {
  readonly besideManifest?: Source; // absent: the manifest lies beside the model
  readonly onTrouble?: Trouble;
};

export class SourceList {
  readonly #sources: readonly Source[];
  readonly #beside: Source | undefined;
  readonly #onTrouble: Trouble;
  readonly #order: SourceOrder;
  #fetchedBytes = 0;

  /** `sources`: at least one, the one to ask first in front. */
  constructor(sources: readonly Source[], { besideManifest, onTrouble = () => {} }: SourceListOptions = {}) {
    this.#sources = sources;
    this.#beside = besideManifest;
    this.#onTrouble = onTrouble;
    this.#order = new SourceOrder(sources.length);
  }

  /** Bytes that came from sources so far, repeats included. */
  get fetchedBytes(): number {
    return this.#fetchedBytes;
  }

  /** The file at the first source, as people are shown it. */
  where(path: string): string {
    return present(this.#sources[0], "a model has a source").where(path);
  }

  /** The sources to ask for a file now, in order. */
  inOrder(path: string): readonly Source[] {
    const sources = this.#order.order().map((index) => present(this.#sources[index], "an index of the list"));
    return this.#beside !== undefined && isAddedFile(path) ? [this.#beside, ...sources] : sources;
  }

  /**
   * The bytes of `range` in order, each with the source that gave it. Throws what the sources threw where all failed:
   * SourceUnavailable if any of them may yet come back, else a RefusalError.
   */
  async *stream(
    path: string,
    range: Range,
    fileBytes: number,
  ): AsyncIterable<{ readonly bytes: Uint8Array; readonly source: Source }> {
    let at = range.start;
    const failures: Error[] = [];
    for (const source of this.inOrder(path)) {
      try {
        for await (const bytes of source.stream(path, { start: at, end: range.end }, fileBytes)) {
          at += bytes.length;
          this.#fetchedBytes += bytes.length;
          yield { bytes, source };
        }
        if (!isAddedFile(path)) this.#order.worked(this.#sources.indexOf(source));
        return;
      } catch (error) {
        if (!(error instanceof RefusalError || error instanceof SourceUnavailable)) throw error;
        failures.push(error);
        if (!isAddedFile(path)) this.blame(source, path, error);
      }
    }
    throw failed(failures);
  }

  /** The bytes of `range`, from `source` alone where one is given; not checked. */
  async readRange(path: string, range: Range, fileBytes: number, source?: Source): Promise<Uint8Array> {
    const out = new Uint8Array(lengthOf(range));
    let at = 0;
    if (source === undefined) {
      for await (const { bytes } of this.stream(path, range, fileBytes)) {
        out.set(bytes, at);
        at += bytes.length;
      }
      return out;
    }
    for await (const bytes of source.stream(path, range, fileBytes)) {
      this.#fetchedBytes += bytes.length;
      out.set(bytes, at);
      at += bytes.length;
    }
    return out;
  }

  /** A whole small file from the first source that has it. */
  async readSmall(path: string, limitBytes: number): Promise<Uint8Array> {
    const failures: Error[] = [];
    for (const source of this.inOrder(path)) {
      try {
        return await source.readSmall(path, limitBytes);
      } catch (error) {
        if (!(error instanceof RefusalError || error instanceof SourceUnavailable)) throw error;
        failures.push(error);
        this.blame(source, path, error);
      }
    }
    throw failed(failures);
  }

  /** From now on this source is asked after those that did better. */
  blame(source: Source, path: string, why: Error): void {
    const index = this.#sources.indexOf(source);
    if (index >= 0) this.#order.failed(index);
    if (this.#sources.length > 1) this.#onTrouble("source-failed", { file: source.where(path), detail: why.message });
  }
}

/** One error of several; `failures` has at least one. */
function failed(failures: readonly Error[]): Error {
  const [first] = failures;
  if (first === undefined || failures.length === 1) return present(first, "a source was asked");
  const said = failures.map(({ message }) => message).join("; then ");
  if (failures.some((error) => error instanceof SourceUnavailable))
    return new SourceUnavailable(said, { cause: first });
  return new RefusalError(refuse(first instanceof RefusalError ? first.code : "MissingFile", said));
}
