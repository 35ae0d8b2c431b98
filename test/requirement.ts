/**
 * What a test needs beyond Node: root, Linux, a browser, a GPU. Nothing is passed over silently: in CI a test that
 * cannot run is a failure, elsewhere it is skipped and the reason is printed.
 */
import { execFileSync } from "node:child_process";
import type { Context } from "mocha";

/**
 * Goes on where `condition` holds. Where it does not: throws if the environment variable CI is set, and otherwise
 * skips the running test or hook (`context` is mocha's `this`) and prints `why`, a sentence that names what is missing.
 */
export function requireOrSkip(context: Context, condition: boolean, why: string): void {
  if (condition) return;
  const title = context.currentTest?.fullTitle() ?? context.test?.fullTitle() ?? "a test";
  if (process.env["CI"]) throw new Error(`${title} cannot run, and in CI it must: ${why}`);
  process.stderr.write(`NOT RUN: ${title}: ${why}\n`);
  context.skip();
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
