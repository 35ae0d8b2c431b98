/** The chart's fence is the operator's: the same policy, and the same rights, word for word. */
import { expect } from "chai";
import { fencePolicy, fenceRights } from "../../operator/kube/fence.ts";
import { NAMESPACE, type Rendered, only, render } from "./helm.ts";

const OPTIONS = {
  namespace: NAMESPACE,
  lease: "tessellate-operator",
  user: `system:serviceaccount:${NAMESPACE}:tessellate-operator`,
};

describe("the chart's fence", function () {
  this.timeout(60_000);
  let objects: readonly Rendered[];
  before(async () => {
    objects = await render();
  });

  it("is the policy that operator/kube/fence.ts asks for", () => {
    for (const { kind = "", metadata, spec } of fencePolicy(OPTIONS))
      expect(only(objects, kind, metadata.name).spec, kind).to.deep.equal(spec);
  });

  it("comes with the rights that go with it", () => {
    for (const { kind = "", rules } of fenceRights(OPTIONS)) {
      if (!Array.isArray(rules)) continue;
      expect(only(objects, kind, "tessellate-operator").rules, kind).to.deep.include.members(rules);
    }
  });

  it("is what the operator is started with", () => {
    const [container] = only(objects, "Deployment", "tessellate-operator").spec.template.spec.containers;
    expect(container.args).to.include(`--fence-as=${OPTIONS.user}`);
  });
});
