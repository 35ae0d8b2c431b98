/**
 * A model, opened: its manifest checked against the root that was asked for, its configuration understood, its tensors
 * ready to be read slice by slice. Nothing of the weights has been fetched yet.
 */
import { basename, dirname } from "node:path";
import type { Clock } from "../../core/clock.ts";
import {
  MANIFEST_BYTES_MAX,
  MANIFEST_FILE,
  type Manifest,
  formatManifest,
  parseManifest,
} from "../../core/manifest.ts";
import { type ModelConfig, parseModelConfig } from "../../core/model-config.ts";
import type { ModelSource } from "../../core/rank-config.ts";
import { type Refusal, RefusalError, type Result, ok, refuse, valueOrThrow } from "../../core/result.ts";
import { placeOf } from "../../core/source.ts";
import type { TensorSource } from "../engine/tensor-source.ts";
import { Checkpoint, type TensorRead } from "./checkpoint.ts";
import type { Progress } from "./progress.ts";
import { ATTEMPT_COUNT_OF_SEVERAL } from "./patience.ts";
import type { Nearby } from "./nearby.ts";
import { type Source, openPlace } from "./source.ts";
import { SourceList, type Trouble } from "./source-list.ts";
import { type ReaderOptions, VerifiedReader } from "./verified-reader.ts";

export type OpenOptions = {
  readonly clock: Clock;
  readonly expectedRoot?: string; // sha256:…; any other model is refused as WrongRoot
  readonly manifestUrl?: string; // URL or path of the manifest where it does not lie beside the model
  readonly hubToken?: string;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: Progress) => void; // after each piece that comes for the first time
  readonly mirrors?: readonly ModelSource[]; // asked in order where the source fails
  readonly near?: Nearby; // asked before the source, where that is not a folder of this machine
  readonly onTrouble?: Trouble; // what went wrong with a source and was got over
};

export type OpenModel = {
  readonly manifest: Manifest;
  readonly root: string; // sha256:…
  readonly config: ModelConfig;
  readonly tensors: TensorSource;
  /** Verified bytes of a whole file of the manifest, or of the manifest itself. Throws RefusalError `MissingFile`. */
  readFile(path: string): Promise<Uint8Array>;
  /** Tells progress what will be read, so that its total is this rank's and not the whole model's. Reads headers. */
  expectReads(reads: Iterable<TensorRead>): Promise<void>;
  progress(): Progress;
  /** Bytes that came from the source so far, repeats included. */
  fetchedBytes(): number;
  /** What there is of pieces of a file, for another rank; see VerifiedReader. */
  give: VerifiedReader["give"];
};

/**
 * Opens a packed model. Every refusal names file and remedy; weather that outlasts the retries is thrown as
 * SourceUnavailable.
 */
export function openModel(source: ModelSource, options: OpenOptions): Promise<Result<OpenModel>> {
  return refusalsOf(async () => {
    const all = [source, ...(options.mirrors ?? [])];
    const several = all.length > 1 ? { attemptCount: ATTEMPT_COUNT_OF_SEVERAL } : {};
    const { hubToken, ...plain } = options;
    const sources = all.map((each) => {
      // The token is for the one hub that its owner named: a mirror could be anybody's.
      const own = each === source && hubToken !== undefined ? { hubToken } : {};
      return openPlace(valueOrThrow(placeOf(each)), { ...plain, ...several, ...own });
    });
    const elsewhere = options.manifestUrl === undefined ? undefined : manifestAt(options.manifestUrl, plain);
    const files = new SourceList(sources, {
      ...(elsewhere === undefined ? {} : { besideManifest: elsewhere.source }),
      ...(options.onTrouble === undefined ? {} : { onTrouble: options.onTrouble }),
    });
    const { source: from, path } = elsewhere ?? { source: files, path: MANIFEST_FILE };
    const manifest = valueOrThrow(parseManifest(await manifestText(from, path), options.expectedRoot));
    const { near, ...others } = options;
    const isFar = !("path" in source || "persistentVolumeClaim" in source);
    return openWith(files, manifest, near !== undefined && isFar ? { ...others, near } : others);
  });
}

/** A model whose manifest is already at hand. Throws RefusalError. */
export async function openWith(
  files: SourceList,
  manifest: Manifest,
  options: ReaderOptions,
): Promise<OpenModel & { readonly tensors: Checkpoint }> {
  const config = valueOrThrow(parseModelConfig(manifest.configText));
  const reader = new VerifiedReader(files, manifest, options);
  const tensors = await Checkpoint.open(reader, manifest, config);
  return {
    manifest,
    root: manifest.root,
    config,
    tensors,
    readFile: async (path) =>
      path === MANIFEST_FILE ? new TextEncoder().encode(formatManifest(manifest)) : reader.readFile(path),
    expectReads: async (reads) => reader.expect(await tensors.rangesOf(reads)),
    progress: () => reader.progress,
    fetchedBytes: () => reader.fetchedBytes,
    give: (path, pieces, fetch) => reader.give(path, pieces, fetch),
  };
}

async function manifestText(source: Pick<Source, "where" | "readSmall">, path: string): Promise<string> {
  try {
    return new TextDecoder().decode(await source.readSmall(path, MANIFEST_BYTES_MAX));
  } catch (error) {
    if (!(error instanceof RefusalError && error.code === "MissingFile")) throw error;
    throw new RefusalError(
      refuse(
        "MissingManifest",
        `${source.where(path)}: the model has no manifest; run "tessellate pack DIR" once on a copy of it and put ${MANIFEST_FILE} beside its files`,
      ),
    );
  }
}

function manifestAt(location: string, options: OpenOptions): { readonly source: Source; readonly path: string } {
  const url = /^https?:/.test(location) ? URL.parse(location) : null;
  if (url === null)
    return { source: openPlace(valueOrThrow(placeOf({ path: dirname(location) })), options), path: basename(location) };
  const path = decodeURIComponent(basename(url.pathname));
  url.pathname = dirname(url.pathname);
  return { source: openPlace(valueOrThrow(placeOf({ url: url.href })), options), path };
}

/** Runs `work`; a thrown refusal becomes a result, everything else stays thrown. */
export async function refusalsOf<T>(work: () => Promise<T>): Promise<Result<T>> {
  try {
    return ok(await work());
  } catch (error) {
    if (!(error instanceof RefusalError)) throw error;
    const refusal: Refusal = refuse(error.code, error.message);
    return refusal;
  }
}
