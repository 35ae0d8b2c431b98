/** Ranks and GPUs, as Kubernetes' own scheduler sees them: by device plug-in, by claims, and on machines with taints. */
import { expect } from "chai";
import { claimTemplate, rankPod } from "../../operator/apply/rank-objects.ts";
import { aModel, aNode } from "../../operator/plan/builders.ts";
import type { ModelSpec, NodeFacts } from "../../operator/plan/types.ts";
import { until } from "../until.ts";
import { type ControlPlane, startControlPlane } from "./control-plane.ts";
import { keepLeases, registerNode } from "./nodes.ts";

const GPU = "nvidia.com/gpu";
const CLASS = "gpu.example.org";
const NAMESPACE = aModel().namespace;
const AT = { address: "127.0.0.1", kubeletPort: 10250 };

describe("ranks and GPUs", function () {
  this.timeout(180_000);
  let controlPlane: ControlPlane;
  const stop = new AbortController();
  const kubectl = (...args: string[]) => controlPlane.kubectl(args);
  const create = (object: object) => controlPlane.kubectl(["create", "-f", "-"], JSON.stringify(object));
  const whereIs = (pod: string) => kubectl("get", "pod", pod, "-n", NAMESPACE, "-o", "jsonpath={.spec.nodeName}");
  const whyNowhere = (pod: string) =>
    kubectl(
      "get",
      "pod",
      pod,
      "-n",
      NAMESPACE,
      "-o",
      "jsonpath={.status.conditions[?(@.type=='PodScheduled')].message}",
    );

  /** Makes the pod of a rank on `machine`; gives its name. Owners would have it collected: there is no model here. */
  const makeRank = async (machine: string, rank: number, node: Partial<NodeFacts>, model: Partial<ModelSpec> = {}) => {
    const facts = aNode(`on-${machine}`, { machine, device: "cuda", threadCount: 1, ...node });
    const pod = rankPod({
      model: aModel(model),
      assignment: {
        ...{ chain: 0, segment: 0, rank, node: facts.name, provider: facts.provider },
        ...{ layers: { start: 0, end: 4 }, sliceWeights: [1], weightBytes: 1000, kvBytes: 24 },
      },
      node: facts,
      revision: "r1",
      neighbours: [],
      renewAfter: "2030-01-01T00:00:00Z",
      secretName: "tiny-0.a-owner",
      image: "localhost/tessellate-shard-runtime:0.1.0",
    });
    const { ownerReferences: _, ...metadata } = pod.metadata;
    const name = `${machine}-${rank}`;
    await create({ ...pod, apiVersion: "v1", kind: "Pod", metadata: { ...metadata, name } });
    return name;
  };

  before(async () => {
    controlPlane = await startControlPlane();
    const { api } = controlPlane;
    await registerNode(
      api,
      { name: "plugged", capacity: { [GPU]: 1 }, taints: [{ key: GPU, effect: "NoSchedule" }] },
      AT,
    );
    await registerNode(api, { name: "claimed" }, AT);
    await registerNode(
      api,
      { name: "kept", taints: [{ key: "dedicated", value: "others", effect: "NoSchedule" }] },
      AT,
    );
    void keepLeases(api, () => ["plugged", "claimed", "kept"], stop.signal);
    if (NAMESPACE !== "default") await kubectl("create", "namespace", NAMESPACE);
    await until("the service account", () => kubectl("get", "sa", "default", "-n", NAMESPACE).then(() => true));
  });
  after(async () => {
    stop.abort();
    await controlPlane?.stop();
  });

  it("of a device plug-in go one to a GPU, past the taint that keeps others away", async () => {
    const [first, second] = [
      await makeRank("plugged", 0, { gpuResource: GPU }),
      await makeRank("plugged", 1, { gpuResource: GPU }),
    ];
    await until("one to be there and the other to say why not", async () => {
      const [there, not] = (await whereIs(first)) === "plugged" ? [first, second] : [second, first];
      return (await whereIs(there)) === "plugged" && (await whyNowhere(not)).includes(`Insufficient ${GPU}`);
    });
  });

  it("of a driver that works by claims get a claim each, and the device that the driver published", async () => {
    const device = { apiVersion: "resource.k8s.io/v1" };
    const driver = "gpu.example.org";
    await create({
      ...device,
      kind: "DeviceClass",
      metadata: { name: CLASS },
      spec: { selectors: [{ cel: { expression: `device.driver == '${driver}'` } }] },
    });
    await create({
      ...device,
      kind: "ResourceSlice",
      metadata: { name: "claimed-gpus" },
      spec: {
        driver,
        nodeName: "claimed",
        pool: { name: "claimed", generation: 1, resourceSliceCount: 1 },
        devices: [{ name: "gpu-0" }],
      },
    });
    const { ownerReferences: _, ...metadata } = claimTemplate(CLASS, aModel()).metadata;
    const template = { ...claimTemplate(CLASS, aModel()), ...device, kind: "ResourceClaimTemplate", metadata };
    await create(template);
    const first = await makeRank("claimed", 0, { deviceClass: CLASS });
    await until("the first to be there", async () => (await whereIs(first)) === "claimed");
    const claims = JSON.parse(await kubectl("get", "resourceclaims", "-n", NAMESPACE, "-o", "json")).items;
    expect(claims[0].status.allocation.devices.results[0]).to.include({ device: "gpu-0", driver });
    const second = await makeRank("claimed", 1, { deviceClass: CLASS });
    await until("the second to say why not", async () =>
      /cannot allocate|resourceclaim/i.test(await whyNowhere(second)),
    );
    expect(await whereIs(second)).to.equal("");
  });

  it("go to a machine with a taint where the model puts up with it, and nowhere where it does not", async () => {
    const refused = await makeRank("kept", 0, {});
    const { placement } = aModel();
    const tolerations = [{ key: "dedicated", operator: "Equal", value: "others", effect: "NoSchedule" }];
    const taken = await makeRank("kept", 1, {}, { placement: { ...placement, tolerations } });
    await until("the one to be there", async () => (await whereIs(taken)) === "kept");
    await until("the other to say why not", async () => (await whyNowhere(refused)).includes("untolerated taint"));
  });
});
