/** What the chart's templates become: one call of Helm for each set of values, and what must be true of all of it. */
import { existsSync, readFileSync } from "node:fs";
import { expect } from "chai";
import { type Rendered, type Values, complaintAbout, namesOf, only, render } from "./helm.ts";

const DIGEST = `sha256:${"0".repeat(64)}`;

type Case = {
  readonly name: string;
  readonly values: Values;
  readonly apis?: readonly string[];
  readonly check: (objects: readonly Rendered[]) => void;
};

const operatorArgs = (objects: readonly Rendered[]): readonly string[] =>
  only(objects, "Deployment", "tessellate-operator").spec.template.spec.containers[0].args;
const gateway = (objects: readonly Rendered[]): Rendered => only(objects, "StatefulSet", "tessellate-gateway");

const CASES: readonly Case[] = [
  {
    name: "its own values",
    values: {},
    check: (objects) => {
      expect(only(objects, "Deployment", "tessellate-operator").spec.replicas).to.equal(2);
      expect(gateway(objects).spec.replicas).to.equal(2);
      for (const component of ["operator", "gateway"])
        expect(only(objects, "PodDisruptionBudget", `tessellate-${component}`).spec.maxUnavailable).to.equal(1);
      const { podAntiAffinity } = gateway(objects).spec.template.spec.affinity;
      const [{ podAffinityTerm }] = podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution;
      expect(podAffinityTerm.labelSelector.matchLabels).to.deep.equal(gateway(objects).spec.selector.matchLabels);
      expect(operatorArgs(objects)).to.include.members(["--image=tessellate-shard-runtime:0.1.0", "--require-offers"]);
      expect(objects.filter(({ kind }) => kind === "DaemonSet")).to.deep.equal([]);
      expect(objects.filter(({ kind }) => kind === "CustomResourceDefinition")).to.have.length(5);
    },
  },
  {
    name: "a cluster without Prometheus' operator",
    values: { "dashboards.enabled": false },
    apis: [],
    check: (objects) =>
      expect(namesOf(objects).filter((name) => /Monitor|PrometheusRule|ConfigMap/.test(name))).to.deep.equal([]),
  },
  {
    name: "images by registry, tag and digest",
    values: {
      "image.registry": "registry.example/t/",
      "image.tag": "7",
      "ledger.image.tag": "8",
      "rank.image.digest": DIGEST,
    },
    check: (objects) => {
      expect(gateway(objects).spec.template.spec.containers[0].image).to.equal(
        "registry.example/t/tessellate-gateway:7",
      );
      const ledger = only(objects, "StatefulSet", "tessellate-ledger");
      expect(ledger.spec.template.spec.containers[0].image).to.equal("registry.example/t/tessellate-ledger:8");
      expect(operatorArgs(objects)).to.include(`--image=registry.example/t/tessellate-shard-runtime@${DIGEST}`);
    },
  },
  {
    name: "one namespace only",
    values: { "operator.watchNamespace": "models" },
    check: (objects) => {
      expect(operatorArgs(objects)).to.include("--watch-namespace=models");
      const cluster = only(objects, "ClusterRole", "tessellate-operator").rules;
      expect(cluster.flatMap(({ resources }: Rendered) => resources)).not.to.include.members(["secrets"]);
      expect(only(objects, "Role", "tessellate-operator-models").metadata.namespace).to.equal("models");
      expect(only(objects, "NetworkPolicy", "tessellate-rank").metadata.namespace).to.equal("models");
      expect(only(objects, "PodMonitor", "tessellate-rank").spec.namespaceSelector).to.deep.equal({
        matchNames: ["models"],
      });
    },
  },
  {
    name: "for clients outside, with cert-manager",
    values: {
      "gateway.ingress": { enabled: true, host: "models.example" },
      "certManager.enabled": true,
      "certManager.issuer.name": "letters",
      "gateway.apiKeysSecret": "keys",
    },
    check: (objects) => {
      const { spec } = only(objects, "Certificate", "tessellate-gateway");
      expect(spec.dnsNames).to.deep.equal(["models.example"]);
      expect(only(objects, "Ingress", "tessellate-gateway").spec.tls).to.deep.equal([
        { hosts: ["models.example"], secretName: spec.secretName },
      ]);
      expect(gateway(objects).spec.template.spec.containers[0].args).to.include(
        "--api-keys=/etc/tessellate/api-keys/keys",
      );
    },
  },
  {
    name: "ServiceMonitors instead of PodMonitors",
    values: { "podMonitors.enabled": false, "serviceMonitors.enabled": true },
    check: (objects) => {
      expect(objects.filter(({ kind }) => kind === "PodMonitor")).to.deep.equal([]);
      for (const component of ["operator", "gateway", "ledger"]) {
        const { labels } = only(objects, "Service", `tessellate-${component}-metrics`).metadata;
        const { selector } = only(objects, "ServiceMonitor", `tessellate-${component}`).spec;
        expect(labels).to.include(selector.matchLabels);
      }
    },
  },
  {
    name: "a database, and no volumes",
    values: {
      "ledger.databaseSecret": "database",
      "gateway.persistence.enabled": false,
      "networkPolicies.databasePorts": [6543],
      "networkPolicies.dnsPorts": [5353],
    },
    check: (objects) => {
      expect(gateway(objects).spec.volumeClaimTemplates).to.equal(undefined);
      expect(only(objects, "NetworkPolicy", "tessellate-ledger").spec.egress.at(-1)).to.deep.equal({
        ports: [{ port: 6543 }],
      });
      expect(only(objects, "NetworkPolicy", "tessellate-ledger").spec.egress[0]).to.deep.equal({
        ports: ["UDP", "TCP"].map((protocol) => ({ port: 5353, protocol })),
      });
    },
  },
  {
    name: "node agents of two providers, one key in a Secret and one on the machines",
    values: {
      "agent.providers": [
        {
          name: "campus",
          keySecret: "campus-key",
          nodeSelector: { owner: "campus" },
          runtimeClassName: "nvidia",
          env: [{ name: "NVIDIA_VISIBLE_DEVICES", value: "all" }],
        },
        { name: "garage", keyHostPath: "/etc/garage.pem", tolerations: [{ key: "home", operator: "Exists" }] },
      ],
      "agent.measureLayers": false,
    },
    check: (objects) => {
      const [campus, garage] = ["campus", "garage"].map(
        (name) => only(objects, "DaemonSet", `tessellate-agent-${name}`).spec.template.spec,
      );
      expect(campus.nodeSelector).to.deep.equal({ owner: "campus" });
      expect(campus.containers[0].args).to.include.members(["--provider=campus", "--no-layers"]);
      expect(JSON.stringify(campus)).not.to.contain("hostPath");
      expect([campus.runtimeClassName, garage.runtimeClassName]).to.deep.equal(["nvidia", undefined]);
      const seesGpus = ({ env = [] }: Rendered) => env.some(({ name }: Rendered) => name === "NVIDIA_VISIBLE_DEVICES");
      expect(campus.containers.map(seesGpus)).to.deep.equal([true, false]);
      const holdsKey = (pod: Rendered) =>
        pod.containers.flatMap(({ name, volumeMounts }: Rendered) =>
          volumeMounts.some((mount: Rendered) => mount.name === "key") ? [name] : [],
        );
      expect([holdsKey(campus), holdsKey(garage)]).to.deep.equal([["signer"], ["signer"]]);
      expect(garage.volumes.filter(({ hostPath }: Rendered) => hostPath)).to.deep.equal([
        { name: "key", hostPath: { path: "/etc/garage.pem", type: "File" } },
      ]);
      expect(garage.tolerations.map(({ key }: Rendered) => key)).to.deep.equal(["tessellate.dev/shards", "home"]);
      expect(only(objects, "Service", "tessellate-agent").spec.internalTrafficPolicy).to.equal("Local");
      expect(operatorArgs(objects)).to.include("--agent-signer=tessellate-agent.tessellate-system.svc:7410");
      expect(only(objects, "PodMonitor", "tessellate-agent").spec.podTargetLabels).to.deep.equal([
        "tessellate.dev/provider",
      ]);
      const policy = only(objects, "NetworkPolicy", "tessellate-agent").spec;
      expect(policy.ingress[0].ports).to.deep.equal([{ port: "agent" }]);
    },
  },
  {
    name: "extra objects, as objects and as templates",
    values: {
      extraObjects: [
        { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "{{ .Release.Name }}-more" } },
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: text}",
      ],
    },
    check: (objects) => expect(namesOf(objects)).to.include.members(["ConfigMap/tessellate-more", "ConfigMap/text"]),
  },
  {
    name: "without what is optional",
    values: {
      "crds.install": false,
      "roles.aggregate": false,
      "networkPolicies.enabled": false,
      "operator.podDisruptionBudget.enabled": false,
      "gateway.antiAffinity": "none",
    },
    check: (objects) => {
      expect(gateway(objects).spec.template.spec.affinity).to.equal(undefined);
      const names = namesOf(objects).filter((name) => /CustomResource|NetworkPolicy|PodDis|ClusterRole\//.test(name));
      expect(names.sort()).to.deep.equal(["ClusterRole/tessellate-operator", "PodDisruptionBudget/tessellate-gateway"]);
    },
  },
];

describe("the chart's templates", function () {
  this.timeout(300_000);

  for (const { name, values, apis, check } of CASES) {
    it(`with ${name}`, async () => {
      const objects = await render(values, apis);
      check(objects);
      expectSound(objects);
    });
  }

  const refused: readonly { readonly values: Values; readonly says: RegExp }[] = [
    { values: { "gatweay.replicas": 2 }, says: /gatweay/ },
    { values: { "operator.replicas": "two" }, says: /operator.*replicas/s },
    { values: { "ledger.image.digest": "latest" }, says: /digest/ },
    { values: { "gateway.antiAffinity": "maybe" }, says: /antiAffinity/ },
    { values: { "agent.providers": [{ name: "campus" }] }, says: /campus needs keySecret or keyHostPath/ },
    { values: { "gateway.ingress.enabled": true }, says: /gateway\.ingress\.host is the name that clients use/ },
    {
      values: { "certManager.enabled": true, "gateway.ingress.host": "a.example" },
      says: /certManager\.issuer\.name is missing/,
    },
  ];
  for (const { values, says } of refused) {
    it(`refuse ${JSON.stringify(values)}`, async () => expect(await complaintAbout(values)).to.match(says));
  }
});

/** Of every set of values: what no template may ever do otherwise. */
function expectSound(objects: readonly Rendered[]): void {
  const names = objects.map(({ kind, metadata }) => `${kind}/${metadata.namespace ?? ""}/${metadata.name}`);
  expect(new Set(names).size, "no object twice").to.equal(names.length);
  for (const object of objects) {
    const { kind, metadata } = object;
    if (kind === "CustomResourceDefinition") {
      expect(metadata.annotations, metadata.name).to.include({ "helm.sh/resource-policy": "keep" });
      continue;
    }
    const pod = kind === "Pod" ? object.spec : object.spec?.template?.spec;
    if (pod === undefined) continue;
    const [container] = pod.containers;
    expect(pod.securityContext, metadata.name).to.include({ runAsNonRoot: true, runAsUser: 65532 });
    if (!JSON.stringify(pod.volumes ?? []).includes("hostPath"))
      for (const { securityContext } of pod.containers)
        expect(securityContext, metadata.name).to.deep.equal(container.securityContext);
    expect(container.securityContext, metadata.name).to.deep.equal({
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ["ALL"] },
    });
    expect(pod.automountServiceAccountToken ?? true, metadata.name).to.equal(metadata.name.endsWith("-operator"));
    const [, script = ""] = container.command;
    expect(script.startsWith("--") || existsSync(script), `${metadata.name} runs ${script}`).to.equal(true);
    const labels = object.spec.template?.metadata.labels;
    if (labels === undefined) continue;
    expect(labels).to.include(object.spec.selector.matchLabels);
    expect(Object.keys(labels), "a new version of the chart must not restart pods").not.to.include("helm.sh/chart");
  }
  const definition = readFileSync("crds/shardedmodels.yaml", "utf8");
  const rendered = objects.find(({ metadata }) => metadata.name === "shardedmodels.tessellate.dev");
  if (rendered !== undefined) expect(definition).to.contain(rendered.spec.names.singular);
}
