/** Our side of a bench: a process with the engine of one whole model on its own thread, as a rank has it. */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { KvDtype } from "../../core/kv-cache.ts";
import { benchCache } from "./bench-cache.ts";
import { type LineProcess, startLineProcess } from "./line-process.ts";
import type { Side } from "./llama-cpp.ts";

const BODY = fileURLToPath(new URL("./engine-side-body.ts", import.meta.url));

export type EngineSideOptions = {
  readonly checkpoint: string;
  readonly contextLength: number; // positions of each slot
  readonly slotCount: number;
  readonly threadCount: number;
  readonly spin: boolean;
  readonly kvDtype?: KvDtype; // default f32
  readonly products?: "ours" | "built-in"; // default ours, where there is a compiler
};

export type EngineSide = Side & {
  readonly pid: number;
  readonly weightBytes: number; // packed matrices, norms and scales; without the embedding, of which a token reads one row
  readonly kvBytesPerPosition: number; // of one slot
  readonly driftClass: string;
  readonly beganMs: number; // from the start of the process until it began to read the packed shard
  /** 99th percentile of how late the event loop was since the last call, in milliseconds. */
  loopLagMs(): Promise<number>;
};

/** Packs into the bench's cache where that is not done, then loads. */
export async function startEngineSide(options: EngineSideOptions): Promise<EngineSide> {
  const { pid, ask, stop }: LineProcess = startLineProcess(process.execPath, [BODY], {
    NODE_COMPILE_CACHE: join(benchCache(), "code"),
  });
  const loaded = await ask({ do: "load", ...options });
  return {
    pid,
    weightBytes: Number(loaded["weightBytes"]),
    kvBytesPerPosition: Number(loaded["kvBytesPerPosition"]),
    driftClass: String(loaded["driftClass"]),
    beganMs: Number(loaded["beganMs"]),
    prefill: async (rows) => Number((await ask({ do: "prefill", rows }))["ms"]),
    prompt: async (streams, rows) => {
      await ask({ do: "prompt", streams, rows });
    },
    decode: async (steps) => (await ask({ do: "decode", steps }))["ms"] as readonly number[],
    loopLagMs: async () => Number((await ask({ do: "lag" }))["p99Ms"]),
    stop,
  };
}
