/** The command `tessellate`, in a process of its own. */
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";

export type Outcome = { readonly code: number; readonly stdout: string; readonly stderr: string };

const MAIN = fileURLToPath(new URL("../cli/main.ts", import.meta.url));
/** As tools/start.mjs keeps it: without, each call would strip the types of all sources anew. */
const CACHE = fileURLToPath(new URL("../node_modules/.cache/node", import.meta.url));

/** `environment` is all that the process gets; left out, it gets this one's. */
export function tessellate(
  args: readonly string[],
  environment: Readonly<Record<string, string | undefined>> = process.env,
): Promise<Outcome> {
  const env = { NODE_COMPILE_CACHE: process.env["NODE_COMPILE_CACHE"] ?? CACHE, ...environment };
  return new Promise((resolve) => {
    execFile(process.execPath, [MAIN, ...args], { env }, (error, stdout, stderr) =>
      resolve({ code: typeof error?.code === "number" ? error.code : error === null ? 0 : 1, stdout, stderr }),
    );
  });
}
