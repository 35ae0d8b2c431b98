import { expect } from "chai";
import type { KubeObject } from "../kube/objects.ts";
import { comesUpWithOthers } from "./coming-up.ts";
import { CHAIN_LABEL } from "./labels.ts";

type Looks = "starts" | "ready" | "failed" | "leaves";

const pod = (name: string, looks: Looks, chain = 0): KubeObject => ({
  metadata: {
    name,
    labels: { [CHAIN_LABEL]: String(chain) },
    ...(looks === "leaves" ? { deletionTimestamp: "2026-01-01T00:00:00Z" } : {}),
  },
  status: {
    phase: looks === "failed" ? "Failed" : "Running",
    conditions: [{ type: "Ready", status: looks === "ready" ? "True" : "False" }],
  },
});
/** Of one segment with so many ranks in each chain. */
const planOf = (...counts: readonly number[]): KubeObject => ({
  metadata: { name: "tiny" },
  spec: {
    chains: counts.map((count, index) => ({
      index,
      segments: [{ layers: { start: 0, end: 4 }, ranks: Array.from({ length: count }, () => ({})) }],
    })),
  },
});

describe("what a rank's pod has become, and whether that may wait for others of its chain", () => {
  const becomes = (before: Looks, now: Looks, others: readonly KubeObject[], plan: KubeObject | undefined) => {
    const object = pod("a", now);
    return comesUpWithOthers({ type: "changed", object, before: pod("a", before) }, plan, [object, ...others]);
  };
  const CASES = [
    {
      name: "ready before another",
      waits: true,
      found: () => becomes("starts", "ready", [pod("b", "starts")], planOf(2)),
    },
    { name: "ready before another is there", waits: true, found: () => becomes("starts", "ready", [], planOf(2)) },
    {
      name: "ready as the last",
      waits: false,
      found: () => becomes("starts", "ready", [pod("b", "ready")], planOf(2)),
    },
    {
      name: "ready, while only another chain starts",
      waits: false,
      found: () => becomes("starts", "ready", [pod("b", "starts", 1)], planOf(1, 1)),
    },
    {
      name: "ready, while only another chain is",
      waits: true,
      found: () => becomes("starts", "ready", [pod("b", "ready", 1)], planOf(2, 1)),
    },
    {
      name: "ready, of a plan that nobody knows yet",
      waits: false,
      found: () => becomes("starts", "ready", [], undefined),
    },
    { name: "another version while it is ready", waits: false, found: () => becomes("ready", "ready", [], planOf(2)) },
    { name: "ready no more", waits: false, found: () => becomes("ready", "starts", [], planOf(2)) },
    { name: "further on its way", waits: false, found: () => becomes("starts", "starts", [], planOf(2)) },
    { name: "ended", waits: false, found: () => becomes("starts", "failed", [], planOf(2)) },
    { name: "deleted", waits: false, found: () => becomes("ready", "leaves", [], planOf(2)) },
  ];
  for (const { name, waits, found } of CASES)
    it(`${name}: ${waits ? "it may" : "it may not"}`, () => expect(found()).to.equal(waits));

  it("there for the first time: it may while it starts, and not where it has failed", () => {
    const found = (looks: Looks) =>
      comesUpWithOthers({ type: "added", object: pod("a", looks) }, planOf(1), [pod("a", looks)]);
    expect([found("starts"), found("ready"), found("failed"), found("leaves")]).to.deep.equal([
      true,
      false,
      false,
      false,
    ]);
  });
});
