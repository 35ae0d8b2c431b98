/**
 * The chart against a real API server: whether it takes all that the chart makes, in every shape; what each service account
 * may do then; what a namespace that enforces the restricted Pod Security Standard says; upgrades and the way out.
 */
import { readFileSync } from "node:fs";
import { expect } from "chai";
import { rankPod } from "../../operator/apply/rank-objects.ts";
import { aModel, aNode } from "../../operator/plan/builders.ts";
import type { NodeFacts } from "../../operator/plan/types.ts";
import { MONITORING, render } from "../chart/helm.ts";
import { type ControlPlane, startControlPlane } from "../cluster/control-plane.ts";
import { until } from "../until.ts";
import { startChartOperator } from "./chart-operator.ts";
import { CHART, HOUSE_NAMESPACE } from "./house.ts";
import { defineMonitoring } from "./pod-monitors.ts";
import { rightsBeyond, whyNotAdmitted } from "./rights.ts";

const PREVIOUS = "test/chart/previous/tessellate-0.1.0.tgz";
const RESTRICTED = "restricted";
const DIGEST = `sha256:${"0".repeat(64)}`;

describe("the chart and an API server", function () {
  this.timeout(1_500_000);
  let controlPlane: ControlPlane;
  const kubectl = (...args: string[]) => controlPlane.kubectl(args);
  const apply = (object: object) => controlPlane.kubectl(["apply", "-f", "-"], JSON.stringify(object));
  const helm = (...args: string[]) => controlPlane.helm([...args, "-n", HOUSE_NAMESPACE]);

  before(async () => {
    controlPlane = await startControlPlane();
    await defineMonitoring(controlPlane);
    for (const namespace of [HOUSE_NAMESPACE, "models", RESTRICTED]) await kubectl("create", "namespace", namespace);
    await kubectl("label", "namespace", RESTRICTED, "pod-security.kubernetes.io/enforce=restricted");
  });
  after(() => controlPlane?.stop());

  it("passes helm lint --strict", async () => {
    expect(await controlPlane.helm(["lint", "--strict", CHART])).to.contain("0 chart(s) failed");
  });

  const shapes: readonly Readonly<Record<string, unknown>>[] = [
    {},
    {
      "gateway.persistence.enabled": false,
      "gateway.replicas": 3,
      "gateway.apiKeysSecret": "keys",
      "gateway.antiAffinity": "hard",
      "gateway.ingress": { enabled: true, host: "models.example", tlsSecret: "https" },
      "ledger.databaseSecret": "database",
      "operator.watchNamespace": "models",
      "gateway.image.digest": DIGEST,
      "serviceMonitors.enabled": true,
      "networkPolicies.scrapers": [{ namespaceSelector: { matchLabels: { name: "monitoring" } } }],
      "networkPolicies.clients": [{ ipBlock: { cidr: "10.0.0.0/8" } }],
      "commonLabels.team": "models",
      "prometheusRules.runbookUrl": "https://runbooks.example/",
    },
    { "agent.providers": [{ name: "campus", keySecret: "campus-key" }], "serviceMonitors.enabled": true },
  ];
  for (const values of shapes) {
    it(`agree on all objects with ${JSON.stringify(values)}`, async () => {
      const objects = await render(values, MONITORING);
      const list = JSON.stringify({ apiVersion: "v1", kind: "List", items: objects });
      const taken = await controlPlane.kubectl(["apply", "--dry-run=server", "--validate=strict", "-f", "-"], list);
      expect(taken.trim().split("\n")).to.have.length(objects.length);
    });
  }

  it("agree that every pod of the chart keeps the restricted standard", async () => {
    // A volume of a claim template is the StatefulSet's to add.
    const alone = { "gateway.persistence.enabled": false, "ledger.persistence.enabled": false };
    const agents = { "agent.providers": [{ name: "campus", keySecret: "campus-key" }] };
    const secrets = { "gateway.apiKeysSecret": "keys", "ledger.databaseSecret": "database" };
    const objects = await render({ ...alone, ...agents, ...secrets });
    for (const object of objects) {
      const spec = object.kind === "Pod" ? object.spec : object.spec?.template?.spec;
      if (spec === undefined) continue;
      const why = await whyNotAdmitted(controlPlane, RESTRICTED, { ...spec, serviceAccountName: "default" });
      expect(why, object.metadata.name).to.equal(undefined);
    }
  });

  const ranks: readonly { readonly node: Partial<NodeFacts>; readonly says: RegExp | undefined }[] = [
    { node: { signer: "10.0.0.7:7300" }, says: undefined },
    {
      node: { signer: "mtls:tessellate-agent.tessellate-system.svc:7410", deviceClass: "gpu.example" },
      says: undefined,
    },
    {
      node: { signer: "unix:/run/tessellate/signer.sock" },
      says: /volume "signer" uses restricted volume type "hostPath"/,
    },
    {
      node: { signer: "10.0.0.7:7300", cachePath: "/var/cache/tessellate" },
      says: /volume "cache" uses restricted volume type "hostPath"/,
    },
  ];
  for (const { node, says } of ranks) {
    it(`${says === undefined ? "take" : "refuse"} a rank of a node with ${JSON.stringify(node)} there`, async () => {
      const { spec } = JSON.parse(JSON.stringify(rankOf(aNode("node-1", node))));
      expect(spec.automountServiceAccountToken).to.equal(false);
      const why = await whyNotAdmitted(controlPlane, RESTRICTED, spec);
      if (says === undefined) expect(why).to.equal(undefined);
      else expect(why).to.match(says);
    });
  }

  it("takes over what an older chart installed, CustomResourceDefinitions included", async () => {
    await helm("install", "tessellate", PREVIOUS);
    await apply({
      apiVersion: "tessellate.dev/v1alpha1",
      kind: "ShardedModel",
      metadata: { name: "kept", namespace: "models" },
      spec: { model: { source: { path: "/models/demo" } } },
    });
    const before = await kubectl("get", "sm", "kept", "-n", "models", "-o", "jsonpath={.metadata.uid}");
    // The older one left its definitions to Helm's crds/ folder, which belongs to no release.
    await helm("upgrade", "tessellate", CHART, "--take-ownership");
    expect(await kubectl("get", "sm", "kept", "-n", "models", "-o", "jsonpath={.metadata.uid}")).to.equal(before);
    expect(await released("shardedmodels.tessellate.dev")).to.equal("tessellate");
  });

  it("upgrades CustomResourceDefinitions from then on", async () => {
    const columns = () =>
      kubectl("get", "crd", "providers.tessellate.dev", "-o", "jsonpath={..additionalPrinterColumns[*].name}");
    const whole = await columns();
    // As if this release had been installed by a chart without that column.
    await controlPlane.kubectl([
      "patch",
      "crd",
      "providers.tessellate.dev",
      "--type=json",
      "-p",
      '[{"op":"remove","path":"/spec/versions/0/additionalPrinterColumns/0"}]',
    ]);
    expect(await columns()).not.to.equal(whole);
    await helm("upgrade", "tessellate", CHART, "--set=gateway.replicas=1");
    expect(await columns()).to.equal(whole);
  });

  it("leaves models and the fence where they are on uninstall, and takes them up again on install", async () => {
    await helm("uninstall", "tessellate");
    expect(await kubectl("get", "sm", "-n", "models", "--no-headers")).to.match(/^kept\s/);
    expect(
      await kubectl("get", "clusterroles,clusterrolebindings,pdb,networkpolicies", "-A", "-o", "name"),
    ).not.to.contain("tessellate");
    const policies = "validatingadmissionpolicies,validatingadmissionpolicybindings";
    expect((await kubectl("get", policies, "-o", "name")).match(/\/tessellate-\S+/g)).to.deep.equal([
      "/tessellate-fence",
      "/tessellate-fence",
    ]);
    await helm("install", "tessellate", CHART);
    await kubectl("delete", "sm", "kept", "-n", "models");
  });

  it("gives everybody the rights on test/chart/rights.txt, and no others", async () => {
    const house = { namespace: HOUSE_NAMESPACE, account: "tessellate-operator" };
    const lines: string[] = [];
    const list = async (title: string, who: { namespace: string; account: string }, where: string) =>
      void lines.push(`# ${title}`, ...(await rightsBeyond(controlPlane, who, where)), "");
    await list("operator, in its own namespace", house, HOUSE_NAMESPACE);
    await list("operator, in any other", house, "models");
    await list("gateway and ledger", { namespace: HOUSE_NAMESPACE, account: "default" }, HOUSE_NAMESPACE);
    await list("ranks", { namespace: "models", account: "default" }, "models");
    for (const role of ["view", "edit", "admin"]) {
      const account = `person-${role}`;
      await kubectl("create", "serviceaccount", account, "-n", "models");
      await kubectl(
        "create",
        "rolebinding",
        account,
        `--clusterrole=tessellate-${role}`,
        `--serviceaccount=models:${account}`,
        "-n",
        "models",
      );
      await list(`what the chart adds to ${role}`, { namespace: "models", account }, "models");
    }
    await helm("upgrade", "tessellate", CHART, "--set=operator.watchNamespace=models");
    await list("operator of one namespace, in its own", house, HOUSE_NAMESPACE);
    await list("operator of one namespace, in that of models", house, "models");
    await list("operator of one namespace, in any other", house, "default");
    expect(`${lines.join("\n").trim()}\n`).to.equal(readFileSync("test/chart/rights.txt", "utf8"));
  });

  it("keeps the operator to what bears its label, whatever RBAC would allow", async () => {
    const as = `--as=system:serviceaccount:${HOUSE_NAMESPACE}:tessellate-operator`;
    const secret = (name: string, labels: object) =>
      JSON.stringify({ apiVersion: "v1", kind: "Secret", metadata: { name, namespace: "models", labels } });
    const asOperator = (args: readonly string[], object?: string) =>
      controlPlane.kubectl([...args, as], object).then(
        () => "done",
        (error: unknown) => String(error),
      );
    const ours = { "app.kubernetes.io/managed-by": "tessellate-operator" };
    await controlPlane.kubectl(["apply", "-f", "-"], secret("somebodys", {}));
    await until("the policy to be in force", async () => {
      return (await asOperator(["create", "-f", "-"], secret("other", {}))).includes("and nothing else");
    });
    expect(await asOperator(["delete", "secret", "somebodys", "-n", "models"])).to.contain("may not touch it");
    const label = JSON.stringify({ metadata: { labels: ours } });
    expect(await asOperator(["patch", "secret", "somebodys", "-n", "models", "-p", label])).not.to.equal("done");
    expect(await asOperator(["create", "-f", "-"], secret("mine", ours))).to.equal("done");
    expect(await asOperator(["delete", "secret", "mine", "-n", "models", "--wait=false"])).to.equal("done");
  });

  for (const values of [{}, { "operator.watchNamespace": "models" }]) {
    it(`lets the operator do its work with ${JSON.stringify(values)}, and refuses it nothing`, async () => {
      const set = Object.entries(values).map(([key, value]) => `--set=${key}=${value}`);
      await helm("upgrade", "tessellate", CHART, "--reset-values", ...set);
      const name = `asked-${set.length}`;
      const api = { apiVersion: "tessellate.dev/v1alpha1" };
      await apply({ ...api, kind: "Provider", metadata: { name }, spec: {} });
      const source = { path: "models/demo" };
      await apply({
        ...api,
        kind: "ShardedModel",
        metadata: { name, namespace: "models" },
        spec: { model: { source } },
      });
      const operator = await startChartOperator(controlPlane, values);
      try {
        await until("it to lead", () => operator.log().some(({ event }) => event === "leads")).catch(
          (error: unknown) => {
            throw new Error(`${error}; it said:\n${operator.text()}`);
          },
        );
        await kubectl(
          "wait",
          `provider/${name}`,
          "--for=jsonpath={.status.conditions[0].reason}=NoPublicKey",
          "--timeout=30s",
        );
        await kubectl("wait", `sm/${name}`, "-n", "models", "--for=condition=Ready=false", "--timeout=30s");
        await until("the certificates of gateway and ledger", async () => {
          const secrets = await kubectl("get", "secrets", "-n", HOUSE_NAMESPACE, "-o", "name");
          return ["gateway", "ledger", "agent"].every((part) => secrets.includes(`tessellate-${part}-tls`));
        });
      } finally {
        await operator.stop();
      }
      // An API server whose definitions have just changed asks for a moment, and gets it.
      const told = operator.log().map((line) => JSON.stringify(line));
      const trouble = told.filter((line) => /orbidden|trouble/.test(line) && !/429 storage is \(re\)init/.test(line));
      expect(trouble).to.deep.equal([]);
      await kubectl("delete", `provider/${name}`);
      await kubectl("delete", "sm", name, "-n", "models");
    });
  }

  it("adds its roles to the cluster's own", async () => {
    for (const role of ["view", "edit", "admin"]) {
      const rules = await kubectl("get", "clusterrole", role, "-o", "jsonpath={.rules[*].apiGroups}");
      expect(rules, role).to.contain("tessellate.dev");
    }
  });

  const released = (name: string): Promise<string> =>
    kubectl("get", "crd", name, "-o", "jsonpath={.metadata.annotations.meta\\.helm\\.sh/release-name}");
});

const rankOf = (node: NodeFacts) =>
  rankPod({
    model: aModel(),
    assignment: {
      ...{ chain: 0, segment: 0, rank: 0, node: node.name, provider: node.provider },
      ...{ layers: { start: 0, end: 4 }, sliceWeights: [1], weightBytes: 1000, kvBytes: 24 },
    },
    node,
    revision: "r1",
    neighbours: [],
    renewAfter: "2030-01-01T00:00:00Z",
    secretName: "tiny-0.a-owner",
    image: "localhost/tessellate-shard-runtime:0.1.0",
  });
