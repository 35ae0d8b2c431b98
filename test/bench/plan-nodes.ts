/**
 * Worlds as an operator sees them, for measuring `plan` as a whole: no two nodes alike. Every node has speeds, memory,
 * price and links of its own, of twenty owners or so for each hundred nodes, in five regions.
 */
import { aModelConfig } from "../../core/model-config-fixture.ts";
import { aModel } from "../../operator/plan/builders.ts";
import { RUNTIME_BYTES } from "../../operator/plan/footprint.ts";
import { seededBy } from "../../operator/plan/seeded.ts";
import type { ModelFacts, NodeFacts, NodeLink, World } from "../../operator/plan/types.ts";

/** The form of a model of 405 billion weights: 126 layers of about 1.7 GB in 4 bits. */
const FACTS: ModelFacts = {
  root: "sha256:00",
  config: aModelConfig({
    layerCount: 126,
    hiddenSize: 16_384,
    headCount: 128,
    kvHeadCount: 8,
    headSize: 128,
    ffnSize: 53_248,
    vocabularySize: 128_256,
    maxPositions: 131_072,
  }),
};

const MODEL = aModel({
  name: "large",
  source: { path: "models/large" },
  contextLength: 4096,
  slotCount: 4,
  handOffDtype: "f16",
});

/** Links that each node has measured: to so many others, and to the gateway. */
const LINKS_PER_NODE = 12;
const REGIONS = ["asia", "europe", "north", "south", "west"] as const;

/** The same for the same counts. */
export function anUnlikeWorld(nodeCount: number, replicas: number): World & { readonly facts: ModelFacts } {
  const seeded = seededBy(`unlike ${nodeCount}`);
  const regions = Array.from({ length: nodeCount }, () => REGIONS[seeded.below(REGIONS.length)] ?? "asia");
  const nodes = regions.map((region, index): NodeFacts => {
    const gigabytes = [8, 12, 16, 24, 32, 48, 80][seeded.below(7)] ?? 8;
    const pace = 150e9 * (1 + 12 * seeded.unit() ** 2); // bytes of weights a second at one row
    const bytes = 1_700_000_000;
    const links = Array.from({ length: LINKS_PER_NODE }, (): NodeLink => {
      const other = seeded.below(nodeCount);
      const isNear = regions[other] === region;
      return {
        to: `n${other}`,
        roundTripMicros: Math.round((isNear ? 600 : 30_000) * (0.5 + 2 * seeded.unit())),
        bytesPerSecond: Math.round((isNear ? 1e9 : 2e7) * (0.3 + seeded.unit())),
      };
    });
    return {
      name: `n${index}`,
      provider: `p${seeded.below(Math.max(3, Math.ceil(nodeCount / 5)))}`,
      providerAdmitted: true,
      ready: true,
      labels: {},
      device: "cuda",
      freeBytes: RUNTIME_BYTES + Math.round(gigabytes * 1e9 * (0.8 + 0.2 * seeded.unit())),
      memoryBytesPerSecond: pace,
      threadCount: 8,
      signer: "unix:/run/s.sock",
      region,
      layerTimes: {
        bytes,
        oneMicros: Math.round((1e6 * bytes) / pace),
        manyMicros: Math.round(((1e6 * bytes) / pace) * (1.2 + seeded.unit())),
        manyRows: 32,
        stepMicros: 300 + seeded.below(2000),
      },
      links: [
        ...links,
        { to: "gateway", roundTripMicros: 1000 + seeded.below(40_000), bytesPerSecond: 1e7 * (1 + 50 * seeded.unit()) },
      ],
      pricePerHour: BigInt(100_000 + seeded.below(2_000_000)),
      reliability: 0.9 + 0.1 * seeded.unit(),
    };
  });
  return { model: { ...MODEL, replicas }, facts: FACTS, nodes, ranks: [], previous: undefined, probes: [] };
}
