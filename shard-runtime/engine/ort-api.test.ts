import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";

describe("ONNX Runtime in a process of ours", () => {
  it("keeps nothing of what it does, in the home directory or elsewhere, for anybody to be told", () => {
    const home = mkdtempSync(join(tmpdir(), "tessellate-home-"));
    try {
      const { CI: _, ORT_DISABLE_TELEMETRY: __, ...environment } = process.env; // it tells nobody in CI
      const script = `
        const { Ort } = await import(${JSON.stringify(new URL("ort.ts", import.meta.url).href)});
        new Ort({ threadCount: 1, spin: false }).close();
      `;
      execFileSync(process.execPath, ["--input-type=module", "--eval", script], {
        env: { ...environment, HOME: home, TMPDIR: home, XDG_CACHE_HOME: join(home, "cache"), NODE_COMPILE_CACHE: "" },
        stdio: ["ignore", "ignore", "inherit"],
      });
      expect(readdirSync(home)).to.deep.equal([]);
    } finally {
      rmSync(home, { recursive: true, force: true });
    }
  });
});
