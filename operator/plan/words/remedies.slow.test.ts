import { expect } from "chai";
import fc from "fast-check";
import { aConfig, aModel, aNode, aWorld } from "../builders.ts";
import { place } from "../place.ts";
import type { Change } from "./change.ts";
import { changed } from "./change.ts";
import { parseChange } from "./parse-change.ts";
import { refusalWords, remedies, shortageOf } from "./remedies.ts";
import { someWorld } from "./scenes.ts";

const GIB = 2 ** 30;
/** 24 layers of 278 MiB at int8 with 4,096 positions of KV for two slots, 1.5 GiB of embedding and head. */
const FACTS = {
  root: "sha256:00",
  config: aConfig({
    layerCount: 24,
    hiddenSize: 4096,
    headCount: 32,
    kvHeadCount: 8,
    headSize: 128,
    ffnSize: 14336,
    vocabularySize: 128000,
  }),
};
const NODES = [
  aNode("a", { provider: "campus", freeBytes: 3 * GIB }),
  aNode("b", { provider: "garage", freeBytes: 2.5 * GIB }),
  aNode("c", { provider: "studio", freeBytes: 1.8 * GIB }),
];
const model = (...[set, placement]: Parameters<typeof aModel>) =>
  aModel({ quantization: "int8", contextLength: 4096, ...set }, placement);
const QUICK = { evaluationCount: 30 };
const EFFORT = { plan: (world: Parameters<typeof place>[0]) => place(world, QUICK) };
type World = ReturnType<typeof aWorld>;

describe("remedies", () => {
  const cases: readonly (readonly [string, World, readonly RegExp[]])[] = [
    [
      "too little memory",
      aWorld(NODES, model(), FACTS),
      [
        /more free on /,
        /^add a node with ≥ [\d.]+ GiB free of any provider$/,
        /^quantization int4$/,
        /^contextLength \d+$/,
      ],
    ],
    [
      "one provider's loss would end all chains",
      aWorld([aNode("a", { freeBytes: 20 * GIB })], model({ replicas: 2 }, { surviveProviders: 1 }), FACTS),
      [/^placement\.surviveProviders 0$/, /^add a node with .* free of a new provider$/],
    ],
    [
      "it costs more than it may",
      aWorld(
        [aNode("a", { freeBytes: 20 * GIB, pricePerHour: 500_000n })],
        model({}, { pricePerHourMax: 400_000n }),
        FACTS,
      ),
      [/^at most 0\.532 credits an hour$/],
    ],
    [
      "too few providers",
      aWorld(NODES, model({ quantization: "int4" }, { providersMin: 4 }), FACTS),
      [/^add a node with .* free of a new provider$/, /^placement\.providers\.min 3$/],
    ],
    [
      "too small a share",
      aWorld(NODES, model({ quantization: "int4" }, { providersMaxSharePercent: 20 }), FACTS),
      [/^placement\.providers\.maxShare \d+%$/],
    ],
    [
      "the only large provider is denied",
      aWorld(
        [...NODES, aNode("d", { provider: "big", freeBytes: 40 * GIB })],
        model({}, { providersDeny: ["big"] }),
        FACTS,
      ),
      [/more free on /, /^add a node with .* of campus, garage, studio or a new provider$/],
    ],
    ["nobody is there", aWorld([], model(), FACTS), [/^add a node with ≥ [\d.]+ GiB free of any provider$/]],
    [
      "the only node does not answer",
      aWorld([aNode("a", { freeBytes: 20 * GIB, ready: false })], model(), FACTS),
      [/^a answering again$/, /^add a node/],
    ],
    [
      "its provider has no key",
      aWorld([aNode("a", { provider: "p", freeBytes: 20 * GIB, providerAdmitted: false })], model(), FACTS),
      [/^admit provider p/, /^add a node/],
    ],
    [
      "only several changes together are enough",
      aWorld([aNode("a", { freeBytes: GIB })], model({ replicas: 3 }, { providersMin: 3 }), FACTS),
      [/ together$/],
    ],
  ];
  for (const [name, world, wanted] of cases)
    it(`are found where ${name}`, () => {
      const found = remedies(world, EFFORT);
      for (const pattern of wanted)
        expect(found.map(({ words }) => words).filter((words) => pattern.test(words))).to.have.length(1);
    });

  it("are none where all fits", () => {
    expect(remedies(aWorld([aNode("a", { freeBytes: 40 * GIB })], model(), FACTS))).to.deep.equal([]);
  });

  it("are said with what is short, of which layers", () => {
    const world = aWorld(NODES, model(), FACTS);
    const placed = place(world);
    expect(shortageOf(world)?.layers).to.deep.equal({ start: 19, end: 24 });
    if (placed.ok) throw new Error("this world has no room");
    expect(refusalWords(world, placed)).to.match(
      /^1\.36 GiB short on layers 19–24: add a node with ≥ .*, .* more free on .* or .*\. 24 layers of 278\.5 MiB each/,
    );
    expect(refusalWords(world, placed, { planCountMax: 0 })).to.equal(placed.detail);
    expect(refusalWords(world, placed, { ...EFFORT, planCountMax: 1 })).to.include("no single change that was tried");
  });

  it("work when they are applied, also as --what-if repeats them; smallest first, within the effort allowed", () => {
    let refusedCount = 0;
    fc.assert(
      fc.property(someWorld({ nodeCountMax: 6, freeMax: 260 }), (world) => {
        if (place(world, QUICK).ok) return;
        refusedCount += 1;
        let planCount = 0;
        const found = remedies(world, {
          planCountMax: 24,
          plan: (any) => {
            planCount += 1;
            return place(any, QUICK);
          },
        });
        expect(planCount).to.be.at.most(24);
        expect(found.map(({ size }) => size)).to.deep.equal(found.map(({ size }) => size).sort((a, b) => a - b));
        for (const { changes, options, words, placement } of found) {
          expect(place(changed(world, changes), QUICK)).to.deep.equal({ ok: true, value: placement });
          const parsed = options.map((option) => parseChange(world, option));
          const again = parsed.flatMap((change): readonly Change[] => (change.ok ? [change.value] : []));
          expect(again.length, options.join(" ")).to.equal(changes.length);
          expect(place(changed(world, again), QUICK).ok, words).to.equal(true);
        }
      }),
      { numRuns: 25 },
    );
    expect(refusedCount).to.be.above(4);
  });
});
