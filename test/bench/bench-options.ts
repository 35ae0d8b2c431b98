/** What the benches beside llama.cpp take from the command line. */
import { availableParallelism } from "node:os";

export type BenchOptions = {
  readonly threadCount: number; // of either side
  readonly spin: boolean; // our waiting threads spin
};

/**
 * `--threads 2 --spin`. One thread each can be compared on a machine that others use as well: nobody then waits for a
 * thread that has lost its core.
 */
export function benchOptions(args: readonly string[]): BenchOptions {
  const at = args.indexOf("--threads");
  const threadCount = at < 0 ? availableParallelism() : Number(args[at + 1]);
  if (!Number.isInteger(threadCount) || threadCount < 1) throw new Error("--threads wants a whole number from 1 on");
  return { threadCount, spin: args.includes("--spin") };
}
