/**
 * Measures this machine in a process of its own and prints the figures as one line of JSON: whatever the engine takes is
 * given back when it ends, and the agent answers meanwhile. With --list-gpus it prints what GPUs' drivers say instead.
 */
import { mkdirSync } from "node:fs";
import { parseArgs } from "node:util";
import { systemClock } from "../../core/wire/clock.ts";
import { gpus } from "../engine/adapters.ts";
import { measureBandwidth, measureDeviceBandwidth, measureLayer } from "../measure.ts";

const { values } = parseArgs({
  options: {
    device: { type: "string", default: "cpu" },
    threads: { type: "string", default: "1" },
    cache: { type: "string", default: "" },
    layers: { type: "boolean", default: false },
    "list-gpus": { type: "boolean", default: false },
  },
});
if (values["list-gpus"]) {
  process.stdout.write(`${JSON.stringify(gpus())}\n`);
  process.exit(0);
}
const { device, cache: cacheDirectory } = values;
const threadCount = Number(values.threads);
const memoryBytesPerSecond =
  device === "cpu" ? await measureBandwidth(threadCount, systemClock) : await measureDeviceBandwidth(device);
mkdirSync(cacheDirectory, { recursive: true });
const layerTimes = values.layers
  ? await measureLayer({ device, threadCount, cacheDirectory, clock: systemClock, say: () => {} })
  : undefined;
process.stdout.write(`${JSON.stringify({ memoryBytesPerSecond, layerTimes })}\n`);
process.exit(0);
