import { expect } from "chai";
import fc from "fast-check";
import type { KubeObject } from "../kube/objects.ts";
import { concerned } from "./observe.ts";

const node = (name: string, pool: string): KubeObject => ({ metadata: { name, labels: { pool } } });
const namesOf = (nodes: readonly KubeObject[]) => nodes.map(({ metadata }) => metadata.name).sort();

describe("nodes that a look at a model is concerned with", () => {
  it("are all that its selector asks for and that hold something of it, and the first 32 of the others by name", () => {
    const pools = fc.constantFrom("a", "b");
    const someNodes = fc.uniqueArray(fc.tuple(fc.integer({ min: 0, max: 200 }), pools), { selector: ([id]) => id });
    const property = fc.property(someNodes, fc.integer({ min: 0, max: 200 }), (drawn, heldId) => {
      const nodes = drawn.map(([id, pool]) => node(`n${id}`, pool));
      const held = new Set([`n${heldId}`]);
      const isOwn = ({ metadata }: KubeObject) => metadata.labels?.["pool"] === "a" || held.has(metadata.name);
      const others = namesOf(nodes.filter((each) => !isOwn(each))).slice(0, 32);
      const wanted = [...namesOf(nodes.filter(isOwn)), ...others].sort();
      expect(namesOf(concerned(nodes, { pool: "a" }, held))).to.deep.equal(wanted);
      expect(concerned(nodes, {}, held)).to.deep.equal(nodes);
    });
    fc.assert(property, { numRuns: 300 });
  });
});
