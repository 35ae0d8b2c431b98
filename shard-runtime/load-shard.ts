/** From a configuration to an engine that runs: manifest, the slice's bytes, packing, loading; each step told as it begins. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "../core/clock.ts";
import type { ModelConfig } from "../core/model-config.ts";
import type { RankConfig } from "../core/rank-config.ts";
import { RefusalError, type Refusal, refuse, valueOrThrow } from "../core/result.ts";
import { type Slice, cutSlices, rankCountMax, shardBytes } from "../core/slice.ts";
import { checkDevice } from "./engine/check-device.ts";
import { type EngineThread, startEngineThread } from "./engine/engine-thread.ts";
import { checkKvDtype } from "./engine/kv-dtype.ts";
import { type ProductsLibrary, machineLibrary } from "./engine/native/products.ts";
import { type ShardReading, withPackedShard } from "./engine/pack.ts";
import { ShardShelf } from "./engine/shard-shelf.ts";
import type { TensorSource } from "./engine/tensor-source.ts";
import { playedWeights, rehearsedEngine } from "./rehearsal.ts";
import type { RankFacts } from "./transport/rank-facts.ts";
import type { Nearby } from "./weights/nearby.ts";
import { shardReads } from "./weights/shard-reads.ts";
import type { TensorRead } from "./weights/checkpoint.ts";
import { type OpenModel, openModel } from "./weights/open-model.ts";

export type LoadStage = "Fetching" | "Packing" | "Compiling" | "Loading";

export type LoadOptions = {
  readonly near?: Nearby;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** What fetched pieces take of the node's budget. */
  readonly piecesBytes?: () => number;
  onModel(model: OpenModel): void;
  /** What went wrong with a source and was got over. */
  onTrouble(event: string, fields: Readonly<Record<string, unknown>>): void;
  /** `done`: 0..1 of the stage. */
  onStage(stage: LoadStage, done: number): void;
};

export type LoadedShard = { readonly engine: EngineThread; readonly facts: RankFacts };

/** Throws a RefusalError where a person must change something, weather (or the signal's reason) otherwise. */
export async function loadShard(
  config: RankConfig,
  { clock, near, signal, piecesBytes = () => 0, onModel, onTrouble, onStage }: LoadOptions,
): Promise<LoadedShard> {
  onStage("Fetching", 0);
  const hubToken = config.hubTokenFile === undefined ? undefined : (await readFile(config.hubTokenFile, "utf8")).trim();
  const model = valueOrThrow(
    await openModel(config.model.source, {
      clock,
      signal,
      expectedRoot: config.model.root,
      ...(config.model.mirrors === undefined ? {} : { mirrors: config.model.mirrors }),
      onTrouble,
      ...(near === undefined ? {} : { near }),
      ...(config.model.manifestUrl === undefined ? {} : { manifestUrl: config.model.manifestUrl }),
      ...(hubToken === undefined ? {} : { hubToken }),
    }),
  );
  onModel(model);
  const refused = refusedShard(config, model.config);
  if (refused !== undefined) throw new RefusalError(refused);
  // Compiles for some seconds where it was not yet; meanwhile the weights come.
  const native = machineLibrary(join(config.cacheDirectory, "native"));
  if (config.kvDtype !== "f32") {
    const found = config.device === "cpu" ? await native : { reason: "it is for the cpu" };
    valueOrThrow(checkKvDtype(config.kvDtype, config.device, found));
  }
  await checkDevice({ device: config.device, config: model.config, quantization: config.quantization });
  const library = readingBy(native, config, onTrouble);
  let isCompiled = false;
  void library.then(() => (isCompiled = true));
  const slices = cutSlices(model.config, config.sliceWeights);
  const slice = slices[config.rankIndex];
  if (slice === undefined)
    throw new RefusalError(refuse("MalformedField", `rankIndex: ${config.rankIndex} is not below ${slices.length}`));
  const room = roomFor(config, piecesBytes);
  const { device, kvDtype, contextLength, slotCount, threadCount, spin } = config;
  const engine = await withPackedShard(
    expecting(model, () => shardReads(model.config, config.layers, slice)),
    model.config,
    { layers: config.layers, slice },
    {
      modelRoot: model.root,
      quantization: config.quantization,
      cacheDirectory: config.cacheDirectory,
      reading: () => {
        if (!isCompiled) onStage("Compiling", 0);
        return library;
      },
      makeRoom: () => room.make(wholeBytes(config, model.config, slice)),
      onProgress: (doneCount, totalCount) => {
        signal.throwIfAborted();
        onStage("Packing", doneCount / totalCount);
      },
    },
    async ({ directory, reading }) => {
      signal.throwIfAborted();
      onStage("Loading", 0);
      room.use(directory);
      const native = await library;
      return startEngineThread({
        shardDirectory: directory,
        device,
        kvDtype,
        contextLength,
        slotCount,
        threadCount,
        spin,
        products: native?.laysOut === true ? native.library : undefined,
        loadHandle: reading?.handle,
      });
    },
    (spoilt) => spoilt.close(),
  ).catch((cause: unknown) => {
    room.leave();
    throw cause;
  });
  void engine.ended.then(() => room.leave());
  void room.make(0);
  const [namespace = ""] = config.name.split("/");
  const facts: RankFacts = {
    name: config.name,
    provider: config.provider,
    node: config.node,
    model: { name: `${namespace}/${config.model.name}`, root: model.root, layerCount: model.config.layerCount },
    layers: config.layers,
    rankIndex: config.rankIndex,
    rankCount: config.sliceWeights.length,
    shareMillionths: BigInt(slice.shareMillionths),
    vocabularies: slices.map(({ vocabulary }) => vocabulary),
    neighbours: new Set(config.neighbours),
    engine: engine.facts,
  };
  const { rehearsal } = config;
  if (rehearsal === undefined) return { engine, facts };
  return { engine: rehearsedEngine(engine, rehearsal, playedWeights(config, model.config, slice), clock), facts };
}

/** What of the node's budget this rank's shard may take, and that it is in use. */
function roomFor({ cacheDirectory, cacheBytes }: RankConfig, piecesBytes: () => number) {
  const shelf = new ShardShelf(cacheDirectory);
  let leave = () => {};
  return {
    make: async (incomingBytes: number) => {
      if (cacheBytes !== undefined) await shelf.makeRoom(cacheBytes, piecesBytes() + incomingBytes);
    },
    use: (directory: string) => {
      leave();
      leave = shelf.use(directory);
    },
    leave: () => leave(),
  };
}

const wholeBytes = ({ layers, quantization }: RankConfig, model: ModelConfig, slice: Slice): number =>
  shardBytes(model, layers, slice, quantization, { first: layers.start === 0, last: layers.end === model.layerCount });

/** The operators are for the processor; the threads that read and check are for every device. */
async function readingBy(
  library: Promise<ProductsLibrary>,
  { device, threadCount }: RankConfig,
  onTrouble: LoadOptions["onTrouble"],
): Promise<ShardReading | undefined> {
  const laysOut = device === "cpu";
  const native = await library;
  if ("path" in native) return { library: native.path, threadCount, laysOut };
  if (laysOut) onTrouble("slower-operators", { reason: native.reason });
  return undefined;
}

/**
 * The model's tensors; at the first read, progress is told what will be read. Not before: a shard that is packed already
 * needs no byte of the source, headers included.
 */
function expecting({ tensors, expectReads }: OpenModel, readsOf: () => readonly TensorRead[]): TensorSource {
  let told: Promise<void> | undefined;
  const tell = () => (told ??= expectReads(readsOf()));
  return {
    read: async (role, part) => {
      await tell();
      return tensors.read(role, part);
    },
    readBlocks: async (role, part) => {
      await tell();
      return tensors.readBlocks?.(role, part);
    },
    rest: () => tensors.rest?.(),
  };
}

/** What the plan says and the checkpoint cannot be. */
function refusedShard({ layers, sliceWeights, contextLength }: RankConfig, model: ModelConfig): Refusal | undefined {
  if (layers.end > model.layerCount)
    return refuse(
      "MalformedField",
      `layers.end: is ${layers.end}, the model has ${model.layerCount} layers; plan it again`,
    );
  if (sliceWeights.length > rankCountMax(model))
    return refuse(
      "MalformedField",
      `sliceWeights: has ${sliceWeights.length} ranks, this model can be cut into ${rankCountMax(model)}`,
    );
  if (contextLength > model.maxPositions)
    return refuse(
      "ContextTooLong",
      `contextLength: is ${contextLength}, the model was made for ${model.maxPositions} positions`,
    );
  return undefined;
}
