/**
 * A model behind HTTP(S): any server that answers range requests, or a hub of Hugging Face's layout. Answers are held to
 * RFC 9110 section 14: a server that ignores a range, or sends another than was asked for, is refused rather than
 * worked around, since each rank would otherwise download whole models. A body that ends early is taken up where it
 * stopped. Redirects are followed; fetch drops the token when they lead to another origin.
 */
import type { Clock } from "../../core/clock.ts";
import { type Range, lengthOf } from "../../core/ranges.ts";
import { type Refusal, RefusalError, refuse } from "../../core/result.ts";
import { type Place, headersOf, shownFile, urlOf } from "../../core/source.ts";
import { wrongLength } from "./folder-source.ts";
import { Patience, Weather } from "./patience.ts";
import type { Source, SourceOptions } from "./source.ts";

/** Without a byte for so long, a connection counts as dead. */
const STALL_MS = 30_000;

type HttpPlace = Extract<Place, { kind: "http" }>;

export class HttpSource implements Source {
  readonly #place: HttpPlace;
  readonly #options: SourceOptions & { readonly stallMs?: number };
  /** Entity tags of what was read, strong ones; the second where it changed. */
  readonly #tags = new Map<string, { readonly first: string; readonly other?: string }>();

  constructor(place: HttpPlace, options: SourceOptions & { readonly stallMs?: number }) {
    this.#place = place;
    this.#options = options;
  }

  where(path: string): string {
    return shownFile(this.#place, path);
  }

  /**
   * Not refused by itself: servers that share a load may tag one file unlike, and its bytes are checked anyway. Where they
   * turn out wrong, this is why.
   */
  changeOf(path: string): string | undefined {
    const { first, other } = this.#tags.get(path) ?? {};
    return other === undefined
      ? undefined
      : `the file was replaced while it was read (ETag ${first?.slice(0, 80)}, then ${other.slice(0, 80)})`;
  }

  async *stream(path: string, range: Range, fileBytes: number): AsyncIterable<Uint8Array> {
    const patience = this.#patience(path);
    let at = range.start;
    while (at < range.end) {
      const before = at;
      try {
        for await (const piece of this.#attempt(path, { start: at, end: range.end }, fileBytes)) {
          at += piece.length;
          yield piece;
        }
        if (at < range.end) throw new Weather(`the answer ended ${range.end - at} bytes early`);
      } catch (error) {
        if (error instanceof RefusalError) throw error;
        await patience.outlast(error, at - before);
      }
    }
  }

  async readSmall(path: string, limitBytes: number): Promise<Uint8Array> {
    const patience = this.#patience(path);
    for (;;) {
      try {
        return await this.#whole(path, limitBytes);
      } catch (error) {
        if (error instanceof RefusalError) throw error;
        await patience.outlast(error, 0);
      }
    }
  }

  #patience(path: string): Patience {
    const { clock, signal, attemptCount } = this.#options;
    return new Patience({ clock, where: this.where(path), signal, attemptCount });
  }

  async #whole(path: string, limitBytes: number): Promise<Uint8Array> {
    using call = new Call(this.#options);
    const response = await this.#ask(call, path);
    if (response.status !== 200)
      throw this.#refusal(path, "UnexpectedStatus", `answers ${response.status} to a plain request`);
    const pieces: Uint8Array[] = [];
    let sizeBytes = 0;
    for await (const piece of call.pieces(response)) {
      sizeBytes += piece.length;
      if (sizeBytes > limitBytes)
        throw new RefusalError(wrongLength(this.where(path), `over ${limitBytes} bytes`, "less"));
      pieces.push(piece);
    }
    const declared = response.headers.get("content-length");
    if (declared !== null && Number(declared) !== sizeBytes)
      throw new Weather(`the answer ended after ${sizeBytes} of ${declared} bytes`);
    return new Uint8Array(Buffer.concat(pieces));
  }

  /** One request for `range`. Ends early where the server does; never yields a byte too many. */
  async *#attempt(path: string, range: Range, fileBytes: number): AsyncIterable<Uint8Array> {
    using call = new Call(this.#options);
    const response = await this.#ask(call, path, range);
    this.#checkRange(path, response, range, fileBytes);
    this.#noteTag(path, response);
    let left = lengthOf(range);
    for await (const piece of call.pieces(response)) {
      if (piece.length > left)
        throw this.#refusal(path, "WrongContentRange", `sends more than the ${lengthOf(range)} bytes asked for`);
      left -= piece.length;
      yield piece;
    }
  }

  async #ask(call: Call, path: string, range?: Range): Promise<Response> {
    // Compression would change what sizes and ranges mean. Where a range is asked for, fetch says identity by itself.
    const own: Record<string, string> =
      range === undefined ? { "accept-encoding": "identity" } : { range: `bytes=${range.start}-${range.end - 1}` };
    const headers = { ...headersOf(this.#place, this.#options.hubToken), ...own };
    const response = await call.fetch(urlOf(this.#place, path), headers);
    if (response.status === 200 || response.status === 206) {
      const encoding = response.headers.get("content-encoding") ?? "identity";
      if (encoding === "identity") return response;
      throw this.#refusal(path, "WrongContentRange", `is sent as ${encoding}, though plain bytes were asked for`);
    }
    throw this.#failure(path, response, range);
  }

  #failure(path: string, response: Response, range: Range | undefined): Error {
    const { status } = response;
    if (status === 408 || status === 425 || status === 429 || status >= 500)
      return new Weather(`status ${status}`, { retryAfterMs: this.#retryAfterMs(response) });
    if (status === 404 || status === 410)
      return this.#refusal(path, "MissingFile", `answers ${status}; correct the source or its revision`);
    if (status === 401 || status === 403)
      return this.#refusal(
        path,
        "AccessDenied",
        `answers ${status}; give a hub token that may read this model, and accept its terms there`,
      );
    if (status === 416 && range !== undefined)
      return new RefusalError(wrongLength(this.where(path), `no bytes ${range.start} to ${range.end}`, "them"));
    return this.#refusal(path, "UnexpectedStatus", `answers ${status}; correct the source`);
  }

  #checkRange(path: string, response: Response, range: Range, fileBytes: number): void {
    if (response.status === 200) {
      const whole = range.start === 0 && range.end === fileBytes;
      if (whole && response.headers.get("content-length") === String(fileBytes)) return;
      throw this.#refusal(
        path,
        "RangeIgnored",
        "the server ignores range requests; serve the model from one that answers them with 206",
      );
    }
    const header = response.headers.get("content-range") ?? "none";
    const [, start, end, total] = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(header) ?? [];
    if (Number(start) !== range.start || Number(end) >= range.end || !(Number(end) >= range.start))
      throw this.#refusal(
        path,
        "WrongContentRange",
        `bytes ${range.start}-${range.end - 1} were asked for, Content-Range says ${header.slice(0, 80)}`,
      );
    if (total !== "*" && Number(total) !== fileBytes)
      throw new RefusalError(wrongLength(this.where(path), `${total} bytes`, `${fileBytes}`));
  }

  #noteTag(path: string, response: Response): void {
    const tag = response.headers.get("etag");
    if (tag === null || tag.startsWith("W/")) return;
    const known = this.#tags.get(path);
    if (known === undefined) this.#tags.set(path, { first: tag });
    else if (known.first !== tag) this.#tags.set(path, { first: known.first, other: tag });
  }

  #refusal(path: string, code: string, detail: string): RefusalError {
    const refusal: Refusal = refuse(code, `${this.where(path)}: ${detail}`);
    return new RefusalError(refusal);
  }

  /** RFC 9110 section 10.2.3: seconds, or a date, which is read against the server's own Date so that clocks need not agree. */
  #retryAfterMs(response: Response): number | undefined {
    const value = response.headers.get("retry-after");
    if (value === null) return undefined;
    if (/^\d{1,9}$/.test(value)) return Number(value) * 1000;
    const wait = Date.parse(value) - Date.parse(response.headers.get("date") ?? "");
    return Number.isFinite(wait) ? Math.max(0, wait) : undefined;
  }
}

/** One request, ended when it stalls, when its reader leaves, or when the caller's signal says so. */
class Call implements Disposable {
  readonly #clock: Clock;
  readonly #stallMs: number;
  readonly #end = new AbortController();
  readonly #signal: AbortSignal;

  constructor(options: SourceOptions & { readonly stallMs?: number }) {
    this.#clock = options.clock;
    this.#stallMs = options.stallMs ?? STALL_MS;
    this.#signal =
      options.signal === undefined ? this.#end.signal : AbortSignal.any([this.#end.signal, options.signal]);
  }

  fetch(url: URL, headers: Readonly<Record<string, string>>): Promise<Response> {
    return this.#unlessStalled(fetch(url, { headers, signal: this.#signal, redirect: "follow" }));
  }

  async *pieces(response: Response): AsyncIterable<Uint8Array> {
    const reader = response.body?.getReader();
    if (reader === undefined) return;
    for (;;) {
      const { done, value } = await this.#unlessStalled(reader.read());
      if (done) return;
      yield value;
    }
  }

  [Symbol.dispose](): void {
    this.#end.abort(new Weather("the reader left"));
  }

  async #unlessStalled<T>(step: Promise<T>): Promise<T> {
    const arrived = new AbortController();
    const stall = () => this.#end.abort(new Weather(`no byte for ${this.#stallMs / 1000} s`));
    void this.#clock.sleep(this.#stallMs, arrived.signal).then(stall, () => undefined);
    try {
      return await step;
    } finally {
      arrived.abort();
    }
  }
}
