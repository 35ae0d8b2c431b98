/** Attention of one session, one graph for each kind of attention in the model; layers bind their own cache to it. */
import type { AttentionKind, ModelConfig } from "../../../core/model-config.ts";
import { lengthOf } from "../../../core/ranges.ts";
import { type Slice, paddedHeadSize } from "../../../core/slice.ts";
import { attentionWidths } from "../program.ts";
import { FLOAT, FLOAT16, GraphBuilder, INT32 } from "./onnx.ts";

/**
 * (qkv [1, S, …], past_key, past_value [1, kvHeads, T, headSize], last_position i32 [1], position_count i32 [],
 * cosine, sine [T, headSize / 2] where the kind turns, sinks [heads] where the model has them) → (attended, key, value);
 * past and present share their memory. With f16, caches, tables and sinks are f16, and what comes in and goes out is f32.
 */
export function attentionGraph(
  config: ModelConfig,
  slice: Slice,
  kind: AttentionKind,
  type: "f32" | "f16" = "f32",
): Uint8Array {
  const dataType = type === "f32" ? FLOAT : FLOAT16;
  const graph = new GraphBuilder("attention");
  const widths = attentionWidths(config, slice);
  const headCount = lengthOf(slice.heads);
  const kvDims = [1, slice.kvHeads.length, "T", paddedHeadSize(config)];
  const turns = kind.rope !== undefined;
  const qkv = graph.input("qkv", [1, "S", widths.qkv]);
  const inputs = [
    type === "f32" ? qkv : graph.node("Cast", [qkv], ["qkv_half"], { to: FLOAT16 }),
    "",
    "",
    graph.input("past_key", kvDims, dataType),
    graph.input("past_value", kvDims, dataType),
    graph.input("last_position", [1], INT32),
    graph.input("position_count", [], INT32),
    turns ? graph.input("cosine", ["T", "halfHead"], dataType) : "",
    turns ? graph.input("sine", ["T", "halfHead"], dataType) : "",
  ];
  if (config.sinks) inputs.push("", "", graph.input("sinks", [headCount], dataType));
  const attended = type === "f32" ? "attended" : "attended_half";
  graph.contrib("GroupQueryAttention", inputs, [attended, "key", "value"], {
    num_heads: headCount,
    kv_num_heads: slice.kvHeads.length,
    scale: { float: config.attentionScale },
    do_rotary: turns ? 1 : 0,
    rotary_interleaved: 0,
    ...(kind.window === undefined ? {} : { local_window_size: kind.window }),
    ...(config.attentionSoftcap === undefined ? {} : { softcap: { float: config.attentionSoftcap } }),
  });
  if (type === "f16") graph.node("Cast", [attended], ["attended"], { to: FLOAT });
  graph.output("attended", [1, "S", widths.attended]);
  for (const name of ["key", "value"]) graph.output(name, kvDims, dataType);
  return graph.encode();
}
