/**
 * The door through which a model's bytes come. What comes through it is not believed: {@link VerifiedReader} checks it.
 * Refusals (RefusalError) are for good: the file is not there, the server does not do byte ranges. Weather is retried
 * inside, a bounded number of times, and then thrown as {@link SourceUnavailable}.
 */
import type { Clock } from "../../core/clock.ts";
import type { Range } from "../../core/ranges.ts";
import type { Place } from "../../core/source.ts";
import { FolderSource } from "./folder-source.ts";
import { HttpSource } from "./http-source.ts";

export interface Source {
  /** The file as people are shown it: a path, or a URL without its query. */
  where(path: string): string;
  /**
   * Exactly the bytes of `range`, in order, in pieces of any size; a piece is valid until the next one is asked for.
   * `fileBytes` is what the file should measure. Codes: MissingFile, AccessDenied, WrongLength, RangeIgnored,
   * WrongContentRange, UnexpectedStatus.
   */
  stream(path: string, range: Range, fileBytes: number): AsyncIterable<Uint8Array>;
  /** What tells that the file was replaced while it was read, in words; undefined where nothing does. */
  changeOf?(path: string): string | undefined;
  /** A whole small file of unknown size; one above `limitBytes` is refused as WrongLength. */
  readSmall(path: string, limitBytes: number): Promise<Uint8Array>;
}

export type SourceOptions = {
  readonly clock: Clock;
  readonly hubToken?: string;
  readonly signal?: AbortSignal; // ends every read
  readonly attemptCount?: number; // failures in a row that are put up with; fewer where there is another source
};

export function openPlace(place: Place, options: SourceOptions): Source {
  return place.kind === "folder" ? new FolderSource(place) : new HttpSource(place, options);
}

/** Where everything went as it should on our side and the bytes still do not come. `cause` is the last attempt's. */
export { SourceUnavailable } from "./patience.ts";
