/** The machine that a bench runs on, as far as Node and Linux tell. */
import { readFileSync, readdirSync } from "node:fs";
import { availableParallelism, cpus, loadavg, platform, totalmem } from "node:os";

const GIB = 2 ** 30;

/** Read when a bench begins. `loadBefore` above 0.5 or so says that others use the machine, and figures mean less. */
export const machineFacts = () => ({
  machine: `${availableParallelism()} cores of ${cpus()[0]?.model ?? "an unknown processor"}, ${Math.round(totalmem() / GIB)} GiB, ${platform()}`,
  loadBefore: Math.round((loadavg()[0] ?? 0) * 10) / 10,
});

/** A figure of /proc/PID/status in bytes: VmRSS now, VmHWM at its highest. NaN where there is no such thing. */
export function memoryOf(pid: number | "self", field: "VmRSS" | "VmHWM"): number {
  try {
    const found = new RegExp(`^${field}:\\s+(\\d+) kB$`, "m").exec(readFileSync(`/proc/${pid}/status`, "utf8"));
    return Number(found?.[1] ?? Number.NaN) * 1024;
  } catch {
    return Number.NaN;
  }
}

/** Bytes that this process has read through calls of the system so far. */
export function bytesRead(): number {
  const found = /^rchar: (\d+)$/m.exec(readFileSync("/proc/self/io", "utf8"));
  return Number(found?.[1] ?? Number.NaN);
}

/** Processes that this one started whose command line contains `words`. */
export function childrenOf(words: string): readonly number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        const parent = /^PPid:\s+(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
        return Number(parent) === process.pid && readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(words);
      } catch {
        return false; // it has ended
      }
    });
}
