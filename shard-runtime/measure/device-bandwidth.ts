/**
 * Bytes a second that a GPU's memory gives: rows copied from one buffer of the device to another by the engine that serves,
 * each byte read once and written once. In a thread that ends with the answer: opening a GPU blocks.
 */
import { Worker } from "node:worker_threads";
import { RefusalError, refuse } from "../../core/result.ts";
import { keepLibrary } from "../engine/ort-api.ts";

/** What the thread says. */
export type BandwidthAnswer = { readonly bytesPerSecond: number } | { readonly code: string; readonly message: string };

/** `device`: webgpu, cuda and so on. Rejects with a RefusalError (`DeviceMissing`) that says what the node has. */
export async function measureDeviceBandwidth(device: string): Promise<number> {
  keepLibrary();
  const thread = new Worker(new URL("./device-bandwidth-body.ts", import.meta.url), { workerData: device });
  const answer = await new Promise<BandwidthAnswer>((resolve, reject) => {
    thread.once("message", resolve);
    thread.once("error", reject);
    thread.once("exit", () => reject(new Error("the thread that opens the device ended without an answer")));
  });
  if ("code" in answer) throw new RefusalError(refuse(answer.code, answer.message));
  return answer.bytesPerSecond;
}
