/** The thread that plans: a world in, its plan out, both as bytes. See planner-thread.ts. */
import { deserialize, serialize } from "node:v8";
import { parentPort } from "node:worker_threads";
import { Bug, present } from "../../core/assert.ts";
import { plan } from "../plan/plan.ts";
import type { World } from "../plan/types.ts";
import type { Answer } from "./planner-thread.ts";

const port = present(parentPort, "this file runs as a thread");

function answer(bytes: Uint8Array): Answer {
  try {
    return { ok: true, plan: serialize(plan(deserialize(bytes) as World)) };
  } catch (error) {
    const detail = error instanceof Error ? (error.stack ?? error.message) : String(error);
    return { ok: false, isBug: error instanceof Bug, detail };
  }
}

port.on("message", (bytes: Uint8Array) => {
  const found = answer(bytes);
  port.postMessage(found, found.ok ? [found.plan.buffer] : []);
});
