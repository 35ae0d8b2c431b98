import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect } from "chai";

const run = promisify(execFile);
const HERE = fileURLToPath(new URL("./", import.meta.url));
/** The crew that let late members claim what lay between two ends was caught by job 35,000 or so. */
const JOB_COUNT = "100000";

describe("the crew", () => {
  let directory: string;
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "tessellate-crew-"));
    const sources = ["crew-check.c", "crew.c"].map((name) => join(HERE, name));
    await run("cc", ["-O2", "-pthread", "-o", join(directory, "check"), ...sources]);
  });
  after(() => rm(directory, { recursive: true, force: true }));

  for (const members of ["2", "6"])
    it(`of ${members} does every item of every job once, however late a member comes`, async () => {
      const { stdout } = await run(join(directory, "check"), [members, JOB_COUNT]);
      expect(stdout).to.equal(`${JOB_COUNT} jobs\n`);
    });
});
