/**
 * Whether a rank's device can be had, and can run its model, before any weight is fetched for it. In a thread that ends
 * with the answer: opening a GPU blocks, and what a driver keeps for a thread should not stay with the event loop's.
 */
import { Worker } from "node:worker_threads";
import type { ModelConfig } from "../../core/model-config.ts";
import { RefusalError, refuse } from "../../core/result.ts";
import { keepLibrary } from "./ort-api.ts";
import type { PackFormat } from "./shard.ts";

export type DeviceCheck = {
  readonly device: string;
  readonly config: ModelConfig;
  readonly quantization: PackFormat;
};

/** What the thread says: the refusal, or nothing. */
export type DeviceAnswer = { readonly code: string; readonly message: string } | undefined;

/** Rejects with a RefusalError (`DeviceMissing`, `EngineUnavailable`) that says what the node has and what to do. */
export async function checkDevice(check: DeviceCheck): Promise<void> {
  if (check.device === "cpu") return;
  keepLibrary();
  const thread = new Worker(new URL("./check-device-body.ts", import.meta.url), { workerData: check });
  const answer = await new Promise<DeviceAnswer>((resolve, reject) => {
    thread.once("message", resolve);
    thread.once("error", reject);
    thread.once("exit", () => reject(new Error("the thread that opens the device ended without an answer")));
  });
  if (answer !== undefined) throw new RefusalError(refuse(answer.code, answer.message));
}
