/** What a cluster might leave on the machine it ran on, for a comparison of before and after. */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { controlGroupsOfClusters } from "./control-groups.ts";
import { runLine } from "./sandbox.ts";

/** Sorted lines, one per thing. Those of other cluster tests that run on the machine at the same time are left out. */
export interface Traces {
  readonly interfaces: readonly string[];
  readonly firewallTables: readonly string[];
  readonly mounts: readonly string[];
  readonly controlGroups: readonly string[];
  readonly folders: readonly string[];
  /** Processes that are in namespaces of this test run's, or speak of its folders. */
  readonly processes: readonly string[];
}

/** `marks` are what this run's processes name: its folder, its control groups. */
export async function traces(marks: readonly string[]): Promise<Traces> {
  const lines = async (...line: readonly string[]) =>
    (await runLine(line, { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" })).split("\n").filter(Boolean).sort();
  const interfaces = (await lines("/usr/sbin/ip", "-o", "link")).map((line) => line.split(": ")[1] ?? line);
  const ofThisRun = (text: string) => text.includes(`-${process.pid}`) || marks.some((mark) => text.includes(mark));
  return {
    interfaces: interfaces.sort(),
    firewallTables: await lines("/usr/sbin/nft", "list", "tables"),
    mounts: mountPoints().filter(ofThisRun),
    controlGroups: controlGroupsOfClusters().filter(ofThisRun),
    folders: readdirSync(tmpdir()).filter((name) => name.startsWith("tessellate-") && ofThisRun(name)),
    processes: processesThat(ofThisRun),
  };
}

const mountPoints = (): readonly string[] =>
  readFileSync("/proc/self/mountinfo", "utf8")
    .split("\n")
    .map((line) => line.split(" ")[4] ?? "");

/** Identifiers of a process' namespaces of network and mounts, as the kernel names them. */
export function namespacesOf(pid: number | string): readonly string[] {
  try {
    return ["net", "mnt", "pid"].map((kind) => readlinkSync(`/proc/${pid}/ns/${kind}`));
  } catch {
    return []; // it has ended
  }
}

/** Those that are in one of the namespaces named. */
export function processesIn(namespaces: readonly string[]): readonly string[] {
  return processIds().filter((pid) => namespacesOf(pid).some((name) => namespaces.includes(name)));
}

const processIds = (): readonly string[] => readdirSync("/proc").filter((name) => /^\d+$/.test(name));

function processesThat(matches: (text: string) => boolean): readonly string[] {
  return processIds()
    .filter((pid) => Number(pid) !== process.pid)
    .flatMap((pid) => {
      try {
        const line = readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ");
        const groups = readFileSync(`/proc/${pid}/cgroup`, "utf8");
        return matches(line) || matches(groups) ? [`${pid} ${line}`] : [];
      } catch {
        return []; // it ended between the reads
      }
    })
    .sort();
}
