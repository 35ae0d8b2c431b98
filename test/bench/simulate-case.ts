/**
 * Placements of a "planner-bench" case (see plan-case.ts) as houses to simulate: a flow says what could pass, the
 * simulation what is served, to how many at once, and how fast each token comes.
 *
 * The case has one rate for each number of layers held, prompt and generated tokens together, at one mix (750 read, 240
 * written) and one fullness of the KV cache. Here it becomes a time: its shape follows from what the kind of device is
 * known to read and multiply a second, its size is such that the very mix runs at the very rate.
 */
import { present } from "../../core/assert.ts";
import { lengthOf } from "../../core/ranges.ts";
import { RefusalError, refuse } from "../../core/result.ts";
import type { House, Load, Path, Station, Way } from "../../operator/plan/simulate/house.ts";
import { servedBest } from "../../operator/plan/simulate/served.ts";
import type { Tiling } from "../../operator/plan/tiling/problem.ts";
import { type PlanCase, problemOfCase } from "./plan-case.ts";

export type SimulatedCase = Omit<PlanCase, "nodes" | "model"> & {
  readonly model: PlanCase["model"] & { readonly name: string; readonly layerBytes: number };
  readonly throughputProfile: string;
  readonly nodes: readonly (PlanCase["nodes"][number] & { readonly type: string; readonly vramBytes: number })[];
};

/** The case's own mix: tokens read and written by a request. */
const PROMPT_TOKENS = 750;
const GENERATED_TOKENS = 240;
/** Share of the KV space that the case's rates take for used, and rows that it keeps together. */
const KV_SHARE = 0.3;
const KV_BLOCK = 16;
/** What is left of a device's memory to weights and KV. */
const MEMORY_SHARE = 0.9;

/** Bytes and operations a second, as the makers say; of several devices in one node, of each. */
const DEVICES: Readonly<Record<string, { readonly bytesPerSecond: number; readonly operationsPerSecond: number }>> = {
  A100: { bytesPerSecond: 1555e9, operationsPerSecond: 312e12 },
  V100: { bytesPerSecond: 900e9, operationsPerSecond: 125e12 },
  L4: { bytesPerSecond: 300e9, operationsPerSecond: 121e12 },
  T4: { bytesPerSecond: 320e9, operationsPerSecond: 65e12 },
};
/** Of these operations, what large products get. */
const ARITHMETIC_SHARE = 0.5;

/** Keys and values of one token in one layer, by the case's model: 8 heads of 128 in f16, or 52 of 128. */
const KV_BYTES: readonly (readonly [name: RegExp, byteCount: number])[] = [
  [/70B/i, 2 * 8 * 128 * 2],
  [/30B/i, 2 * 52 * 128 * 2],
];

/** One layer of a device, before it is made to fit the case's rates. */
type Shape = { readonly read: number; readonly row: number; readonly position: number };

/** What is simulated: a house, and who comes. */
export type HouseUnderLoad = { readonly house: House; readonly load: Load };

/** Tilings of the case as houses, with sessions in every slot of those who hold the first layer. */
export function caseHouses(read: SimulatedCase): (tiling: Pick<Tiling, "holdings" | "chains">) => HouseUnderLoad {
  const known = new Map<string, Station>();
  const station = (site: string, layerCount: number): Station => {
    const key = `${site} ${layerCount}`;
    const found = known.get(key) ?? stationOf(read, site, layerCount);
    known.set(key, found);
    return found;
  };
  const ways = waysOf(read);
  return ({ holdings, chains }) => {
    const stations = holdings.map(({ site, layers }) => station(site, lengthOf(layers)));
    const paths = chains.map((chain) => ({ stations: chain.holdings, weight: chain.tokensPerSecond }));
    const firsts = new Set(paths.flatMap((path) => path.stations.slice(0, 1)));
    const clientCount = [...firsts].reduce((sum, first) => sum + (stations[first]?.slotCount ?? 0), 0);
    const load: Load = { kind: "closed", clientCount, underWay: true, ...REQUESTS };
    return { house: houseOf(ways, stations, paths), load };
  };
}

const REQUESTS = { promptTokens: PROMPT_TOKENS, generatedTokens: GENERATED_TOKENS, spread: 0.5 } as const;

/** Sessions of the case that come at random, so many a second. */
export const online = (sessionsPerSecond: number): Load => ({ kind: "open", sessionsPerSecond, ...REQUESTS });

/** How long the search for a case may look, in evaluations. */
const CASE_EVALUATIONS = 6_000;

/** What the planner chooses for the case; refuses where it finds no whole path. */
export function servedCase(read: SimulatedCase): Tiling {
  const tiling = servedBest(problemOfCase(read, CASE_EVALUATIONS), caseHouses(read));
  if (tiling === undefined) throw new RefusalError(refuse("NoPath", `${read.case}: no placement has a whole path`));
  return tiling;
}

/** Whether devices and model of the case are known here, so that steps have times. */
export function isSimulated(read: PlanCase): read is SimulatedCase {
  const { nodes, model } = read as Partial<SimulatedCase>;
  const { name: modelName = "" } = model ?? {};
  return KV_BYTES.some(([name]) => name.test(modelName)) && (nodes ?? []).every(({ type = "" }) => deviceOf(type));
}

type Ways = { readonly [way in "between" | "entries" | "exits"]: ReadonlyMap<string, Way> };

function waysOf({ model, links, source, sink }: SimulatedCase): Ways {
  const rowBits = 8 * model.activationBytesPerToken;
  const between = new Map<string, Way>();
  for (const [a, b, bits, seconds] of links.pairs)
    for (const key of [`${a} ${b}`, `${b} ${a}`]) between.set(key, { seconds, secondsPerRow: rowBits / bits });
  const ends = (list: PlanCase["source"]["links"]) =>
    new Map(list.map(([node, , seconds]) => [node, { seconds, secondsPerRow: 0 }]));
  return { between, entries: ends(source.links), exits: ends(sink.links) };
}

function houseOf({ between, entries, exits }: Ways, stations: readonly Station[], paths: readonly Path[]): House {
  const name = (index: number): string => present(stations[index], "a station of the house").name;
  return {
    stations,
    paths,
    between: (from, to) => present(between.get(`${name(from)} ${name(to)}`), "a link of the case"),
    entry: (to) => present(entries.get(name(to)), "a link from the coordinator"),
    exit: (from) => present(exits.get(name(from)), "a link to the coordinator"),
    gatewaySeconds: 0,
    openSeconds: 0,
    budget: { rowsMax: 2048, prefillRowsBesideDecode: 512 }, // of GPUs: larger than ours on a CPU
    lingers: false,
    keepsPace: true,
  };
}

function stationOf(read: SimulatedCase, name: string, layerCount: number): Station {
  const node = present(
    read.nodes.find(({ id }) => id === name),
    "a node of the case",
  );
  const { read: weights, row, position } = shapeOf(read, node.type);
  const slots = slotsOf(read, node, layerCount);
  // The batch that the case's rate speaks of: of all sequences, those whose token is here, each with its share of prompts.
  const here = layerCount * relativeSeconds(read, node.type);
  const decodes = Math.max(
    1,
    (slots * here) / (here + (read.model.layers - layerCount) * meanSeconds(read, node.type)),
  );
  const rows = decodes * (1 + PROMPT_TOKENS / GENERATED_TOKENS);
  const shaped = layerCount * (weights + row * rows + position * decodes * (PROMPT_TOKENS + GENERATED_TOKENS / 2));
  const rate = present(node.throughput[layerCount - 1], "a rate for so many layers");
  const scale = rows / rate / shaped;
  return {
    name,
    devices: [name],
    slotCount: Math.max(1, Math.floor(slots)),
    stepSeconds: ({ rowCount, positionCount }) =>
      scale * layerCount * (weights + row * rowCount + position * positionCount),
  };
}

function shapeOf({ model }: SimulatedCase, type: string): Shape {
  const { bytesPerSecond, operationsPerSecond } = present(deviceOf(type), `the device ${type} of a case is known`);
  return {
    read: model.layerBytes / bytesPerSecond,
    row: model.layerBytes / (operationsPerSecond * ARITHMETIC_SHARE), // two bytes a weight, two operations a weight and row
    position: kvBytesOf(model.name) / bytesPerSecond,
  };
}

/** `T4x2` is two T4 that share every layer. */
function deviceOf(type: string): (typeof DEVICES)[string] | undefined {
  const [, kind = "", count = "1"] = /^([A-Z0-9]+?)(?:x(\d+))?$/.exec(type) ?? [];
  const device = DEVICES[kind];
  if (device === undefined) return undefined;
  const times = Number(count);
  return {
    bytesPerSecond: device.bytesPerSecond * times,
    operationsPerSecond: device.operationsPerSecond * times,
  };
}

const kvBytesOf = (model: string): number =>
  present(
    KV_BYTES.find(([name]) => name.test(model)),
    `the KV size of ${model} is known`,
  )[1];

function slotsOf({ model }: SimulatedCase, { vramBytes }: SimulatedCase["nodes"][number], layerCount: number): number {
  const free = MEMORY_SHARE * vramBytes - layerCount * model.layerBytes;
  const blocks = Math.floor(free / (layerCount * kvBytesOf(model.name) * KV_BLOCK));
  return Math.max(1, (KV_SHARE * KV_BLOCK * blocks) / (PROMPT_TOKENS + GENERATED_TOKENS));
}

/** A layer on this kind of device beside others, as the rates at the most layers have it. */
function relativeSeconds(read: SimulatedCase, type: string): number {
  const { throughput } = present(
    read.nodes.find((node) => node.type === type),
    "a node of the type",
  );
  return 1 / (throughput.length * (throughput.at(-1) ?? 1));
}

/** Where tables are made for one kind of device at a time, the others of a session's way are of the same kind. */
function meanSeconds(read: SimulatedCase, type: string): number {
  if (read.throughputProfile === "perType") return relativeSeconds(read, type);
  const perLayer = read.nodes.map((node) => ({
    layers: node.throughput.length,
    seconds: relativeSeconds(read, node.type),
  }));
  const layers = perLayer.reduce((sum, each) => sum + each.layers, 0);
  return perLayer.reduce((sum, each) => sum + each.layers * each.seconds, 0) / layers;
}
