/** Random worlds for properties of planning: small, with every kind of constraint now and then. */
import fc from "fast-check";
import { aConfig, aModel, aNode, aWorld } from "./builders.ts";
import type { NodeFacts, Objective } from "./types.ts";

const PROVIDERS = ["w", "x", "y", "z"] as const;
const seldom = <T>(value: fc.Arbitrary<T>) =>
  fc.oneof({ arbitrary: fc.constant(undefined), weight: 9 }, { arbitrary: value, weight: 1 });

const mostly = (usual: boolean) => fc.integer({ min: 0, max: 14 }).map((drawn) => (drawn > 0 ? usual : !usual));

const someObjective: fc.Arbitrary<Objective> = fc.oneof(
  fc.record({ kind: fc.constant("Throughput" as const), timePerTokenMsMax: fc.integer({ min: 5, max: 200 }) }),
  fc
    .record({ kind: fc.constant("Latency" as const), ceiling: seldom(fc.bigInt({ min: 1n, max: 30n })) })
    .map(({ kind, ceiling }) => (ceiling === undefined ? { kind } : { kind, pricePerHourMax: ceiling })),
  fc.record({ kind: fc.constant("Price" as const), tokensPerSecondMin: fc.integer({ min: 1, max: 2_000 }) }),
);

export const someNode = fc.record({
  free: fc.integer({ min: 140, max: 600 }),
  speed: fc.integer({ min: 0, max: 100 }),
  provider: fc.constantFrom(...PROVIDERS),
  device: fc.constantFrom("cpu", "cpu", "cuda"),
  region: fc.constantFrom(undefined, "north", "south"),
  price: fc.integer({ min: 0, max: 9 }),
  ready: mostly(true),
  admitted: mostly(true),
  zone: fc.constantFrom("a", "a", "b"),
  reliability: seldom(fc.constantFrom(0.5, 0.9, 0.999)),
  isCached: fc.boolean(),
  isMeasured: fc.boolean(),
});

export const someWorld = fc.record({
  nodes: fc.array(someNode, { minLength: 1, maxLength: 7, size: "max" }),
  layerCount: fc.integer({ min: 1, max: 24 }),
  replicas: fc.integer({ min: 1, max: 3 }),
  providersMin: fc.constantFrom(1, 1, 1, 1, 2, 3),
  share: fc.integer({ min: 40, max: 500 }).map((drawn) => Math.min(100, drawn)),
  tensorParallelMax: fc.constantFrom(1, 1, 2, 3),
  tensorParallelAcross: fc.boolean(),
  tensorParallelAlways: seldom(fc.constant(true as const)),
  survive: seldom(fc.constantFrom(1)),
  edges: seldom(fc.subarray([...PROVIDERS], { minLength: 1 })),
  ceiling: seldom(fc.integer({ min: 1, max: 30 })),
  regions: seldom(fc.constantFrom(["north"], ["north", "south"])),
  devices: seldom(fc.constantFrom(["cpu"], ["cuda"])),
  allow: seldom(fc.subarray([...PROVIDERS], { minLength: 1 })),
  deny: seldom(fc.subarray([...PROVIDERS], { minLength: 1, maxLength: 2 })),
  zone: seldom(fc.constantFrom("a", "b")),
  replacement: fc.constantFrom("AnyDevice" as const, "AnyDevice" as const, "SameDevice" as const),
  objective: seldom(someObjective),
  slotsByPlanner: fc.boolean(),
  kvDtype: fc.constantFrom("f32" as const, "f32" as const, "int8" as const),
  spares: fc.constantFrom(0, 0, 1, 2),
});

export type DrawnWorld = typeof someWorld extends fc.Arbitrary<infer Drawn> ? Drawn : never;
type DrawnNode = DrawnWorld["nodes"][number];

export const nodeOf = (
  { free, speed, provider, device, region, price, ready, admitted, zone, reliability, isCached, isMeasured }: DrawnNode,
  index: number,
): NodeFacts =>
  aNode(`n${index}`, {
    providerAdmitted: admitted,
    labels: { zone },
    ...(reliability === undefined ? {} : { reliability }),
    ...(isCached ? { cached: { "sha256:00": free << 18 } } : {}),
    freeBytes: free << 20,
    memoryBytesPerSecond: speed * 1e9,
    provider,
    device,
    ready,
    pricePerHour: BigInt(price),
    ...(region === undefined ? {} : { region }),
    ...(isMeasured
      ? {
          layerTimes: { bytes: 1e6, oneMicros: 10 + speed, manyMicros: 30 + 2 * speed, manyRows: 8 },
          links: [{ to: `n${(index + 1) % 3}`, roundTripMicros: 100 * (1 + speed), bytesPerSecond: 1e8 }],
        }
      : {}),
  });

export const worldOf = (drawn: DrawnWorld): ReturnType<typeof aWorld> => {
  const { survive, edges, ceiling, regions, devices, allow, deny, zone, objective } = drawn;
  const model = aModel(
    {
      replicas: drawn.replicas,
      spares: drawn.spares,
      kvDtype: drawn.kvDtype,
      ...(drawn.slotsByPlanner ? { slotsByPlanner: true as const } : {}),
      ...(objective === undefined ? {} : { objective }),
    },
    {
      providersMin: drawn.providersMin,
      replacement: drawn.replacement,
      ...(allow === undefined ? {} : { providersAllow: allow }),
      ...(deny === undefined ? {} : { providersDeny: deny }),
      ...(zone === undefined ? {} : { nodeSelector: { zone } }),
      tensorParallelMax: drawn.tensorParallelMax,
      tensorParallelAcrossProviders: drawn.tensorParallelAcross,
      ...(drawn.tensorParallelAlways === undefined ? {} : { tensorParallelAlways: true as const }),
      providersMaxSharePercent: drawn.share,
      ...(survive === undefined || survive >= drawn.replicas ? {} : { surviveProviders: survive }),
      ...(edges === undefined ? {} : { edgeProviders: edges }),
      ...(ceiling === undefined || objective?.kind === "Latency" ? {} : { pricePerHourMax: BigInt(ceiling) }),
      ...(regions === undefined ? {} : { regions }),
      ...(devices === undefined ? {} : { devices }),
    },
  );
  return aWorld(drawn.nodes.map(nodeOf), model, {
    root: "sha256:00",
    config: aConfig({ layerCount: drawn.layerCount }),
  });
};
