import { expect } from "chai";
import fc from "fast-check";
import type { KubeObject } from "../kube/objects.ts";
import { NodeIndex, type NodeSelector, asksFor } from "./node-index.ts";

type Step = { readonly id: number; readonly pool: string; readonly gpu: boolean; readonly goes: boolean };
const nodeOf = ({ id, pool, gpu }: Step): KubeObject => ({
  metadata: { name: `n${id}`, labels: { pool, ...(gpu ? { gpu: "x" } : {}) } },
});
const namesOf = (nodes: Iterable<KubeObject>) => [...nodes].map(({ metadata }) => metadata.name).sort();

describe("nodes that a look at a model is concerned with", () => {
  it("are all that its selector asks for and that hold something of it, and the first 8 of the others by name", () => {
    const step = fc.record({
      id: fc.integer({ min: 0, max: 90 }),
      pool: fc.constantFrom("a", "b"),
      gpu: fc.boolean(),
      goes: fc.nat(3).map((each) => each === 0),
    });
    const steps = fc.array(step, { minLength: 60, maxLength: 200 });
    const selectors = fc.constantFrom<NodeSelector>({ pool: "a" }, { gpu: "x", pool: "b" }, { pool: "none" }, {});
    const property = fc.property(steps, fc.integer({ min: 0, max: 100 }), selectors, (steps, heldId, selector) => {
      const index = new NodeIndex();
      const nodes = new Map<string, KubeObject>(); // the slow and obvious twin
      for (const each of steps) {
        const node = nodeOf(each);
        if (each.goes) {
          nodes.delete(node.metadata.name);
          index.remove(node.metadata.name);
        } else {
          nodes.set(node.metadata.name, node);
          index.put(node);
        }
      }
      const isOwn = ({ metadata }: KubeObject) => metadata.name === `n${heldId}` || asksFor(selector, metadata.labels);
      const own = namesOf(nodes.values().filter(isOwn));
      const others = namesOf(nodes.values().filter((node) => !isOwn(node))).slice(0, 8);
      const found = index.concerned(selector, [`n${heldId}`]);
      expect(found.own.map(({ metadata }) => metadata.name)).to.deep.equal(own);
      expect(found.ruledOut.map(({ metadata }) => metadata.name)).to.deep.equal(others);
      for (const node of [...found.own, ...found.ruledOut]) expect(node).to.equal(nodes.get(node.metadata.name));
    });
    fc.assert(property, { numRuns: 300 });
  });
});
