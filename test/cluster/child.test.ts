import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "chai";
import { requireOrSkip, whyNoProcessKubelet } from "../requirement.ts";
import { removeFolder, temporaryFolder } from "./child.ts";
import { commandLinesWith } from "./command-lines.ts";

const HERE = import.meta.dirname;
/** Nobody else on this machine sleeps that long. */
const MARK = `1000000.${process.pid}`;

/** Starts a process of its own and a container in it that ends by nothing but a signal, and says where its folder is. */
const ORPHAN_MAKER = `
  import { startChild, temporaryFolder } from "${HERE}/child.ts";
  import { startContainerProcess } from "${HERE}/container-process.ts";
  const folder = await temporaryFolder();
  const logFile = folder + "/log";
  startChild({ path: "/bin/sleep", args: ["${MARK}1"], environment: {}, logFile, folder });
  const container = { name: "c", image: "none", securityContext: { runAsNonRoot: true } };
  const { started } = startContainerProcess({
    container, podSpec: { containers: [container] }, hostname: "c", environment: { PATH: "/usr/bin:/bin" }, mounts: [],
    line: ["sh", "-c", "sleep ${MARK}2 & wait"], folder: folder + "/c", runFolder: folder, logFile,
  });
  await started;
  console.log(folder);
  await new Promise(() => setInterval(() => {}, 1000));
`;

describe("processes and folders of a test run", function () {
  this.timeout(60_000);

  before(function () {
    const why = whyNoProcessKubelet();
    requireOrSkip(this, why);
  });

  for (const signal of ["SIGTERM", "SIGKILL"] as const) {
    it(`outlive neither it nor its successor when it ends by ${signal}`, async () => {
      const run = spawn(process.execPath, ["--input-type=module", "--eval", ORPHAN_MAKER], {
        stdio: ["ignore", "pipe", "inherit"],
      });
      const [line] = await once(run.stdout, "data");
      const folder = String(line).trim();
      await until(() => commandLinesWith(`sleep ${MARK}2`).length > 0 && commandLinesWith(`sleep ${MARK}1`).length > 0);
      expect(existsSync(folder)).to.equal(true);

      run.kill(signal);
      await once(run, "exit");
      await until(() => commandLinesWith(`sleep ${MARK}`).length === 0);
      // A killed process cannot remove its folder; the next run does.
      expect(existsSync(folder)).to.equal(signal === "SIGKILL");
      const next = await temporaryFolder();
      expect(dirname(next)).to.equal(dirname(folder));
      expect(existsSync(folder)).to.equal(false);
      removeFolder(next);
      expect(existsSync(next)).to.equal(false);
    });
  }
});

/** The kernel tells nobody when a stranger's process is gone, so this looks again and again. */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await sleep(20);
}
