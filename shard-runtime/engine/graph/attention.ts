/** Attention of one session, one graph for each kind of attention in the model; layers bind their own cache to it. */
import { present } from "../../../core/assert.ts";
import { CODES_PER_SCALE } from "../../../core/kv-cache.ts";
import type { AttentionKind, ModelConfig } from "../../../core/model-config.ts";
import { lengthOf } from "../../../core/ranges.ts";
import { type Slice, paddedHeadSize } from "../../../core/slice.ts";
import { attentionWidths } from "../program.ts";
import { FLOAT, FLOAT16, GraphBuilder, INT32, INT8 } from "./onnx.ts";

/** What keys and values are kept as. f16 where a device's attention wants it, int8 where the model asks for it. */
export type CacheType = "f32" | "f16" | "int8";

/** One tensor of a session's cache: `past_NAME` goes into the graph, NAME comes out, in the same memory. */
export type CachePart = { readonly name: string; readonly type: CacheType; readonly width: number };

/** The parts of a cache; each has dimensions [1, kvHeads, positions, width]. */
export function cacheParts(type: CacheType, headSize: number): readonly CachePart[] {
  const parts = ["key", "value"].map((name) => ({ name, type, width: headSize }));
  if (type !== "int8") return parts;
  const width = Math.ceil(headSize / CODES_PER_SCALE);
  return [...parts, ...parts.map(({ name }) => ({ name: `${name}_scale`, type: "f32" as const, width }))];
}

const DATA_TYPES = { f32: FLOAT, f16: FLOAT16, int8: INT8 } as const;

/**
 * (qkv [1, S, …], past_key, past_value [1, kvHeads, T, headSize], last_position i32 [1], position_count i32 [],
 * cosine, sine [T, headSize / 2] where the kind turns, sinks [heads] where the model has them) → (attended, key, value);
 * past and present share their memory. With f16, caches, tables and sinks are f16, and what comes in and goes out is f32.
 * With int8 past_key_scale and past_value_scale come in and key_scale and value_scale go out as well.
 */
export function attentionGraph(
  config: ModelConfig,
  slice: Slice,
  kind: AttentionKind,
  type: CacheType = "f32",
): Uint8Array {
  const dataType = type === "f16" ? FLOAT16 : FLOAT;
  const graph = new GraphBuilder("attention");
  const widths = attentionWidths(config, slice);
  const headCount = lengthOf(slice.heads);
  const parts = cacheParts(type, paddedHeadSize(config));
  const dimsOf = ({ width }: CachePart) => [1, slice.kvHeads.length, "T", width];
  const past = (index: number): string => {
    const part = present(parts[index], "a part of the cache");
    return graph.input(`past_${part.name}`, dimsOf(part), DATA_TYPES[part.type]);
  };
  const turns = kind.rope !== undefined;
  const qkv = graph.input("qkv", [1, "S", widths.qkv]);
  const inputs = [
    type === "f16" ? graph.node("Cast", [qkv], ["qkv_half"], { to: FLOAT16 }) : qkv,
    "",
    "",
    past(0),
    past(1),
    graph.input("last_position", [1], INT32),
    graph.input("position_count", [], INT32),
    turns ? graph.input("cosine", ["T", "halfHead"], dataType) : "",
    turns ? graph.input("sine", ["T", "halfHead"], dataType) : "",
  ];
  if (config.sinks) inputs.push("", "", graph.input("sinks", [headCount], dataType));
  if (type === "int8") inputs.push(...(config.sinks ? [] : ["", "", ""]), past(2), past(3));
  const attended = type === "f16" ? "attended_half" : "attended";
  const outputs = [attended, ...parts.map(({ name }) => name)];
  const attributes = {
    num_heads: headCount,
    kv_num_heads: slice.kvHeads.length,
    scale: { float: config.attentionScale },
    do_rotary: turns ? 1 : 0,
    rotary_interleaved: 0,
    ...(kind.window === undefined ? {} : { local_window_size: kind.window }),
    ...(config.attentionSoftcap === undefined ? {} : { softcap: { float: config.attentionSoftcap } }),
  };
  if (type === "int8") graph.own("Int8Attention", inputs, outputs, attributes);
  else graph.contrib("GroupQueryAttention", inputs, outputs, attributes);
  if (type === "f16") graph.node("Cast", [attended], ["attended"], { to: FLOAT });
  graph.output("attended", [1, "S", widths.attended]);
  for (const part of parts) graph.output(part.name, dimsOf(part), DATA_TYPES[part.type]);
  return graph.encode();
}
