/**
 * What a test needs beyond Node: root, Linux, a browser, a GPU. Nothing is passed over silently: in CI a test that
 * cannot run is a failure, elsewhere it is skipped and the reason is printed.
 */
import { execFileSync } from "node:child_process";
import type { Context } from "mocha";
import { machineLibrary } from "../shard-runtime/engine/native/products.ts";

/**
 * Goes on where nothing is missing. Where `why`, a sentence, names what is: throws if the environment variable CI is set,
 * and otherwise skips the running test or hook (`context` is mocha's `this`) and prints it.
 */
export function requireOrSkip(context: Context, why: string | undefined): void {
  if (why === undefined) return;
  const title = context.currentTest?.fullTitle() ?? context.test?.fullTitle() ?? "a test";
  if (process.env["CI"]) throw new Error(`${title} cannot run, and in CI it must: ${why}`);
  process.stderr.write(`NOT RUN: ${title}: ${why}\n`);
  context.skip();
}

/** The path of our operators, compiled into `directory` if they are nowhere yet, which takes seconds; or as above. */
export async function operatorsOrSkip(context: Context, directory: string): Promise<string> {
  const library = await machineLibrary(directory);
  if ("path" in library) return library.path;
  requireOrSkip(context, library.reason);
  return "";
}

/** Why pods cannot run as local processes here (see cluster/process-kubelet.ts), or undefined where they can. */
export function whyNoProcessKubelet(): string | undefined {
  if (process.platform !== "linux") return `pods run in Linux namespaces, and this is ${process.platform}`;
  if (process.getuid?.() !== 0) return "pods run in namespaces of their own, which takes root (try sudo)";
  try {
    execFileSync("unshare", ["--mount", "--pid", "--fork", "mount", "-t", "tmpfs", "none", "/mnt"], { stdio: "pipe" });
    return undefined;
  } catch (error) {
    return `pods run in namespaces of their own, and this machine allows none: ${error instanceof Error ? error.message : error}`;
  }
}
