/**
 * The example's HorizontalPodAutoscaler, carried out by Kubernetes' own controller. The metric that an adapter would serve
 * is an object here: a CustomResourceDefinition whose list has the form of an external metric's values.
 */
import { expect } from "chai";
import { until } from "../until.ts";
import { type ControlPlane, startControlPlane } from "./control-plane.ts";

const METRICS = "external.metrics.k8s.io";
const SETTLED = { stabilizationWindowSeconds: 0, policies: [{ type: "Pods", value: 1, periodSeconds: 1 }] };

const metricDefinition = {
  apiVersion: "apiextensions.k8s.io/v1",
  kind: "CustomResourceDefinition",
  metadata: {
    name: `demand-chains.${METRICS}`,
    annotations: { "api-approved.kubernetes.io": "unapproved, for a test" },
  },
  spec: {
    group: METRICS,
    scope: "Namespaced",
    names: {
      plural: "demand-chains",
      singular: "demand-chains",
      kind: "ExternalMetricValue",
      listKind: "ExternalMetricValueList",
    },
    versions: [
      {
        name: "v1beta1",
        served: true,
        storage: true,
        schema: { openAPIV3Schema: { type: "object", "x-kubernetes-preserve-unknown-fields": true } },
      },
    ],
  },
};

describe("a ShardedModel and Kubernetes' autoscaler", function () {
  this.timeout(180_000);
  let controlPlane: ControlPlane;
  const kubectl = (...args: string[]) => controlPlane.kubectl(args);
  const apply = (object: object) => controlPlane.kubectl(["apply", "-f", "-"], JSON.stringify(object));
  const demandOf = (chains: string) =>
    apply({
      apiVersion: `${METRICS}/v1beta1`,
      kind: "ExternalMetricValue",
      metadata: { name: "demo", namespace: "default", labels: { model_namespace: "default", model_name: "demo" } },
      metricName: "demand-chains",
      metricLabels: {},
      timestamp: new Date().toISOString(),
      value: chains,
    });
  const replicas = async () => Number(await kubectl("get", "sm", "demo", "-o", "jsonpath={.spec.replicas}"));

  before(async () => {
    controlPlane = await startControlPlane({
      controllerManagerArgs: ["--horizontal-pod-autoscaler-sync-period=1s"],
    });
    await kubectl("apply", "-f", "crds/", "-f", "examples/demo/model.yaml").catch(() => ""); // the model comes too early
    await kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s");
    await until("the model", () => kubectl("apply", "-f", "examples/demo/model.yaml").then(() => true));
    await apply(metricDefinition);
    await until("the metric", () => demandOf("0").then(() => true));
    // As the operator writes it.
    const status = JSON.stringify({ status: { replicas: 1, selector: "tessellate.dev/model=demo" } });
    await kubectl("patch", "sm", "demo", "--subresource=status", "--type=merge", "-p", status);
  });
  after(() => controlPlane?.stop());

  it("takes the example as it is", async () => {
    expect(await kubectl("apply", "--validate=strict", "-f", "examples/autoscaling/hpa.yaml")).to.contain("created");
    await kubectl("wait", "--for=condition=AbleToScale", "hpa/demo", "--timeout=60s");
    await kubectl("wait", "--for=condition=ScalingActive", "hpa/demo", "--timeout=60s");
    expect(await replicas()).to.equal(1);
  });

  it("grows with the demand, as far as it may, and shrinks when there is none", async () => {
    // The example is in no hurry; this test is.
    const behavior = { scaleUp: SETTLED, scaleDown: SETTLED };
    await kubectl("patch", "hpa", "demo", "--type=merge", "-p", JSON.stringify({ spec: { behavior } }));
    await demandOf("2300m"); // 2.3 full chains are 3 that are four fifths full
    await until("three chains to be asked for", async () => (await replicas()) === 3);
    await demandOf("6500m");
    await until("four chains to be asked for", async () => (await replicas()) === 4);
    await demandOf("0");
    await until("one chain to be left", async () => (await replicas()) === 1);
  });
});
