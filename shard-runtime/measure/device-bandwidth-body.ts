/** What runs on the thread of device-bandwidth.ts. */
import { parentPort, workerData } from "node:worker_threads";
import { present } from "../../core/assert.ts";
import { RefusalError } from "../../core/result.ts";
import { readRows } from "../engine/device.ts";
import { openDevice } from "../engine/open-device.ts";
import { Ort } from "../engine/ort.ts";
import type { BandwidthAnswer } from "./device-bandwidth.ts";

const WIDTH = 4_096;
const ROW_COUNT = 4_096; // 64 MiB of f32, larger than a GPU's caches
const ROUND_COUNT = 5;
const COPY_COUNT = 8; // of a round, so that starting and waiting count for little
const TIME_MS_MAX = 5_000;

function answer(kind: string): BandwidthAnswer {
  try {
    const ort = new Ort({ threadCount: 1, spin: false });
    try {
      const device = openDevice(kind, ort);
      const [one, other] = [device.buffer(ROW_COUNT, WIDTH), device.buffer(ROW_COUNT, WIDTH)];
      const copy = (count: number): number => {
        const startMs = performance.now();
        for (let index = 0; index < count; index += 1) device.copyRows(one, 0, other, 0, ROW_COUNT);
        readRows(device, other, 0, 1); // waits for what runs
        return performance.now() - startMs;
      };
      // The first copy builds its graph, and shows how many there is time for.
      copy(1);
      const count = copy(1) * COPY_COUNT * ROUND_COUNT > TIME_MS_MAX ? 1 : COPY_COUNT;
      const bestMs = Math.min(...Array.from({ length: ROUND_COUNT }, () => copy(count)));
      device.close();
      return { bytesPerSecond: Math.round((2 * 4 * ROW_COUNT * WIDTH * count * 1000) / bestMs) };
    } finally {
      ort.close();
    }
  } catch (cause) {
    if (cause instanceof RefusalError) return { code: cause.code, message: cause.message };
    throw cause;
  }
}

present(parentPort, "this file runs as a thread").postMessage(answer(workerData));
