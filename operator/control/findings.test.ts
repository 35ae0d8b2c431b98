import { expect } from "chai";
import type { ShardNode, ShardNodeStatus } from "../../core/gen/crds/shardnode.ts";
import type { Measured__Output } from "../../core/gen/proto/tessellate/agent/v1/Measured.ts";
import { findingsOf, isNews, withBefore } from "./findings.ts";

const CPU = { kind: "cpu", name: "a processor", memoryBytes: "17179869184", freeBytes: "0" };
const link = (to: string, roundTripMicros: number, bytesPerSecond = "125000000") => ({
  to,
  roundTripMicros,
  bytesPerSecond,
});
const measured = (set: Partial<Measured__Output> = {}): Measured__Output => ({
  time: "2026-01-01T00:00:00.123Z",
  memoryBytesPerSecond: "28000000000",
  layerTimes: { bytes: "20000000", oneMicros: 800, manyMicros: 9000, manyRows: 64 },
  links: [link("b", 400), link("a", 300)],
  ...set,
});
const reportOf = (found: Measured__Output | null, offer = "signed") =>
  findingsOf({ name: "n", offer: Buffer.from(offer), code: "", detail: "", measured: found }, [CPU]);
const nodeWith = (status: ShardNodeStatus) => ({ metadata: { name: "n" }, status }) as unknown as ShardNode;

describe("what an agent found", () => {
  const first = reportOf(measured());

  it("stands in the status in the schema's form", () => {
    expect(first).to.deep.equal({
      offer: "signed",
      devices: [{ kind: "cpu", name: "a processor", memoryBytes: 17_179_869_184 }],
      measured: {
        time: "2026-01-01T00:00:00Z",
        memoryBytesPerSecond: 28e9,
        layerTimes: { bytes: 20e6, oneMicros: 800, manyMicros: 9000, manyRows: 64 },
        links: [
          { to: "a", roundTripMicros: 300, bytesPerSecond: 125e6 },
          { to: "b", roundTripMicros: 400, bytesPerSecond: 125e6 },
        ],
      },
    });
  });

  const cases: readonly (readonly [string, ShardNodeStatus, ReturnType<typeof reportOf>, boolean])[] = [
    ["is news where nothing is known", {}, first, true],
    ["is none where it is known", first, first, false],
    ["is news with a new offer", first, reportOf(measured(), "anew"), true],
    [
      "is none within what measuring varies by",
      first,
      reportOf(measured({ links: [link("a", 330), link("b", 420)] })),
      false,
    ],
    ["is news beyond", first, reportOf(measured({ memoryBytesPerSecond: "20000000000" })), true],
    [
      "is news with another link",
      first,
      reportOf(measured({ links: [link("a", 300), link("b", 400), link("c", 1)] })),
      true,
    ],
    ["is news where it is much younger", first, reportOf(measured({ time: "2026-01-08T00:00:00Z" })), true],
    ["is none where it is a little younger", first, reportOf(measured({ time: "2026-01-01T06:00:00Z" })), false],
    ["is none where nothing was measured", first, reportOf(null), false],
  ];
  for (const [what, status, found, news] of cases)
    it(what, () => expect(isNews(nodeWith(status), found)).to.equal(news));

  it("keeps what was known where an agent starts anew, less the ways to nodes that are gone", () => {
    const started = reportOf(measured({ layerTimes: null, links: [link("a", 310)] }));
    const both = withBefore(started, nodeWith(first), new Set(["a", "b"]));
    expect(both.measured?.layerTimes).to.deep.equal(first.measured?.layerTimes);
    expect(both.measured?.links?.map(({ to, roundTripMicros }) => [to, roundTripMicros])).to.deep.equal([
      ["a", 310],
      ["b", 400],
    ]);
    expect(isNews(nodeWith(first), both)).to.equal(false);
    expect(withBefore(started, nodeWith(first), new Set(["a"])).measured?.links?.map(({ to }) => to)).to.deep.equal([
      "a",
    ]);
  });
});
