/** The command `tessellate`, waited for. */
import { spawnSync } from "node:child_process";

export function tessellate(...options: readonly string[]): {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
} {
  const { status, stdout, stderr } = spawnSync(process.execPath, ["cli/main.ts", ...options], { encoding: "utf8" });
  return { status, stdout, stderr };
}
