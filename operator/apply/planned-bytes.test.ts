import { expect } from "chai";
import type { KubeObject } from "../kube/objects.ts";
import { RUNTIME_BYTES } from "../plan/footprint.ts";
import type { Assignment } from "../plan/types.ts";
import { proposalLabels } from "./labels.ts";
import { PlannedBytes } from "./planned-bytes.ts";

const rank = (node: string, weightBytes: number, segment = 0): Assignment => ({
  ...{ chain: 0, segment, rank: 0, node, provider: "p", layers: { start: 0, end: 1 }, sliceWeights: [1] },
  ...{ weightBytes, kvBytes: 0 },
});

/** A stored plan of `model`, one rank on each node. */
const plan = (model: string, nodes: Readonly<Record<string, number>>, generation = 1, uid = model): KubeObject => ({
  metadata: { namespace: "n", name: model, uid, generation },
  spec: {
    chains: [
      {
        index: 0,
        segments: Object.entries(nodes).map(([node, weightBytes], index) => ({
          layers: { start: index, end: index + 1 },
          ranks: [{ name: `${model}-0-${index}-0`, node, provider: "p", sliceWeight: 1, weightBytes, kvBytes: 0 }],
        })),
      },
    ],
  },
});

const bytes = (...weights: readonly number[]) => weights.reduce((sum, each) => sum + each + RUNTIME_BYTES, 0);

describe("memory that plans take", () => {
  it("is what all other models' plans hold of a node", () => {
    const planned = new PlannedBytes();
    planned.put(plan("a", { x: 10, y: 20 }));
    planned.put(plan("b", { x: 5 }));
    expect(planned.besides("n/a", "x")).to.equal(bytes(5));
    expect(planned.besides("n/b", "x")).to.equal(bytes(10));
    expect(planned.besides("n/c", "x")).to.equal(bytes(10, 5));
    expect(planned.besides("n/a", "y")).to.equal(0);
    planned.put(plan("a", { y: 1 }, 2));
    expect(planned.besides("n/c", "x")).to.equal(bytes(5));
    planned.remove(plan("a", {}, 2));
    planned.remove(plan("b", {}));
    expect(["x", "y"].map((node) => planned.besides("n/c", node))).to.deep.equal([0, 0]);
  });

  it("leaves aside what is older, what is another object's end, and what only waits for an approval", () => {
    const planned = new PlannedBytes();
    planned.put(plan("a", { x: 10 }, 2));
    planned.put(plan("a", { x: 99 }, 1));
    expect(planned.besides("n/c", "x")).to.equal(bytes(10));
    planned.remove(plan("a", {}, 1, "one before"));
    const waits = plan("a.proposed", { x: 50 });
    planned.put({ ...waits, metadata: { ...waits.metadata, labels: proposalLabels({ name: "a" }) } });
    expect(planned.besides("n/c", "x")).to.equal(bytes(10));
  });

  it("counts what is about to be written, and takes it back where it was not", () => {
    const planned = new PlannedBytes();
    planned.put(plan("a", { x: 10 }));
    planned.reserve("n/a", [rank("x", 30), rank("y", 7, 1)]);
    expect(planned.besides("n/c", "x")).to.equal(bytes(30));
    planned.release("n/a", plan("a", { x: 10 }));
    expect(["x", "y"].map((node) => planned.besides("n/c", node))).to.deep.equal([bytes(10), 0]);
    planned.reserve("n/new", [rank("y", 3)]);
    planned.release("n/new", undefined);
    expect(planned.besides("n/c", "y")).to.equal(0);
  });
});
