/** Random worlds for properties of planning: small, with every kind of constraint now and then. */
import fc from "fast-check";
import { aConfig, aModel, aNode, aWorld } from "./builders.ts";
import type { NodeFacts } from "./types.ts";

const PROVIDERS = ["w", "x", "y", "z"] as const;
const seldom = <T>(value: fc.Arbitrary<T>) =>
  fc.oneof({ arbitrary: fc.constant(undefined), weight: 4 }, { arbitrary: value, weight: 1 });

export const someNode = fc.record({
  free: fc.integer({ min: 140, max: 420 }),
  speed: fc.integer({ min: 0, max: 100 }),
  provider: fc.constantFrom(...PROVIDERS),
  device: fc.constantFrom("cpu", "cpu", "cuda"),
  region: fc.constantFrom(undefined, "north", "south"),
  price: fc.integer({ min: 0, max: 9 }),
  ready: fc.integer({ min: 0, max: 9 }).map((drawn) => drawn > 0),
  isMeasured: fc.boolean(),
});

export const someWorld = fc.record({
  nodes: fc.array(someNode, { minLength: 1, maxLength: 6, size: "max" }),
  layerCount: fc.integer({ min: 1, max: 24 }),
  replicas: fc.integer({ min: 1, max: 3 }),
  providersMin: fc.constantFrom(1, 1, 1, 2, 3),
  share: fc.integer({ min: 40, max: 300 }).map((drawn) => Math.min(100, drawn)),
  tensorParallelMax: fc.constantFrom(1, 1, 2, 3),
  survive: seldom(fc.constantFrom(1)),
  edges: seldom(fc.subarray([...PROVIDERS], { minLength: 1 })),
  ceiling: seldom(fc.integer({ min: 1, max: 30 })),
  regions: seldom(fc.constantFrom(["north"], ["north", "south"])),
  devices: seldom(fc.constantFrom(["cpu"], ["cuda"])),
  spares: fc.constantFrom(0, 0, 1, 2),
});

export type DrawnWorld = typeof someWorld extends fc.Arbitrary<infer Drawn> ? Drawn : never;
type DrawnNode = DrawnWorld["nodes"][number];

export const nodeOf = (
  { free, speed, provider, device, region, price, ready, isMeasured }: DrawnNode,
  index: number,
): NodeFacts =>
  aNode(`n${index}`, {
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
  const { survive, edges, ceiling, regions, devices } = drawn;
  const model = aModel(
    { replicas: drawn.replicas, spares: drawn.spares },
    {
      providersMin: drawn.providersMin,
      tensorParallelMax: drawn.tensorParallelMax,
      providersMaxSharePercent: drawn.share,
      ...(survive === undefined || survive >= drawn.replicas ? {} : { surviveProviders: survive }),
      ...(edges === undefined ? {} : { edgeProviders: edges }),
      ...(ceiling === undefined ? {} : { pricePerHourMax: BigInt(ceiling) }),
      ...(regions === undefined ? {} : { regions }),
      ...(devices === undefined ? {} : { devices }),
    },
  );
  return aWorld(drawn.nodes.map(nodeOf), model, {
    root: "sha256:00",
    config: aConfig({ layerCount: drawn.layerCount }),
  });
};
