import { expect } from "chai";
import { present } from "../../../core/assert.ts";
import { FACTS, aConfig, aModel, aNode } from "../builders.ts";
import type { LayerTimes, NodeFacts } from "../types.ts";
import { assumedTraffic, costs } from "./costs.ts";
import { gatewayLink, linkBetween } from "./links.ts";
import { modelSizes } from "./sizes.ts";
import { ASSUMED_STEP_SECONDS, speedOf } from "./speed.ts";

const sizes = modelSizes(aModel(), FACTS);
const rank = present(sizes.ranks([1])[0], "one rank");
/** Measured with a layer of the very model: 1 ms at one row, 4 ms at 31. */
const TIMES: LayerTimes = { bytes: rank.layerBytes, oneMicros: 1000, manyMicros: 4000, manyRows: 31, stepMicros: 500 };
const measured = (name: string, set: Partial<NodeFacts> = {}): NodeFacts => aNode(name, { layerTimes: TIMES, ...set });
const quick = { roundTripMicros: 200, bytesPerSecond: 1e15 };
const close = (actual: number, wanted: number, what: string) =>
  expect(actual, what).to.be.closeTo(wanted, wanted / 1e6);

describe("cost", () => {
  describe("of a step", () => {
    const site = costs(aModel(), FACTS, [measured("a")]).site([measured("a")], [1]);
    const step = { layerCount: 1, rowCount: 1, positionCount: 0, sampleCount: 0 };
    const cases = [
      { name: "one row, as measured", step, wantMs: 0.5 + 1 },
      { name: "many rows, as measured", step: { ...step, rowCount: 31 }, wantMs: 0.5 + 4 },
      { name: "rows between the two, on a line", step: { ...step, rowCount: 11 }, wantMs: 0.5 + 2 },
      { name: "layers add up, the step itself does not", step: { ...step, layerCount: 4 }, wantMs: 0.5 + 4 },
    ];
    for (const { name, step: shape, wantMs } of cases)
      it(name, () => close(1000 * site.stepSeconds(shape), wantMs, name));

    it("a longer context costs what reading its KV does", () => {
      const longer = site.stepSeconds({ ...step, positionCount: rank.layerBytes / rank.kvBytesPerPosition });
      close(1000 * (longer - site.stepSeconds(step)), 0.9, "as much again as reading the weights");
    });
    it("the head costs by its bytes", () => {
      const head = site.stepSeconds({ ...step, sampleCount: 1 }) - site.stepSeconds(step);
      expect(1000 * head).to.be.closeTo(rank.headBytes / rank.layerBytes, 0.01);
    });
    it("a model twice as large in bytes takes twice as long a layer", () => {
      const int8 = costs(aModel({ quantization: "int8" }), FACTS, []).site([measured("a")], [1]);
      const ratio = present(modelSizes(aModel({ quantization: "int8" }), FACTS).ranks([1])[0], "one").layerBytes;
      close(1000 * int8.stepSeconds(step), 0.5 + ratio / rank.layerBytes, "in proportion");
    });
  });

  describe("of a tensor-parallel group", () => {
    const pair = (links: NodeFacts["links"]) => {
      const nodes = [measured("a", { links: links ?? [] }), measured("b")];
      return costs(aModel(), FACTS, nodes).site(nodes, [50, 50]);
    };
    const step = { layerCount: 2, rowCount: 1, positionCount: 0, sampleCount: 0 };
    it("ranks share the layers, and every layer is added up twice over the slowest link", () => {
      const half = present(sizes.ranks([50, 50])[0], "two ranks").layerBytes / rank.layerBytes;
      close(
        1000 * pair([{ to: "b", ...quick }]).stepSeconds(step),
        0.5 + 2 * half + 4 * 0.1,
        "two halves, four trips of 0.1 ms",
      );
    });
    it("a slow link makes a group slower than one node", () => {
      const slow = pair([{ to: "b", roundTripMicros: 20_000, bytesPerSecond: 1e9 }]);
      const alone = costs(aModel(), FACTS, []).site([measured("a")], [1]);
      expect(slow.stepSeconds(step)).to.be.above(alone.stepSeconds(step));
    });
    it("links that nobody measured are named", () => {
      expect(pair([]).estimated).to.deep.equal(["a+b: links of the group"]);
      expect(pair([{ to: "b", ...quick }]).estimated).to.deep.equal([]);
    });
  });

  describe("of a node", () => {
    const cases = [
      { name: "measured", node: measured("a"), wantMarks: [] },
      {
        name: "its memory's bandwidth",
        node: aNode("a", { memoryBytesPerSecond: 280e9 }),
        wantMarks: ["a: time per layer, from its memory's 280 GB/s"],
      },
      {
        name: "nothing known",
        node: aNode("a", { memoryBytesPerSecond: 0 }),
        wantMarks: ["a: time per layer, as of a desktop with 20 GB/s"],
      },
    ];
    for (const { name, node, wantMarks } of cases)
      it(`says what it assumes: ${name}`, () => expect(speedOf(node).estimated).to.deep.equal(wantMarks));

    it("is never faster with more rows than with one, whatever was measured", () => {
      const odd = (times: Partial<LayerTimes>) => speedOf(aNode("a", { layerTimes: { ...TIMES, ...times } }));
      expect(odd({ manyMicros: 10 }).rowSecondsPerByte).to.equal(0);
      expect(odd({ manyMicros: 1e6 }).secondsPerByte).to.equal(0);
      expect(odd({ manyRows: 1 }).rowSecondsPerByte).to.equal(0);
    });
    it("takes a usual time for a step where only layers were measured", () => {
      const { stepMicros: _, ...layers } = TIMES;
      expect(speedOf(aNode("a", { layerTimes: layers })).stepSeconds).to.equal(ASSUMED_STEP_SECONDS);
    });
  });

  describe("of a link", () => {
    const a = aNode("a", { region: "north", provider: "ann" });
    const cases = [
      {
        name: "measured, that way",
        from: { ...a, links: [{ to: "b", ...quick }] },
        to: aNode("b"),
        wantMs: 0.2,
        wantEstimated: false,
      },
      {
        name: "measured, the other way",
        from: a,
        to: aNode("b", { links: [{ to: "a", ...quick }] }),
        wantMs: 0.2,
        wantEstimated: false,
      },
      { name: "the same node", from: a, to: a, wantMs: 0.5, wantEstimated: false },
      {
        name: "one machine",
        from: { ...a, machine: "m" },
        to: aNode("b", { machine: "m", region: "south" }),
        wantMs: 0.5,
        wantEstimated: true,
      },
      {
        name: "one owner, one region",
        from: a,
        to: aNode("b", { provider: "ann", region: "north" }),
        wantMs: 0.7,
        wantEstimated: true,
      },
      { name: "two owners", from: a, to: aNode("b", { region: "north" }), wantMs: 5, wantEstimated: true },
      { name: "regions unknown", from: a, to: aNode("b"), wantMs: 5, wantEstimated: true },
      { name: "two regions", from: a, to: aNode("b", { region: "south" }), wantMs: 50, wantEstimated: true },
    ];
    for (const { name, from, to, wantMs, wantEstimated } of cases)
      it(name, () => {
        const { roundTripSeconds, isEstimated } = linkBetween(from, to);
        expect([1000 * roundTripSeconds, isEstimated]).to.deep.equal([wantMs, wantEstimated]);
      });

    it("to the gateway is one of the node's links, by that name", () => {
      expect(gatewayLink(aNode("a", { links: [{ to: "gateway", ...quick }] })).isEstimated).to.equal(false);
      expect(gatewayLink(aNode("a")).isEstimated).to.equal(true);
    });
    it("costs half a round trip and the bytes of its rows", () => {
      const link = costs(aModel({ handOffDtype: "f16" }), FACTS, []).link(
        aNode("a", { links: [{ to: "b", roundTripMicros: 1000, bytesPerSecond: 1e6 }] }),
        aNode("b"),
      );
      const rowBytes = aConfig().hiddenSize * 2 + 64;
      close(link.seconds, 0.0005 + rowBytes / 1e6, "one row");
      close(link.rowsSeconds(8), 0.0005 + (8 * rowBytes) / 1e6, "eight rows");
      close(link.tokensPerSecond, 1e6 / rowBytes, "rows a second");
    });
  });

  describe("of a site, by layers held", () => {
    const layerCount = FACTS.config.layerCount;
    const model = aModel({ slotCount: 8, contextLength: 1024 });
    const all = costs(model, FACTS, [measured("a"), measured("b")]);
    const site = all.site([measured("a")], [1]);
    it("says for each number of layers what a token takes", () => {
      const { secondsPerToken, last } = site.rates(layerCount);
      expect(secondsPerToken.length).to.equal(layerCount);
      secondsPerToken.forEach((seconds, index) =>
        close(seconds, site.tokenSeconds(index + 1, false), `${index + 1} layers`),
      );
      expect(last.secondsPerToken[0]).to.be.above(secondsPerToken[0] ?? Number.NaN);
    });
    it("serves the whole model at batches of every session", () => {
      const { promptTokens, generatedTokens, sessionCount } = assumedTraffic(model);
      const rows = sessionCount * (1 + promptTokens / generatedTokens);
      const seconds = site.stepSeconds({
        layerCount,
        rowCount: rows,
        positionCount: sessionCount * (promptTokens + generatedTokens / 2),
        sampleCount: sessionCount,
      });
      close(site.rates(layerCount).last.tokensPerSecond[layerCount - 1] ?? 0, rows / seconds, "rows of a step");
    });
    it("a node twice as slow has half the rate, less what larger batches win back", () => {
      const slower = { ...TIMES, oneMicros: 2000, manyMicros: 8000 };
      const [fast = 0] = site.rates(1).tokensPerSecond;
      const [slow = 0] = all.site([measured("b", { layerTimes: slower })], [1]).rates(1).tokensPerSecond;
      expect(fast / slow).to.be.within(1.2, 2);
    });
    it("nodes of one kind share their tables", () => {
      expect(all.site([measured("b")], [1]).rates(4)).to.equal(all.site([measured("a")], [1]).rates(4));
    });
  });

  it("reads only the experts that some row chose", () => {
    const config = aConfig();
    const experts = {
      count: 8,
      perToken: 2,
      size: 64,
      weights: "softmaxOfChosen" as const,
      routerBias: false,
      bias: false,
    };
    const mixture = { ...config, experts, layerKinds: config.layerKinds.map((kind) => ({ ...kind, experts: true })) };
    const [whole] = modelSizes(aModel(), { config: mixture }).ranks([1]);
    const { layerBytes, expertBytes } = present(whole, "one rank");
    const node = aNode("a", { layerTimes: { ...TIMES, bytes: layerBytes, manyMicros: 1000 } });
    const site = costs(aModel(), { config: mixture }, []).site([node], [1]);
    const rowsMs = (rowCount: number) =>
      1000 * site.stepSeconds({ layerCount: 1, rowCount, positionCount: 0, sampleCount: 0 }) - 0.5;
    close(rowsMs(1), 1 - (0.75 * expertBytes) / layerBytes, "a quarter of the experts");
    close(rowsMs(2), 1 - (0.75 ** 2 * expertBytes) / layerBytes, "a quarter, and a quarter of the rest");
  });
});
