/** The chart by itself: what helm says of it, and whether an API server takes all that it makes, in every shape. */
import { expect } from "chai";
import { parseAllDocuments } from "yaml";
import { CommandFailed, type ControlPlane, startControlPlane } from "../cluster/control-plane.ts";
import type { KubeObject } from "../cluster/kube-types.ts";
import { CHART, HOUSE_NAMESPACE } from "./house.ts";
import { definePodMonitors } from "./pod-monitors.ts";

describe("the chart", function () {
  this.timeout(1_500_000);
  let controlPlane: ControlPlane;
  before(async () => {
    controlPlane = await startControlPlane();
    await definePodMonitors(controlPlane);
    await controlPlane.kubectl(["create", "namespace", HOUSE_NAMESPACE]);
  });
  after(() => controlPlane?.stop());

  const template = (values: readonly string[], apis: readonly string[] = []) =>
    controlPlane.helm([
      ...["template", "tessellate", CHART, "-n", HOUSE_NAMESPACE, "--include-crds"],
      ...values.map((value) => `--set=${value}`),
      ...apis.map((api) => `--api-versions=${api}`),
    ]);
  const objectsIn = (text: string) =>
    parseAllDocuments(text).flatMap((document): readonly KubeObject[] => {
      const object = document.toJS() as KubeObject | null;
      return object === null ? [] : [object];
    });

  it("passes helm lint --strict", async () => {
    expect(await controlPlane.helm(["lint", "--strict", CHART])).to.contain("0 chart(s) failed");
  });

  const shapes: readonly {
    readonly values: readonly string[];
    readonly apis?: readonly string[];
    readonly count: number;
  }[] = [
    { values: [], count: 5 + 10 },
    { values: [], apis: ["monitoring.coreos.com/v1/PodMonitor"], count: 5 + 10 + 4 },
    {
      values: [
        ...["gateway.persistence.enabled=false", "gateway.replicas=3", "gateway.apiKeysSecret=keys"],
        ...["ledger.databaseSecret=database", "operator.replicas=2", "operator.watchNamespace=models"],
        `image.digest=sha256:${"0".repeat(64)}`,
      ],
      count: 5 + 10,
    },
  ];
  for (const { values, apis = [], count } of shapes) {
    it(`is taken by the API server with ${[...values, ...apis].join(", ") || "its own values"}`, async () => {
      const text = await template(values, apis);
      const taken = await controlPlane.kubectl(
        ["apply", "--dry-run=server", "--validate=strict", "-n", HOUSE_NAMESPACE, "-f", "-"],
        text,
      );
      const objects = objectsIn(text);
      expect(taken.trim().split("\n")).to.have.length(objects.length);
      expect(objects).to.have.length(count);
      expect(objects.filter(({ kind }) => kind === "CustomResourceDefinition")).to.have.length(5);
    });
  }

  it("refuses values that it does not know", async () => {
    const complaint = await template(["gatweay.replicas=2"]).then(
      () => "nothing",
      (error: unknown) => (error instanceof CommandFailed ? error.stderr : String(error)),
    );
    expect(complaint).to.contain("gatweay");
  });
});
