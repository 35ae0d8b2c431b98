/** The gated feed-forward network, of a layer or of one expert. */
import type { Activation } from "../../../core/model-config.ts";
import type { PackedFeedForward } from "../packed-weights.ts";
import type { GraphBuilder } from "./onnx.ts";
import { project } from "./products.ts";

export function feedForward(
  graph: GraphBuilder,
  activation: Activation,
  packed: PackedFeedForward,
  names: { readonly input: string; readonly output: string },
): void {
  const gateUp = project(graph, names.input, packed.gateUp, "gate_up");
  graph.node("Split", [gateUp], ["gate", "up"], { axis: -1, num_outputs: 2 });
  project(graph, gated(graph, activation), packed.down, names.output);
}

/** From `gate` and `up` to what the down projection reads. */
function gated(graph: GraphBuilder, activation: Activation): string {
  switch (activation.kind) {
    case "silu": {
      const sigmoid = graph.node("Sigmoid", ["gate"], ["sigmoid"]);
      const activated = graph.node("Mul", ["gate", sigmoid], ["activated"]);
      return graph.node("Mul", [activated, "up"], ["product"]);
    }
    case "geluTanh": {
      const activated = graph.contrib("FastGelu", ["gate"], ["activated"]);
      return graph.node("Mul", [activated, "up"], ["product"]);
    }
    case "clampedSwiGlu": {
      const scalar = (name: string, value: number) => graph.constant(name, [], Float32Array.of(value));
      const [limit, floor] = [scalar("limit", activation.limit), scalar("floor", -activation.limit)];
      const gate = graph.node("Clip", ["gate", "", limit], ["gate_clamped"]);
      const up = graph.node("Clip", ["up", floor, limit], ["up_clamped"]);
      const steep = graph.node("Mul", [gate, scalar("alpha", activation.alpha)], ["steep"]);
      const sigmoid = graph.node("Sigmoid", [steep], ["sigmoid"]);
      const activated = graph.node("Mul", [gate, sigmoid], ["activated"]);
      const raised = graph.node("Add", [up, scalar("one", 1)], ["raised"]);
      return graph.node("Mul", [activated, raised], ["product"]);
    }
  }
}
