/**
 * The files of every model in the picture, loaded once per model root from whichever rank of a ready chain gives them
 * truly. A model that cannot be served says why at each request; it does not touch the others.
 */
import { type Refusal, type Result, refuse } from "../../core/result.ts";
import { type Doors, whyAborted, within } from "../doors.ts";
import { type ModelFacts, type Picture, formsOf, modelKey, modelOn } from "../route/picture.ts";
import type { RankAddress } from "../session/types.ts";
import { MODEL_AT_FAULT, type ModelFiles, readModelFiles } from "./model-files.ts";

type Entry = {
  readonly end: AbortController; // aborted once no model has this root any more
  readonly loaded: Promise<Result<ModelFiles>>;
  outcome: Result<ModelFiles> | undefined;
  lastRefusal: Refusal | undefined; // while trying on
};

const RETRY_FIRST_MS = 500;
const RETRY_MAX_MS = 15_000;

export class ModelCatalog {
  readonly #doors: Doors;
  readonly #entries = new Map<string, Entry>();
  #picture: Picture | undefined;

  constructor(doors: Doors) {
    this.#doors = doors;
  }

  /** Starts loading what is new and can be read, forgets what is gone. */
  update(picture: Picture): void {
    this.#picture = picture;
    const roots = new Set(picture.models.flatMap(formsOf).map(({ root }) => root));
    for (const [root, entry] of this.#entries) {
      if (roots.has(root)) continue;
      entry.end.abort();
      this.#entries.delete(root);
    }
    for (const model of picture.models)
      for (const chain of model.chains) if (chain.ready) this.#entryOf(modelOn(model, chain).root);
  }

  /** What is known now; undefined while loading. */
  peek(root: string): Result<ModelFiles> | undefined {
    return this.#entries.get(root)?.outcome;
  }

  /** The files, waiting for them at most `waitMs`; `ModelLoading` after that, with what keeps them away. */
  async get(model: ModelFacts, waitMs: number, signal?: AbortSignal): Promise<Result<ModelFiles>> {
    const entry = this.#entries.get(model.root);
    if (entry === undefined)
      return refuse(
        "ModelLoading",
        `${modelKey(model)} has no ready rank yet to read its tokenizer from; try again shortly`,
      );
    if (entry.outcome !== undefined) return entry.outcome;
    const loaded = await within(this.#doors.clock, waitMs, entry.loaded, signal);
    if (loaded === "aborted")
      return signal === undefined ? refuse("Cancelled", "nobody waits any more") : whyAborted(signal);
    if (loaded !== "late") return loaded;
    const why = entry.lastRefusal === undefined ? "" : ` (${entry.lastRefusal.detail})`;
    return refuse(
      "ModelLoading",
      `the files of ${modelKey(model)} are being read from its ranks${why}; try again shortly`,
    );
  }

  close(): void {
    for (const entry of this.#entries.values()) entry.end.abort();
  }

  #entryOf(root: string): Entry {
    const known = this.#entries.get(root);
    if (known !== undefined) return known;
    const end = new AbortController();
    const entry: Entry = {
      end,
      outcome: undefined,
      lastRefusal: undefined,
      loaded: Promise.resolve().then(() => this.#load(root, end.signal)),
    };
    this.#entries.set(root, entry);
    return entry;
  }

  /** Rank after rank, round after round, until one gives the files or the files themselves are refused. */
  async #load(root: string, end: AbortSignal): Promise<Result<ModelFiles>> {
    const { clock, log } = this.#doors;
    for (let pauseMs = RETRY_FIRST_MS; ; pauseMs = Math.min(RETRY_MAX_MS, pauseMs * 2)) {
      for (const rank of this.#ranksOf(root)) {
        const files = await readModelFiles((path) => this.#doors.wire.readFile(rank, path), root).catch(
          (error: unknown) => refuse("Weather", `reading the model from ${rank.name} broke: ${String(error)}`),
        );
        if (end.aborted) return refuse("ModelNotFound", "the model is served no longer");
        const entry = this.#entries.get(root);
        if (files.ok || MODEL_AT_FAULT.has(files.code)) {
          if (entry !== undefined) entry.outcome = files;
          log(files.ok ? "model-loaded" : "model-refused", {
            root,
            rank: rank.name,
            ...(files.ok ? {} : { code: files.code, detail: files.detail }),
          });
          return files;
        }
        if (entry !== undefined) entry.lastRefusal = files;
        log("model-unread", { root, rank: rank.name, code: files.code, detail: files.detail });
      }
      const waited = await clock.sleep(pauseMs, end).then(
        () => true,
        () => false,
      );
      if (!waited) return refuse("ModelNotFound", "the model is served no longer");
    }
  }

  #ranksOf(root: string): readonly RankAddress[] {
    const chains = (this.#picture?.models ?? []).flatMap((model) =>
      model.chains.filter((chain) => chain.ready && modelOn(model, chain).root === root),
    );
    return chains.flatMap((chain) => chain.segments.flatMap((segment) => segment.ranks));
  }
}
