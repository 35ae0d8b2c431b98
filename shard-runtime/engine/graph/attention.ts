/** Attention of one session, one graph for each kind of attention in the model; layers bind their own cache to it. */
import type { AttentionKind, ModelConfig } from "../../../core/model-config.ts";
import { lengthOf } from "../../../core/ranges.ts";
import { type Slice, paddedHeadSize } from "../../../core/slice.ts";
import { attentionWidths } from "../program.ts";
import { GraphBuilder, INT32 } from "./onnx.ts";

/**
 * (qkv [1, S, …], past_key, past_value [1, kvHeads, T, headSize], last_position i32 [1], position_count i32 [],
 * cosine, sine [T, headSize / 2] where the kind turns, sinks [heads] where the model has them) → (attended, key, value);
 * past and present share their memory.
 */
export function attentionGraph(config: ModelConfig, slice: Slice, kind: AttentionKind): Uint8Array {
  const graph = new GraphBuilder("attention");
  const widths = attentionWidths(config, slice);
  const headCount = lengthOf(slice.heads);
  const kvDims = [1, slice.kvHeads.length, "T", paddedHeadSize(config)];
  const turns = kind.rope !== undefined;
  const inputs = [
    graph.input("qkv", [1, "S", widths.qkv]),
    "",
    "",
    graph.input("past_key", kvDims),
    graph.input("past_value", kvDims),
    graph.input("last_position", [1], INT32),
    graph.input("position_count", [], INT32),
    turns ? graph.input("cosine", ["T", "halfHead"]) : "",
    turns ? graph.input("sine", ["T", "halfHead"]) : "",
  ];
  if (config.sinks) inputs.push("", "", graph.input("sinks", [headCount]));
  graph.contrib("GroupQueryAttention", inputs, ["attended", "key", "value"], {
    num_heads: headCount,
    kv_num_heads: slice.kvHeads.length,
    scale: { float: config.attentionScale },
    do_rotary: turns ? 1 : 0,
    rotary_interleaved: 0,
    ...(kind.window === undefined ? {} : { local_window_size: kind.window }),
    ...(config.attentionSoftcap === undefined ? {} : { softcap: { float: config.attentionSoftcap } }),
  });
  graph.output("attended", [1, "S", widths.attended]);
  for (const name of ["key", "value"]) graph.output(name, kvDims);
  return graph.encode();
}
