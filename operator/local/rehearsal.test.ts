import { expect } from "chai";
import { RefusalError } from "../../core/result.ts";
import { rehearsalOf } from "./rehearsal.ts";

const node = (annotations?: Readonly<Record<string, string>>) => ({
  apiVersion: "tessellate.dev/v1alpha1" as const,
  kind: "ShardNode" as const,
  metadata: { name: "a", ...(annotations === undefined ? {} : { annotations }) },
  spec: {
    provider: "p",
    device: "cpu" as const,
    memory: { freeBytes: "1Gi" },
    memoryBytesPerSecond: 0,
    threads: 1,
    signer: { target: "unix:/s.sock" },
    cache: { sizeBytes: 0 },
  },
});

describe("rehearsal of a node", () => {
  it("plays nobody without annotations, or with others", () => {
    expect(rehearsalOf(node())).to.equal(undefined);
    expect(rehearsalOf(node({ "example.com/owner": "x" }))).to.equal(undefined);
  });
  it("plays what it is asked to, and nothing holds up what it is not", () => {
    const told = node({
      "rehearsal.tessellate.dev/bytes-per-second": "800M",
      "rehearsal.tessellate.dev/send-delay-ms": "12",
    });
    expect(rehearsalOf(told)).to.deep.equal({ bytesPerSecond: 8e8, rowBytesPerSecond: 1e18, sendDelayMs: 12 });
  });
  for (const [name, value] of [
    ["bytes-per-second", "fast"],
    ["row-bytes-per-second", "0"],
    ["send-delay-ms", "1.5"],
    ["send-delay-ms", "-1"],
  ] as const)
    it(`refuses ${name} ${value}, naming node and annotation`, () =>
      expect(() => rehearsalOf(node({ [`rehearsal.tessellate.dev/${name}`]: value })))
        .to.throw(RefusalError)
        .with.property("message")
        .that.contains(`ShardNode a: annotation rehearsal.tessellate.dev/${name} is "${value}"`));
});
