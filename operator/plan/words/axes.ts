/**
 * In which directions a world may be changed so that a model fits, each in steps from the smallest change to the largest:
 * what remedies are sought among. `size` says how much of what was asked for a step gives up, or how much of what there
 * is it adds: 0 is nothing, 1 is all of it; a rule given up altogether counts as 1.
 */
import { present } from "../../../core/assert.ts";
import { QUANTIZATIONS } from "../../../core/rank-config.ts";
import { formatCredits } from "../../../core/units.ts";
import { RUNTIME_BYTES, footprint } from "../footprint.ts";
import type { ModelSpec, NodeFacts, World } from "../types.ts";
import type { Change } from "./change.ts";
import { listOf } from "./figures.ts";
import { settingOf } from "./setting.ts";
import type { Known } from "./times.ts";

export type Step = { readonly change: Change; readonly size: number };
/** From the smallest change to the largest; what a step achieves, every larger one is expected to achieve as well. */
export type Axis = { readonly name: string; readonly steps: readonly Step[] };

const BITS: Readonly<Record<ModelSpec["quantization"], number>> = { f32: 32, f16: 16, int8: 8, int4: 4 };
/** A rule of the owner's is given up less lightly than a figure: allowing one more provider, admitting one. */
const RULE_SIZE = 0.9;
/** Machines whose memory might grow, largest first. */
const GROWING_MAX = 3;

/** `new`: its provider is nobody who is there already. */
export const ADDED_NODE = "new-node";

/** All directions of this world, each with at least one step. */
export function axesOf(world: Known): readonly Axis[] {
  const whole = wholeBytes(world);
  const axes: readonly Axis[] = [
    { name: "return", steps: returning(world) },
    { name: "admit", steps: admitting(world) },
    { name: "add", steps: adding(world, whole, undefined) },
    ...growing(world, whole),
    ...settings(world),
  ];
  return axes.filter(({ steps }) => steps.length > 0);
}

/** What one node would need to hold a whole chain, and what all chains together take. */
export function wholeBytes({ model, facts }: Known): { readonly one: number; readonly all: number } {
  const { layerBytes, endBytes } = footprint(model, facts);
  const one = layerBytes * facts.config.layerCount + endBytes;
  return { one, all: one * Math.max(1, model.replicas) };
}

/** Nodes of more and more memory, of `provider` or of one that is not there yet. */
export function adding(
  world: Known,
  whole: ReturnType<typeof wholeBytes>,
  provider: string | undefined,
): readonly Step[] {
  const like = typicalNode(world);
  const owner = provider ?? newProvider(world);
  const { providersAllow } = world.model.placement;
  if (providersAllow.length > 0 && !providersAllow.includes(owner)) return [];
  return roundSizes(RUNTIME_BYTES, RUNTIME_BYTES + whole.all).map((freeBytes) => ({
    size: freeBytes / whole.all,
    change: { do: "add", node: { ...like, name: nameFor(world), provider: owner, freeBytes } },
  }));
}

/** Sizes that people say, about an eighth apart, from above `from` until one is at least `to`. */
function roundSizes(from: number, to: number): readonly number[] {
  const sizes: number[] = [];
  for (let octave = 2 ** 20; sizes.length === 0 || (sizes.at(-1) ?? 0) < to; octave *= 2)
    for (let eighth = 0; eighth < 8 && (sizes.at(-1) ?? 0) < to; eighth++) {
      const size = octave * (1 + eighth / 8);
      if (size > from && size % 2 ** 20 === 0) sizes.push(size);
    }
  return sizes;
}

/** A node such as there are: the commonest device, the middle bandwidth, labels that the model asks for. */
function typicalNode({ model, nodes }: Known): NodeFacts {
  const middle = nodes.toSorted((a, b) => a.memoryBytesPerSecond - b.memoryBytesPerSecond)[nodes.length >> 1];
  const devices = model.placement.devices ?? [];
  const device = commonest(
    nodes.map((node) => node.device).filter((each) => devices.length === 0 || devices.includes(each)),
  );
  const regions = model.placement.regions ?? [];
  const known = nodes.flatMap(({ region }) => region ?? []);
  const region = regions[0] ?? commonest(known);
  return {
    name: "",
    provider: "",
    providerAdmitted: true,
    ready: true,
    labels: model.placement.nodeSelector,
    device: device ?? devices[0] ?? "cpu",
    freeBytes: 0,
    memoryBytesPerSecond: middle?.memoryBytesPerSecond ?? 0,
    threadCount: middle?.threadCount ?? 1,
    signer: "unix:/run/tessellate/signer.sock",
    ...(region === undefined ? {} : { region }),
  };
}

function commonest(values: readonly string[]): string | undefined {
  const counts = new Map<string, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return [...counts].sort(([a, x], [b, y]) => y - x || (a < b ? -1 : 1))[0]?.[0];
}

function unused(taken: readonly string[], wanted: string): string {
  for (let index = 1; ; index++) {
    const name = index === 1 ? wanted : `${wanted}-${index}`;
    if (!taken.includes(name)) return name;
  }
}

const nameFor = ({ nodes }: Known): string =>
  unused(
    nodes.map(({ name }) => name),
    ADDED_NODE,
  );

function newProvider({ model, nodes }: Known): string {
  const present = [...nodes.map(({ provider }) => provider), ...model.placement.providersDeny];
  const edge = model.placement.providersAllow.find((name) => !present.includes(name));
  return edge ?? unused(present, "new-provider");
}

function growing({ nodes }: Known, whole: ReturnType<typeof wholeBytes>): readonly Axis[] {
  return nodes
    .filter(({ ready, providerAdmitted }) => ready && providerAdmitted)
    .sort((a, b) => b.freeBytes - a.freeBytes || (a.name < b.name ? -1 : 1))
    .slice(0, GROWING_MAX)
    .map(({ name }) => ({
      name: "grow",
      // A machine that exists is not so easily made larger as a new one is brought.
      steps: roundSizes(0, whole.all).map((bytes) => ({
        size: (2 * bytes) / whole.all,
        change: { do: "grow", node: name, bytes },
      })),
    }));
}

const returning = ({ nodes }: Pick<World, "nodes">): readonly Step[] =>
  nodes.filter(({ ready }) => !ready).map(({ name }) => ({ size: 0.05, change: { do: "return", node: name } }));

function admitting({ nodes }: Pick<World, "nodes">): readonly Step[] {
  const providers = nodes.filter(({ providerAdmitted }) => !providerAdmitted).map(({ provider }) => provider);
  return [...new Set(providers)].sort().map((provider) => ({ size: 0.1, change: { do: "admit", provider } }));
}

/** Everything in the spec that could be asked for less strictly. */
function settings(world: Known): readonly Axis[] {
  const { model } = world;
  const { placement, objective } = model;
  const step = (name: string, text: string, size: number): Step => {
    const parsed = settingOf(model, name, text);
    return { change: present(parsed.ok ? parsed.value : undefined, `${name}=${text} is a setting`), size };
  };
  const axis = (name: string, steps: readonly (readonly [text: string, size: number])[], called = name): Axis => ({
    name: called,
    steps: steps.map(([text, size]) => step(name, text, size)),
  });
  const bits = BITS[model.quantization];
  const smaller = QUANTIZATIONS.filter((each) => BITS[each] < bits).map(
    (each) => [each, 1 - BITS[each] / bits] as const,
  );
  const price = placement.pricePerHourMax ?? (objective?.kind === "Latency" ? objective.pricePerHourMax : undefined);
  const time = objective?.kind === "Throughput" ? objective.timePerTokenMsMax : undefined;
  const rate = objective?.kind === "Price" ? objective.tokensPerSecondMin : undefined;
  const selector = Object.entries(placement.nodeSelector);
  return [
    axis("quantization", smaller),
    axis("kvCache", model.kvDtype === "f32" ? [["int8", 0.3]] : []),
    axis("context", downFrom(model.contextLength)),
    axis("slots", downFrom(model.slotCount)),
    axis("replicas", downFrom(model.replicas)),
    axis("providers.min", downFrom(placement.providersMin)),
    axis("providers.maxShare", upTo(placement.providersMaxSharePercent, 100, 5)),
    axis("surviveProviders", downTo(placement.surviveProviders ?? 0, 0)),
    axis("tensorParallel", downFrom(placement.tensorParallelMax)),
    axis("maxPricePerHour", price === undefined ? [] : raised(Number(price) / 1e6, (value) => creditsText(value))),
    axis("maxTimePerTokenMs", time === undefined ? [] : raised(time, (value) => String(Math.ceil(value)))),
    axis("minTokensPerSecond", rate === undefined ? [] : lowered(rate)),
    ...placement.providersDeny.map((name) =>
      axis("providers.deny", [
        [placement.providersDeny.filter((each) => each !== name).join("+") || "none", RULE_SIZE],
      ]),
    ),
    ...others(world, placement.providersAllow).map((name) =>
      axis("providers.allow", [[[...placement.providersAllow, name].join("+"), RULE_SIZE]]),
    ),
    axis("edges", placement.edgeProviders === undefined ? [] : [["none", 1]]),
    axis("regions", placement.regions === undefined ? [] : [["none", 1]]),
    axis("devices", placement.devices === undefined ? [] : [["none", 1]]),
    axis("nodeSelector", selector.length === 0 ? [] : [["none", 1]]),
  ];
}

/** Providers with nodes that the list of allowed ones leaves out; none where all are allowed. */
function others({ nodes }: Known, allowed: readonly string[]): readonly string[] {
  if (allowed.length === 0) return [];
  return [...new Set(nodes.map(({ provider }) => provider))].filter((name) => !allowed.includes(name)).sort();
}

type Texts = readonly (readonly [text: string, size: number])[];

/** Lower and lower to 1, in at most 16 steps or so, of round numbers. */
function downFrom(from: number): Texts {
  const unit = 2 ** Math.max(0, Math.floor(Math.log2(from / 16)));
  const start = Math.ceil(from / unit) - 1;
  return Array.from({ length: Math.max(0, start) }, (_, index) => (start - index) * unit).map(
    (value) => [String(value), 1 - value / from] as const,
  );
}

const downTo = (from: number, to: number): Texts =>
  Array.from({ length: Math.max(0, from - to) }, (_, index) => [String(from - 1 - index), (index + 1) / from] as const);

const upTo = (from: number, to: number, unit: number): Texts =>
  Array.from({ length: Math.max(0, Math.ceil((to - from) / unit)) }, (_, index) => {
    const value = Math.min(to, (Math.floor(from / unit) + index + 1) * unit);
    return [String(value), (value - from) / to] as const;
  });

const RAISES = Array.from({ length: 24 }, (_, index) => 1.1 ** (index + 1));

/** A bound raised by a tenth again and again, to ten times what it was. */
const raised = (from: number, text: (value: number) => string): Texts =>
  RAISES.map((factor) => [text(threeDigits(from * factor)), 1 - 1 / factor] as const);

const lowered = (from: number): Texts =>
  RAISES.map((factor) => [String(threeDigits(from / factor)), 1 - 1 / factor] as const);

const threeDigits = (value: number): number => Number(value.toPrecision(3));
const creditsText = (credits: number): string => formatCredits(BigInt(Math.ceil(credits * 1e6))).replace(/\.?0+$/, "");

/** `of any provider`, `of campus, studio or a new provider`: whose a node may be, of those who are there and one more. */
export function ownerWords(owners: readonly string[], all: readonly string[], added: string): string {
  const isNew = !all.includes(added);
  if (isNew && owners.length === all.length) return "of any provider";
  return `of ${listOf([...owners, ...(isNew ? ["a new provider"] : [])], "or")}`;
}
