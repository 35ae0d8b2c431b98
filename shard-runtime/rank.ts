/**
 * One rank as a process: its doors are open from the start and say how far it is; weights come, the engine runs, sessions
 * are served; at the end it lets them finish.
 *
 * What fails on the way is of two kinds. Weather (a source or signer that does not answer) is tried again, with patience
 * that grows from 1 to 30 s. A refusal (bad weights, a wrong digest, an unknown device) cannot heal by itself: the state
 * becomes Failed, the reason is in Describe and /readyz, and the process stays, because ending would only hide the reason
 * behind a restart count and fetch the same bytes again. It looks again after half a minute, then ever more rarely, up to
 * ten minutes, so that a source that somebody mends is noticed.
 */
import { join } from "node:path";
import type { Clock } from "../core/clock.ts";
import type { Description } from "../core/gen/proto/tessellate/shard/v1/Description.ts";
import { MANIFEST_FILE, isAddedFile } from "../core/manifest.ts";
import type { RankConfig } from "../core/rank-config.ts";
import type { ReadProgress } from "../core/read-progress.ts";
import { RefusalError, type Result, ok, refuse } from "../core/result.ts";
import { dial } from "../core/wire/door.ts";
import type { Tls } from "../core/wire/tls.ts";
import type { Keys } from "./attest/keys.ts";
import type { EngineThread } from "./engine/engine-thread.ts";
import { ShardShelf } from "./engine/shard-shelf.ts";
import { type LoadOptions, type LoadedShard, loadShard } from "./load-shard.ts";
import { GrpcFellowDoor } from "./transport/fellow-door.ts";
import { Follower } from "./transport/follower.ts";
import { Leader } from "./transport/leader.ts";
import type { Meters } from "./transport/meters.ts";
import type { Address } from "./transport/open-request.ts";
import type { RankState, Serving } from "./transport/rank-service.ts";
import { Fellows } from "./weights/fellows.ts";
import { Nearby } from "./weights/nearby.ts";
import type { OpenModel } from "./weights/open-model.ts";
import { PieceCache } from "./weights/piece-cache.ts";
import { type Progress, shownProgress } from "./weights/progress.ts";

export type Stage = "Fetching" | "Packing" | "Compiling" | "Loading" | "Serving" | "Draining" | "Failed";

export type RankDoors = {
  readonly clock: Clock;
  readonly tls: Tls;
  readonly keys: Keys;
  readonly meters: Meters;
  readonly log: (event: string, fields?: Readonly<Record<string, unknown>>) => void;
  /** Told when the rank begins or ceases to take sessions. */
  readonly onServing: (serving: boolean) => void;
  /** Told when the engine ends by itself: this process is of no more use. */
  readonly onEnded: (error: Error) => void;
};

const WEATHER_PATIENCE = { firstMs: 1_000, lastMs: 30_000 };
const REFUSAL_PATIENCE = { firstMs: 30_000, lastMs: 600_000 };
const DRAIN_MS = 10_000;
const DRAIN_LOOK_MS = 50;
/** Rows of prompts that may run beside decoded tokens of others. */
const PREFILL_ROWS_BESIDE_DECODE = 64;
/** Bytes of a file that gateways may read: manifests of huge models and tokenizers, never weights. */
const FILE_BYTES_MAX = 64 << 20;

export class Rank implements RankState {
  readonly name: string;
  readonly neighbours: ReadonlySet<string>;
  readonly #config: RankConfig;
  readonly #doors: RankDoors;
  readonly #ending = new AbortController();
  #stage: Stage = "Fetching";
  #done = 0;
  #lastError = "";
  #model: OpenModel | undefined;
  #fetchedBefore = 0;
  readonly #fellows: Fellows | undefined;
  readonly #fellowDoors: readonly GrpcFellowDoor[];
  #serving: Serving | undefined;
  #engine: EngineThread | undefined;

  constructor(config: RankConfig, doors: RankDoors) {
    this.#config = config;
    this.#doors = doors;
    this.name = config.name;
    this.neighbours = new Set(config.neighbours);
    const { tls, clock, log } = doors;
    this.#fellowDoors = (config.fellows ?? []).map(
      (fellow) =>
        new GrpcFellowDoor(fellow, config.model.root, ({ name, address }) =>
          dial("ShardRuntime", address, tls, { kind: "rank", name }),
        ),
    );
    if (this.#fellowDoors.length > 0)
      this.#fellows = new Fellows({ own: config.name, doors: this.#fellowDoors, clock, onTrouble: log });
  }

  /** Loads until it serves or is drained; never rejects but for a Bug. */
  async load(): Promise<void> {
    let failures = 0;
    while (!this.#ending.signal.aborted) {
      try {
        return await this.#tryLoad();
      } catch (error) {
        if (this.#ending.signal.aborted) return;
        const refused = error instanceof RefusalError;
        const patience = refused ? REFUSAL_PATIENCE : WEATHER_PATIENCE;
        const waitMs = Math.min(patience.firstMs * 2 ** failures, patience.lastMs);
        failures += 1;
        this.#lastError = refused ? `${error.code}: ${error.message}` : causesOf(error);
        if (refused) this.#stage = "Failed";
        this.#doors.log(refused ? "failed" : "trying-again", { detail: this.#lastError, againInMs: waitMs });
        await this.#doors.clock.sleep(waitMs, this.#ending.signal).catch(() => {});
      }
    }
  }

  async #tryLoad(): Promise<void> {
    const { clock, keys, log } = this.#doors;
    // Before gigabytes are fetched: a rank that nobody signs for is of no use.
    const key = await keys.identify();
    if (!key.ok) {
      if (key.code === "SignerMismatch") throw new RefusalError(refuse(key.code, `signer: ${key.detail}`));
      throw new Error(`signer: ${key.detail}`);
    }
    this.#fetchedBefore = this.fetchedBytes;
    const loaded = await loadShard(this.#config, {
      clock,
      ...(await this.#openNear()),
      signal: this.#ending.signal,
      onModel: (model) => {
        this.#fetchedBefore = this.fetchedBytes;
        this.#model = model;
      },
      onTrouble: log,
      onStage: (stage, done) => {
        if (stage !== this.#stage) log("stage", { stage });
        this.#stage = stage;
        this.#done = done;
      },
    });
    if (this.#ending.signal.aborted) return loaded.engine.close();
    this.#engine = loaded.engine;
    void loaded.engine.ended.then((error) => {
      if (error !== undefined && !this.#ending.signal.aborted) this.#doors.onEnded(error);
    });
    this.#serving = this.#serve(loaded, key.value.keyId);
    this.#stage = "Serving";
    this.#lastError = "";
    this.#doors.onServing(true);
    log("serving", { shard: loaded.facts.engine.shardDigest, driftClass: loaded.facts.engine.driftClass });
  }

  async #openNear(): Promise<Pick<LoadOptions, "near" | "piecesBytes">> {
    const { cacheBytes = 0, cacheDirectory } = this.#config;
    const { log: onTrouble } = this.#doors;
    const shelf = new ShardShelf(cacheDirectory);
    const options = {
      directory: join(cacheDirectory, "pieces"),
      limitBytes: cacheBytes,
      otherBytes: () => shelf.heldBytes(),
      onTrouble,
    };
    const cache = cacheBytes === 0 ? undefined : await PieceCache.open(options);
    return cache === undefined && this.#fellows === undefined
      ? {}
      : { near: new Nearby({ cache, fellows: this.#fellows }), piecesBytes: () => cache?.heldBytes ?? 0 };
  }

  #serve({ engine, facts }: LoadedShard, keyId: string): Serving {
    const { tls, keys, meters, clock, log } = this.#doors;
    const shared = {
      facts,
      engine,
      meters,
      nowMs: () => clock.monotonicMs(),
      dial: (to: Address, bulk: "one-way" | "both-ways") =>
        dial("ShardRuntime", to.address, tls, { kind: "rank", name: to.name }, bulk),
      onTrouble: (error: unknown) => log("batch-failed", { detail: causesOf(error) }),
    };
    const rowsMax = facts.engine.maxBatchRows;
    const budget = { rowsMax, prefillRowsBesideDecode: Math.min(rowsMax, PREFILL_ROWS_BESIDE_DECODE) };
    const role =
      facts.rankIndex === 0
        ? new Leader({ ...shared, budget, sendDelayMs: this.#config.rehearsal?.sendDelayMs ?? 0 })
        : new Follower(shared);
    return { facts, role, keys, keyId };
  }

  get stage(): Stage {
    return this.#stage;
  }

  get fetchedBytes(): number {
    return this.#fetchedBefore + (this.#model?.fetchedBytes() ?? 0);
  }

  /** Bytes of the model that came from other ranks, and pieces of theirs that were not the model's. */
  get fromFellows(): { readonly byteCount: number; readonly garbageCount: number } {
    const { byteCount = 0, garbageCount = 0 } = this.#fellows ?? {};
    return { byteCount, garbageCount };
  }

  get slots(): { readonly free: number; readonly used: number } {
    const free = this.#serving?.role.freeSlotCount ?? 0;
    return { free, used: this.#serving === undefined ? 0 : this.#config.slotCount - free };
  }

  /** Of its part of the model, while it reads that. */
  progress(): ReadProgress | undefined {
    const progress = this.#reading();
    if (progress === undefined) return undefined;
    const { doneBytes, totalBytes, secondsLeft } = progress;
    return { doneBytes, totalBytes, ...(secondsLeft === undefined ? {} : { secondsLeft: Math.ceil(secondsLeft) }) };
  }

  #reading(): Progress | undefined {
    const progress = this.#stage === "Packing" ? this.#model?.progress() : undefined;
    return progress === undefined || progress.doneBytes === 0 ? undefined : progress;
  }

  /** Why it takes no sessions; undefined where it does. */
  unready(): string | undefined {
    if (this.#stage === "Serving") return undefined;
    const progress = this.#reading();
    const far = progress === undefined ? "" : ` ${Math.floor(this.#done * 100)} %, read ${shownProgress(progress)}`;
    const stage = this.#stage === "Compiling" ? "Compiling the engine's operators, once on this machine" : this.#stage;
    return this.#lastError === "" ? `${stage}${far}` : `${stage}${far}: ${this.#lastError}`;
  }

  describe(): Description {
    const { name, provider, node, model, layers, rankIndex, sliceWeights, slotCount } = this.#config;
    const engine = this.#serving?.facts.engine;
    return {
      rank: name,
      provider,
      node,
      modelRoot: model.root,
      shardDigest: engine?.shardDigest ?? "",
      layers,
      rankIndex,
      rankCount: sliceWeights.length,
      driftClass: engine?.driftClass ?? "",
      keyId: this.#serving?.keyId ?? "",
      state: this.#stage,
      progress: engine === undefined ? this.#done : 1,
      slotCount,
      freeSlotCount: this.#serving?.role.freeSlotCount ?? 0,
      lastError: this.#lastError,
    };
  }

  serving(): Result<Serving> {
    return this.#serving === undefined
      ? refuse("NotServing", `${this.#config.name}: ${this.unready() ?? "starting"}`)
      : ok(this.#serving);
  }

  admits(): Result<undefined> {
    return this.#stage === "Draining"
      ? refuse("Draining", `${this.#config.name} is shutting down; use another chain`)
      : ok(undefined);
  }

  async readFile(path: string): Promise<Result<Uint8Array>> {
    const model = this.#model;
    if (model === undefined) return refuse("NotServing", `${this.#config.name}: ${this.unready() ?? "starting"}`);
    const file = path === MANIFEST_FILE ? undefined : model.manifest.files.find((known) => known.path === path);
    if (file === undefined && path !== MANIFEST_FILE)
      return refuse("UnknownFile", `the model has no file ${JSON.stringify(path.slice(0, 200))}`);
    if (path.endsWith(".safetensors") || isAddedFile(path) || (file?.sizeBytes ?? 0) > FILE_BYTES_MAX)
      return refuse(
        "TooLarge",
        `${path} holds weights, or is as large; ranks hand out manifests, tokenizers and configurations`,
      );
    return ok(await model.readFile(path));
  }

  give({ modelRoot, path, pieces, fetch }: Parameters<RankState["give"]>[0]): ReturnType<RankState["give"]> {
    const model = this.#model;
    if (model === undefined) return refuse("NotServing", `${this.name}: ${this.unready() ?? "starting"}`);
    if (modelRoot !== model.root)
      return refuse("UnknownModel", `${this.name} holds ${model.root}, not ${modelRoot.slice(0, 80)}`);
    return ok(model.give(path, pieces, fetch && !this.#ending.signal.aborted));
  }

  /** Takes no more sessions, lets those that run end, and frees the engine; at most `DRAIN_MS`. */
  async drain(): Promise<void> {
    const { clock } = this.#doors;
    this.#ending.abort(new Error("the rank is shutting down"));
    this.#stage = "Draining";
    this.#doors.onServing(false);
    const untilMs = clock.monotonicMs() + DRAIN_MS;
    while ((this.#serving?.role.sessionCount ?? 0) > 0 && clock.monotonicMs() < untilMs)
      await clock.sleep(DRAIN_LOOK_MS);
    this.#serving?.role.shutdown();
    await this.#engine?.close();
    this.#doors.keys.close();
    for (const door of this.#fellowDoors) door.close();
  }
}

/** An error and what caused it, in one line. */
export function causesOf(error: unknown): string {
  const said: string[] = [];
  for (let cause: unknown = error; cause instanceof Error && said.length < 5; cause = cause.cause)
    said.push(cause.message);
  return said.length === 0 ? String(error) : said.join(": ");
}
