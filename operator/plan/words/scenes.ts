/** Plans for tests of words: one that shows everything a picture can show, and random ones. */
import fc from "fast-check";
import { aConfig, aModel, aNode, aWorld } from "../builders.ts";
import type { Assignment, ModelSpec, NodeFacts, NodeLink, Placement } from "../types.ts";

const MEASURED = { bytes: 30e6, oneMicros: 700, manyMicros: 2000, manyRows: 16 };
const BIG = { root: `sha256:${"ab".repeat(32)}`, config: aConfig({ layerCount: 36, hiddenSize: 2048, ffnSize: 8192 }) };

export const linkTo = (to: string, milliseconds: number): NodeLink => ({
  to,
  roundTripMicros: milliseconds * 1000,
  bytesPerSecond: 125e6,
});
export const measured = (name: string, set: Partial<NodeFacts> = {}): NodeFacts =>
  aNode(name, { provider: name.split("-")[0] ?? name, layerTimes: MEASURED, ...set });

/** `chain.segment node layers` of a rank; its provider is the node's name up to the dash. */
export function rank(
  [chain, segment]: readonly [number, number],
  node: string,
  [start, end]: readonly [number, number],
  [rankIndex, ...sliceWeights]: readonly number[] = [0, 1],
): Assignment {
  return {
    chain,
    segment,
    rank: rankIndex ?? 0,
    node,
    provider: node.split("-")[0] ?? node,
    layers: { start, end },
    sliceWeights,
    weightBytes: (end - start) * 30e6,
    kvBytes: (end - start) * 4e6,
  };
}

/** Two chains that cross in a tensor-parallel group, a spare, a bottleneck, times measured and not, two nodes left out. */
export function assistant() {
  const nodes = [
    measured("campus-a1", { links: [linkTo("garage-3", 18), linkTo("studio-x1", 9)] }),
    measured("campus-a2", { links: [linkTo("studio-y1", 12)] }),
    measured("garage-3", { layerTimes: { ...MEASURED, oneMicros: 1500 }, links: [linkTo("studio-x1", 21)] }),
    measured("studio-x1"),
    measured("studio-x2"),
    aNode("studio-y1", { provider: "studio" }),
    measured("attic-1"),
    measured("attic-2", { ready: false }),
    measured("cellar-1"),
  ];
  const model = aModel({
    name: "assistant",
    replicas: 2,
    spares: 1,
    source: { huggingFace: { repo: "Qwen/Qwen3-8B", revision: "main" } },
  });
  const placement: Placement = {
    assignments: [
      rank([0, 0], "campus-a1", [0, 12]),
      rank([0, 1], "garage-3", [12, 20]),
      rank([0, 2], "studio-x1", [20, 36], [0, 60, 40]),
      rank([0, 2], "studio-x2", [20, 36], [1, 60, 40]),
      rank([1, 0], "campus-a2", [0, 12]),
      rank([1, 1], "studio-y1", [12, 20]),
      rank([256, 0], "cellar-1", [12, 20]),
    ],
    routes: [
      { chain: 0, segments: places([0, 0], [0, 1], [0, 2]), tokensPerSecond: 30.1, millisecondsPerToken: 43 },
      { chain: 1, segments: places([1, 0], [1, 1], [0, 2]), tokensPerSecond: 31.2, millisecondsPerToken: 41 },
    ],
    leftOut: [
      { node: "attic-1", code: "Slows", why: "would slow chain 0 by 9 % (link 140 ms)" },
      { node: "attic-2", code: "NodeNotReady", why: "the node does not answer" },
    ],
    estimate: {
      millisecondsPerToken: 43,
      tokensPerSecond: 61.3,
      pricePerHour: 420_000n,
      bottleneck: "garage-3",
      isEstimated: true,
    },
  };
  return { world: aWorld(nodes, model, BIG), placement };
}

const places = (...pairs: readonly (readonly [number, number])[]) =>
  pairs.map(([chain, segment]) => ({ chain, segment }));

export type SceneOptions = { readonly nodeCountMax: number; readonly freeMax: number };

/** Worlds of all kinds: names of unlike lengths, groups, several chains, measured or not, ready or not. */
export const someWorld = ({ nodeCountMax, freeMax }: SceneOptions) =>
  fc
    .record({
      nodes: fc.array(
        fc.record({
          stem: fc.constantFrom("a", "gpu-box", "rack-17-shelf-03-left", "n"),
          free: fc.integer({ min: 0, max: freeMax }),
          speed: fc.integer({ min: 0, max: 100 }),
          provider: fc.integer({ min: 0, max: 11 }),
          ready: fc.boolean(),
          isMeasured: fc.boolean(),
        }),
        { minLength: 1, maxLength: nodeCountMax },
      ),
      layerCount: fc.integer({ min: 1, max: 80 }),
      model: fc.record<Partial<ModelSpec>>({
        replicas: fc.integer({ min: 1, max: 3 }),
        quantization: fc.constantFrom("f32", "f16", "int8", "int4"),
        contextLength: fc.constantFrom(256, 1000, 4096),
      }),
      providersMin: fc.integer({ min: 1, max: 3 }),
      share: fc.constantFrom(30, 50, 100, 100),
      tensorParallelMax: fc.constantFrom(1, 1, 2, 4),
    })
    .map(({ nodes, layerCount, model, providersMin, share, tensorParallelMax }) =>
      aWorld(
        nodes.map(({ stem, free, speed, provider, ready, isMeasured }, index) =>
          aNode(`${stem}-${index}`, {
            freeBytes: free << 20,
            memoryBytesPerSecond: speed * 1e9,
            provider: `owner-${provider}`,
            ready,
            ...(isMeasured ? { layerTimes: MEASURED } : {}),
          }),
        ),
        aModel(model, { providersMin, tensorParallelMax, providersMaxSharePercent: share }),
        { root: `sha256:${"00".repeat(32)}`, config: aConfig({ layerCount }) },
      ),
    );

/** Placements of any shape, whether or not a planner would choose them: groups, crossing chains, spares, nodes left out. */
export const somePlacement = fc
  .record({
    stems: fc.array(fc.constantFrom("a", "gpu-box", "rack-17-shelf-03-left", "n"), { minLength: 60, maxLength: 60 }),
    layerCount: fc.integer({ min: 1, max: 126 }),
    cuts: fc.uniqueArray(fc.integer({ min: 1, max: 125 }), { maxLength: 40 }),
    degrees: fc.array(fc.constantFrom(1, 1, 1, 2, 4, 8), { minLength: 60, maxLength: 60 }),
    chainCount: fc.integer({ min: 1, max: 3 }),
    crossings: fc.array(fc.integer({ min: 0, max: 5 }), { minLength: 200, maxLength: 200 }),
    isMeasured: fc.array(fc.boolean(), { minLength: 60, maxLength: 60 }),
    bottleneck: fc.integer({ min: 0, max: 100 }),
    leftOutCount: fc.integer({ min: 0, max: 6 }),
    isRouted: fc.boolean(),
  })
  .map((drawn) => {
    const nodes: NodeFacts[] = [];
    const assignments: Assignment[] = [];
    const next = (): NodeFacts => {
      const index = nodes.length;
      const set = { provider: `owner-${(index * 7) % 11}`, memoryBytesPerSecond: (1 + (index % 40)) * 1e9 };
      const name = `${drawn.stems[index % 60] ?? "n"}-${index}`;
      const node = drawn.isMeasured[index % 60] === true ? measured(name, set) : aNode(name, set);
      nodes.push(node);
      return node;
    };
    const hold = (chain: number, segment: number, [start, end]: readonly [number, number], degree: number) => {
      const weights = Array.from({ length: degree }, (_, index) => 10 + ((index * 3) % 7));
      for (const index of weights.keys()) {
        const { name, provider } = next();
        assignments.push({ ...rank([chain, segment], name, [start, end], [index, ...weights]), provider });
      }
    };
    const edges = [0, ...drawn.cuts.filter((cut) => cut < drawn.layerCount).sort((a, b) => a - b), drawn.layerCount];
    const routes = Array.from({ length: drawn.chainCount }, (_, chain) => ({
      chain,
      segments: edges.slice(1).map((end, segment) => {
        const home = drawn.isRouted && chain > 0 && drawn.crossings[chain * 41 + segment] === 0 ? 0 : chain;
        const range = [edges[segment] ?? 0, end] as const;
        if (home === chain) hold(chain, segment, range, drawn.degrees[(chain * 41 + segment) % 60] ?? 1);
        return { chain: home, segment };
      }),
      tokensPerSecond: 10 + chain,
      millisecondsPerToken: 40 + chain,
    }));
    if (drawn.isRouted) hold(256, 0, [0, edges[1] ?? 1], 1);
    const leftOut = Array.from({ length: drawn.leftOutCount }, (_, index) => ({
      node: next().name,
      code: "NotNeeded",
      why: index % 2 === 0 ? "no layer would be done sooner here" : `would slow chain 0 by ${index} %`,
    }));
    const bottleneck = assignments[drawn.bottleneck % assignments.length]?.node ?? "";
    const placement: Placement = {
      assignments,
      leftOut,
      ...(drawn.isRouted ? { routes } : {}),
      estimate: { millisecondsPerToken: 42, tokensPerSecond: 61, bottleneck },
    };
    const facts = {
      root: `sha256:${"00".repeat(32)}`,
      config: aConfig({ layerCount: drawn.layerCount, headCount: 8 }),
    };
    return { world: aWorld(nodes, aModel({ replicas: drawn.chainCount }), facts), placement };
  });
