import { expect } from "chai";
import { aModel, aNode } from "../plan/builders.ts";
import type { NodeFacts } from "../plan/types.ts";
import type { ModelSpec } from "../plan/types.ts";
import { claimTemplate, hostOf, rankPod } from "./rank-objects.ts";

type FileItem = { readonly key: string; readonly path: string };

const podFor = (model: Partial<ModelSpec> = {}, node: Partial<NodeFacts> = {}) => {
  const pod = rankPod({
    model: aModel(model),
    assignment: {
      chain: 0,
      segment: 0,
      rank: 0,
      node: "a",
      provider: "a-owner",
      layers: { start: 0, end: 4 },
      sliceWeights: [1],
      weightBytes: 1000,
      kvBytes: 24,
    },
    node: aNode("a", node),
    revision: "r1",
    neighbours: [],
    renewAfter: "2027-01-01T00:00:00Z",
    secretName: "tiny-0.a-owner",
    image: "tessellate:test",
  });
  return JSON.parse(JSON.stringify(pod));
};
const mountsOf = (pod: {
  spec: {
    containers: { volumeMounts: { name: string; mountPath: string }[] }[];
    volumes: ({ name: string } & Record<string, unknown>)[];
  };
}) =>
  Object.fromEntries(
    (pod.spec.containers[0]?.volumeMounts ?? []).map(({ name, mountPath }) => [
      mountPath,
      pod.spec.volumes.find((volume) => volume.name === name),
    ]),
  );

describe("rankPod", () => {
  it("is pinned to the machine of its node, whatever that is called", () => {
    const terms = (pod: ReturnType<typeof podFor>) =>
      pod.spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms;
    const pinnedTo = (name: string) => [{ matchFields: [{ key: "metadata.name", operator: "In", values: [name] }] }];
    expect(terms(podFor())).to.deep.equal(pinnedTo("a"));
    expect(terms(podFor({}, { machine: "a1.example.org" }))).to.deep.equal(pinnedTo("a1.example.org"));
  });

  it("asks for the memory that its shard takes, and for a GPU where the node has one", () => {
    const { requests } = podFor().spec.containers[0].resources;
    expect(Number(requests.memory)).to.be.greaterThan(1024);
    expect(podFor({}, { threadCount: 8 }).spec.containers[0].resources.requests.cpu).to.equal("4000m");
    const gpu = podFor({}, { device: "cuda", gpuResource: "nvidia.com/gpu" });
    expect(gpu.spec.containers[0].resources.limits).to.deep.equal({ "nvidia.com/gpu": "1" });
    expect(gpu.spec.tolerations.map(({ key }: { key: string }) => key)).to.include("nvidia.com/gpu");
  });

  it("claims a device where the machine's driver works by claims, of a template that the model owns", () => {
    const pod = podFor({}, { device: "cuda", deviceClass: "gpu.nvidia.com" });
    const template = claimTemplate("gpu.nvidia.com", aModel());
    expect(pod.spec.resourceClaims).to.deep.equal([
      { name: "device", resourceClaimTemplateName: template.metadata.name },
    ]);
    expect(pod.spec.containers[0].resources.claims).to.deep.equal([{ name: "device" }]);
    expect(template["spec"]).to.deep.equal({
      spec: { devices: { requests: [{ name: "device", exactly: { deviceClassName: "gpu.nvidia.com" } }] } },
    });
    expect(template.metadata.ownerReferences).to.have.lengthOf(1);
  });

  it("puts up with what the model's placement says, beside what all ranks put up with", () => {
    const toleration = { key: "dedicated", operator: "Exists" };
    const pod = podFor({ placement: { ...aModel().placement, tolerations: [toleration] } });
    expect(pod.spec.tolerations)
      .to.deep.include(toleration)
      .and.to.have.length(podFor().spec.tolerations.length + 1);
  });

  it("writes to its caches only, and reads the signer's folder", () => {
    const mounts = mountsOf(podFor({}, { signer: "unix:/run/tessellate/a/signer.sock" }));
    expect(Object.keys(mounts).sort()).to.deep.equal([
      "/etc/tessellate",
      "/run/tessellate/a",
      "/tmp",
      "/var/cache/tessellate",
    ]);
    expect(mounts["/run/tessellate/a"]).to.deep.include({ hostPath: { path: "/run/tessellate/a", type: "Directory" } });
    expect(mounts["/var/cache/tessellate"]).to.deep.include({ emptyDir: {} });
  });

  it("keeps its cache on the machine where the node says so, and needs no machine's folder where the signer has an address", () => {
    const pod = podFor({}, { cachePath: "/data/tessellate", signer: "10.0.0.9:7300" });
    const mounts = mountsOf(pod);
    expect(mounts["/data/tessellate"]).to.deep.include({
      hostPath: { path: "/data/tessellate", type: "DirectoryOrCreate" },
    });
    expect(Object.keys(mounts)).to.have.lengthOf(3);
    expect(hostOf(aModel(), aNode("a", { cachePath: "/data/tessellate" })).cacheDirectory).to.equal("/data/tessellate");
  });

  it("mounts its own files of a Secret that holds others', too", () => {
    const { secret } = mountsOf(podFor())["/etc/tessellate"] as unknown as { secret: { items: readonly FileItem[] } };
    expect(secret).to.deep.include({ secretName: "tiny-0.a-owner", defaultMode: 0o440 });
    expect(secret.items.map(({ key, path }) => `${key} ${path}`)).to.deep.equal([
      "tiny-0-0-0.json rank.json",
      "ca.crt ca.crt",
      "tiny-0-0-0.crt tls.crt",
      "tiny-0-0-0.key tls.key",
    ]);
  });

  it("mounts the model's claim and the hub's token", () => {
    const claim = mountsOf(podFor({ source: { persistentVolumeClaim: { claimName: "weights" } } }));
    expect(claim["/var/lib/tessellate/model"]).to.deep.include({
      persistentVolumeClaim: { claimName: "weights", readOnly: true },
    });
    const model = { hubTokenSecret: { name: "hub", key: "t" } };
    const hub = mountsOf(podFor(model));
    expect(hub["/etc/tessellate-hub"]).to.deep.include({
      secret: { secretName: "hub", items: [{ key: "t", path: "token" }] },
    });
    expect(hostOf(aModel(model), aNode("a")).hubTokenFile).to.equal("/etc/tessellate-hub/token");
  });
});
