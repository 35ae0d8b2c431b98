/** What the test cluster's enforcer makes of policies: rules by the letter of networking.k8s.io/v1. */
import { expect } from "chai";
import type { Pod } from "../cluster/kube-types.ts";
import { type Policy, rulesFor } from "./policy-enforcer.ts";

const pod = (name: string, namespace: string, podIP: string, nodeName = "one"): Pod => ({
  metadata: { name, namespace, labels: { app: name } },
  spec: { nodeName, containers: [{ name, image: "none", ports: [{ name: "http", containerPort: 8080 }] }] },
  status: { phase: "Running", podIP },
});
const PODS = [pod("a", "x", "10.0.0.1"), pod("b", "x", "10.0.0.2"), pod("b", "y", "10.0.1.2", "two")];
const NAMESPACES = ["x", "y"].map((name) => ({ metadata: { name, labels: { name } } }));
const onA = (spec: Omit<Policy["spec"], "podSelector">): Policy => ({
  metadata: { name: "p", namespace: "x" },
  spec: { podSelector: { matchLabels: { app: "a" } }, ...spec },
});
const b = { podSelector: { matchLabels: { app: "b" } } };

describe("the test cluster's enforcer of policies", () => {
  const cases: readonly (readonly [string, Policy["spec"], readonly string[], readonly string[]])[] = [
    ["lets in nobody where no rule says so", { policyTypes: ["Ingress"] }, ["ip daddr 10.0.0.1 jump"], ["return"]],
    ["isolates inwards where no type is named", {}, ["ip daddr 10.0.0.1 jump"], ["ip saddr 10.0.0.1 jump"]],
    [
      "takes a pod selector alone for the policy's own namespace, and a port's name for the pod's own port",
      { ingress: [{ from: [b], ports: [{ port: "http" }] }] },
      ["ip saddr { 10.0.0.2 } tcp dport 8080 return"],
      ["10.0.1.2"],
    ],
    [
      "takes both selectors together, and a port's name outwards for that of each peer",
      {
        policyTypes: ["Egress"],
        egress: [{ to: [{ namespaceSelector: { matchLabels: { name: "y" } }, ...b }], ports: [{ port: "http" }] }],
      },
      ["ip saddr 10.0.0.1 jump egress-0", "ip daddr { 10.0.1.2 } tcp dport 8080 return"],
      ["10.0.0.2"],
    ],
    [
      "lets anybody through a port that names no peer, and nobody where peers are named that are not there",
      {
        policyTypes: ["Egress"],
        egress: [
          {
            ports: [
              { port: 53, protocol: "UDP" },
              { port: 1, endPort: 9 },
            ],
          },
          { to: [{ podSelector: { matchLabels: { app: "nobody" } } }] },
        ],
      },
      ["\nudp dport 53 return\ntcp dport 1-9 return\nmeta l4proto tcp reject"],
      [],
    ],
    [
      "knows blocks of addresses",
      { ingress: [{ from: [{ ipBlock: { cidr: "10.9.0.0/16" } }] }] },
      ["ip saddr { 10.9.0.0/16 } return"],
      [],
    ],
  ];
  for (const [what, spec, has, hasNot] of cases) {
    it(what, () => {
      const rules = rulesFor("one", { policies: [onA(spec)], pods: PODS, namespaces: NAMESPACES });
      for (const each of has) expect(rules).to.contain(each);
      for (const each of hasNot) expect(rules).not.to.contain(each);
    });
  }

  it("writes rules for the pods of its node alone", () => {
    const rules = rulesFor("two", { policies: [onA({})], pods: PODS, namespaces: NAMESPACES });
    expect(rules).not.to.contain("jump");
  });
});
