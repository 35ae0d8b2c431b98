/** What each part of a control plane has used of the CPU, and this process beside it. Linux only. */
import { readFileSync, readdirSync } from "node:fs";
import { basename } from "node:path";
import type { ControlPlane } from "./control-plane.ts";

/** CPU seconds since its start, user and system together, by the program's name. */
export type PartsCpu = { seconds(): ReadonlyMap<string, number> };

const TICKS_A_SECOND = 100; // Linux counts so, whatever the kernel's own clock

/** Finds them by the folder that each of them is told of. */
export function partsCpu({ directory }: Pick<ControlPlane, "directory">): PartsCpu {
  const numbers = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  const pids = numbers.flatMap((pid) => {
    const line = textOf(`/proc/${pid}/cmdline`);
    const [program = ""] = line.split("\0");
    return line.includes(directory) && basename(program) !== "node" ? [[basename(program), pid] as const] : [];
  });
  const known = [...pids, ["bench", String(process.pid)] as const];
  return { seconds: () => new Map(known.map(([name, pid]) => [name, cpuSecondsIn(textOf(`/proc/${pid}/stat`))])) };
}

/** Of what `/proc/PID/stat` says; 0 of a process that is no more. */
export function cpuSecondsIn(stat: string): number {
  // The second field is the command's name, in brackets, and may hold anything.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11] ?? 0) + Number(fields[12] ?? 0)) / TICKS_A_SECOND;
}

function textOf(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return ""; // it has ended
  }
}
