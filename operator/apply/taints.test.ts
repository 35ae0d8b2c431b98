/** What a machine's taints mean for the ranks of a model. */
import { expect } from "chai";
import type { KubeObject } from "../kube/objects.ts";
import { aModel, aNode } from "../plan/builders.ts";
import { tolerationsOf, underTaints } from "./taints.ts";

const machine = (...taints: object[]): KubeObject =>
  ({ metadata: { name: "a" }, spec: { taints } }) as unknown as KubeObject;
const model = (...tolerations: object[]) => aModel({ placement: { ...aModel().placement, tolerations } });
const own = { key: "dedicated", value: "others", effect: "NoExecute" };

describe("taints of a machine", () => {
  for (const [what, taint, tolerations, leaving] of [
    ["none", undefined, [], undefined],
    ["NoExecute", own, [], "Drained"],
    ["NoSchedule", { ...own, effect: "NoSchedule" }, [], "Cordoned"],
    ["PreferNoSchedule", { ...own, effect: "PreferNoSchedule" }, [], undefined],
    ["one for shards", { key: "tessellate.dev/shards", effect: "NoExecute" }, [], undefined],
    ["one that does not answer", { key: "node.kubernetes.io/unreachable", effect: "NoExecute" }, [], undefined],
    ["tolerated by value", own, [{ key: "dedicated", value: "others" }], undefined],
    ["of another value", own, [{ key: "dedicated", operator: "Equal", value: "us" }], "Drained"],
    ["tolerated whatever its value", own, [{ key: "dedicated", operator: "Exists", effect: "NoExecute" }], undefined],
    ["tolerated in another effect", own, [{ key: "dedicated", operator: "Exists", effect: "NoSchedule" }], "Drained"],
    ["tolerated for a while", own, [{ key: "dedicated", operator: "Exists", tolerationSeconds: 60 }], "Drained"],
    ["tolerated with all others", own, [{ operator: "Exists" }], undefined],
  ] as const)
    it(`${what}: ${leaving ?? "as it was"}`, () => {
      const found = underTaints(aNode("a"), machine(...(taint === undefined ? [] : [taint])), model(...tolerations));
      expect(found.leaving).to.equal(leaving);
      expect(found.ready).to.equal(leaving === undefined);
      if (taint !== undefined && leaving !== undefined)
        expect(found.leavingWhy).to.contain(`dedicated=others:${taint.effect}`);
    });

  it("the worst counts", () => {
    const found = underTaints(aNode("a"), machine({ ...own, effect: "NoSchedule" }, own), model());
    expect(found.leaving).to.equal("Drained");
  });

  it("ranks stay for as long as loading and draining may take, and where a model says so for good", () => {
    const all = tolerationsOf(model({ key: "dedicated", operator: "Exists" }), aNode("a"));
    expect(all.at(-1)).to.deep.equal({ operator: "Exists", effect: "NoExecute", tolerationSeconds: 600 });
    expect(all.findIndex((each) => "key" in each && each.key === "dedicated")).to.be.lessThan(all.length - 1);
  });
});
