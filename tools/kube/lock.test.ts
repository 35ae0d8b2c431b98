import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { withLock } from "./lock.ts";

describe("the lock between builds", () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "lock-"));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  it("is let go when the work is done, and when it fails", async () => {
    const path = join(folder, "lock");
    expect(
      await withLock(
        path,
        () => {},
        async () => existsSync(path),
      ),
    ).to.equal(true);
    const failing = withLock(
      path,
      () => {},
      () => Promise.reject(new Error("no luck")),
    );
    expect(await failing.catch((error: Error) => error.message)).to.equal("no luck");
    expect(existsSync(path)).to.equal(false);
  });

  it("is taken over from a process that is gone", async () => {
    const path = join(folder, "lock");
    const gone = spawnSync(process.execPath, ["--eval", "0"]).pid;
    writeFileSync(path, String(gone));
    const reports: string[] = [];
    expect(
      await withLock(
        path,
        (line) => reports.push(line),
        async () => "done",
      ),
    ).to.equal("done");
    expect(reports).to.deep.equal([]);
  });

  it("is waited for while its owner lives, and says for whom", async () => {
    const path = join(folder, "lock");
    writeFileSync(path, String(process.pid));
    const order: string[] = [];
    await withLock(
      path,
      (line) => {
        order.push(line);
        rmSync(path);
      },
      async () => order.push("work"),
    );
    expect(order).to.deep.equal([`waiting for process ${process.pid}, which does the same (${path})`, "work"]);
  });
});
