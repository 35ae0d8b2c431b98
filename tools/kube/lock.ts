/** A lock between processes: a file that holds the owner's process id. Node has no flock. */
import { link, readFile, rm, writeFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";

const REPORT_EVERY_MS = 15_000;
const POLL_MS = 500;

/**
 * Runs `work` while holding the file at `path`, waiting for whoever holds it now, however long that takes. A lock whose
 * owner is gone is taken over; should two runs take the same dead lock over at once, both work, so the work itself must
 * stay right when done twice.
 */
export async function withLock<T>(path: string, report: (line: string) => void, work: () => Promise<T>): Promise<T> {
  await acquire(path, report);
  try {
    return await work();
  } finally {
    await rm(path, { force: true });
  }
}

async function acquire(path: string, report: (line: string) => void): Promise<void> {
  const mine = `${path}.${process.pid}`;
  await writeFile(mine, String(process.pid));
  try {
    let reportedMs = Number.NEGATIVE_INFINITY;
    // Linking puts the name and the content there in one step: nobody ever reads a lock without an owner.
    while (!(await tryLink(mine, path))) {
      const owner = Number(await readFile(path, "utf8").catch(() => "0"));
      if (owner !== 0 && !isAlive(owner)) await rm(path, { force: true });
      else {
        if (performance.now() - reportedMs > REPORT_EVERY_MS) {
          reportedMs = performance.now();
          report(`waiting for process ${owner}, which does the same (${path})`);
        }
        await sleep(POLL_MS);
      }
    }
  } finally {
    await rm(mine, { force: true });
  }
}

async function tryLink(existing: string, created: string): Promise<boolean> {
  try {
    await link(existing, created);
    return true;
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "EEXIST") return false;
    throw error;
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "EPERM";
  }
}
