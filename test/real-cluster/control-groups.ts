/**
 * Control groups of the test cluster: the one thing that has no namespace of its own here and must be cleared away by
 * hand. Both of Linux' forms: one hierarchy for all controllers (version 2), or one for each (version 1).
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { until } from "../until.ts";

const ROOT = "/sys/fs/cgroup";
const PREFIX = "tessellate-nodes-";
/** What kubelets count and limit with. */
const CONTROLLERS = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids"];

export const controlGroupName = (pid: number): string => `${PREFIX}${pid}`;

const isVersion2 = (): boolean => existsSync(join(ROOT, "cgroup.controllers"));

/** Mount points of all hierarchies; of version 1 there are several, some of them links to others. */
function hierarchies(): readonly string[] {
  if (isVersion2()) return [ROOT];
  const mounted = readFileSync("/proc/self/mountinfo", "utf8")
    .split("\n")
    .filter((line) => / - cgroup2? /.test(line))
    .map((line) => line.split(" ")[4] ?? "");
  return [...new Set(mounted)].filter((path) => path.startsWith(ROOT));
}

/** Makes `name` (may have slashes) in every hierarchy, ready for a kubelet to make its own below. */
export function makeControlGroup(name: string): void {
  for (const hierarchy of hierarchies()) {
    let path = hierarchy;
    for (const part of name.split("/")) {
      const parent = path;
      path = join(parent, part);
      mkdirSync(path, { recursive: true });
      if (isVersion2()) delegate(parent);
      // A new cpuset of version 1 allows no processor at all until it is told which.
      for (const file of ["cpuset.cpus", "cpuset.mems"]) {
        if (!isVersion2() && existsSync(join(path, file)))
          writeFileSync(join(path, file), readFileSync(join(parent, file)));
      }
    }
    if (isVersion2()) delegate(path);
  }
}

/** Lets the groups below `path` use every controller that it may pass on. */
function delegate(path: string): void {
  const available = readFileSync(join(path, "cgroup.controllers"), "utf8").trim().split(" ");
  for (const controller of CONTROLLERS.filter((name) => available.includes(name)))
    writeFileSync(join(path, "cgroup.subtree_control"), `+${controller}`);
}

/** Ours and those of any other run, as paths below their hierarchy's mount point. */
export function controlGroupsOfClusters(): readonly string[] {
  return hierarchies().flatMap((hierarchy) =>
    readdirSync(hierarchy)
      .filter((name) => name.startsWith(PREFIX))
      .map((name) => join(hierarchy, name)),
  );
}

/** Resolves when `name` and all below is gone; the processes in it must have been ended. */
export async function removeControlGroups(name: string): Promise<void> {
  for (const hierarchy of hierarchies()) {
    const path = join(hierarchy, name);
    // The kernel counts a process out of its group a moment after it has ended.
    if (existsSync(path)) await until(`${path} to be empty`, () => removeTree(path), { timeoutMs: 30_000 });
  }
}

/** Removes what runs have left whose process is gone. */
export async function sweepControlGroups(): Promise<void> {
  for (const path of controlGroupsOfClusters()) {
    const owner = Number(path.slice(path.lastIndexOf(PREFIX) + PREFIX.length));
    if (!existsSync(`/proc/${owner}`))
      await until(`${path} to be empty`, () => removeTree(path), { timeoutMs: 30_000 });
  }
}

/** Innermost first; files in there go with their folder. */
function removeTree(path: string): true {
  for (const entry of readdirSync(path, { withFileTypes: true })) {
    if (entry.isDirectory()) removeTree(join(path, entry.name));
  }
  rmdirSync(path);
  return true;
}
