import { expect } from "chai";
import fc from "fast-check";
import type { KubeObject } from "../kube/objects.ts";
import { NodeIndex } from "./node-index.ts";
import { NodesSeen } from "./nodes-seen.ts";

const POOLS = ["a", "b", "c"] as const;
const KEY = "models/m";
const nodeOf = ([id, pool]: readonly [number, string]): KubeObject => ({
  metadata: { name: `n${id}`, labels: { pool } },
});
const someNode = fc.tuple(fc.integer({ min: 0, max: 120 }), fc.constantFrom(...POOLS));
const someNodes = fc.uniqueArray(someNode, { selector: ([id]) => id, minLength: 50, maxLength: 110 });

/** What a look sees, noted as a look does. */
function look(
  seen: NodesSeen,
  nodes: readonly KubeObject[],
  selector: Readonly<Record<string, string>>,
  holds: string,
) {
  const index = new NodeIndex();
  for (const node of nodes) index.put(node);
  const found = index.concerned(selector, [holds]);
  seen.note(KEY, selector, [holds], found);
  return found;
}

describe("which nodes matter to a model", () => {
  it("hides no change: what does not matter changes nothing of what a look sees", () => {
    let hiddenCount = 0;
    const selectors = fc.constantFrom<Readonly<Record<string, string>>>({ pool: "a" }, { pool: "a", gpu: "x" }, {});
    const property = fc.property(
      someNodes,
      selectors,
      fc.nat(120),
      someNode,
      fc.boolean(),
      (drawn, wish, held, one, goes) => {
        const seen = new NodesSeen();
        const nodes = drawn.map(nodeOf);
        const before = look(seen, nodes, wish, `n${held}`);
        const [was, is] = [
          nodes.find(({ metadata }) => metadata.name === `n${one[0]}`),
          goes ? undefined : nodeOf(one),
        ];
        const rest = nodes.filter((node) => node !== was);
        const at = was === undefined ? rest.length : nodes.indexOf(was);
        const after = is === undefined ? rest : rest.toSpliced(at, 0, is);
        const states = [was, is].filter((state) => state !== undefined);
        if (states.length === 0 || seen.matters(KEY, states) !== undefined) return;
        hiddenCount += 1;
        expect(look(new NodesSeen(), after, wish, `n${held}`)).to.deep.equal(before);
      },
    );
    fc.assert(property, { numRuns: 1_000 });
    expect(hiddenCount, "changes that mattered to nobody").to.be.greaterThan(50);
  });

  it("is not known of a model that was never looked at, nor of one that is forgotten: then every node does", () => {
    const seen = new NodesSeen();
    const nodes = Array.from({ length: 60 }, (_, id) => nodeOf([id, "b"]));
    const last = nodeOf([99, "b"]);
    expect(seen.matters(KEY, [last])).to.equal("own");
    look(seen, nodes, { pool: "a" }, "n0");
    expect(seen.matters(KEY, [last])).to.equal(undefined);
    expect(seen.matters(KEY, [nodeOf([1, "b"])]), "its ShardPlan names it").to.equal("named");
    expect(seen.matters(KEY, [last, nodeOf([99, "a"])]), "it is of the pool now").to.equal("own");
    expect(seen.matters(KEY, [nodeOf([0, "b"])]), "it holds something").to.equal("own");
    seen.forget(KEY);
    expect(seen.matters(KEY, [last])).to.equal("own");
  });
});
