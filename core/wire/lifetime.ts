/** How long a process of ours lives: until SIGTERM or SIGINT, and no longer than whoever started it to serve them. */

const ECHO_MS = 1_000;

/**
 * Resolves with the reason when this process should end. A signal a second or more after the first ends it at once. With
 * TESSELLATE_EXIT_WITH_STDIN set, the end of stdin is a reason too: a supervisor that dies without a word closes the pipe.
 */
export function lifetime(): Promise<string> {
  return new Promise((resolve) => {
    let askedAt: number | undefined;
    for (const signal of ["SIGTERM", "SIGINT"] as const) {
      process.on(signal, () => {
        // One Ctrl-C can arrive twice: from the terminal's process group, and passed on by whoever started this process.
        if (askedAt !== undefined && performance.now() - askedAt > ECHO_MS) process.exit(1);
        askedAt ??= performance.now();
        resolve(signal);
      });
    }
    if (process.env["TESSELLATE_EXIT_WITH_STDIN"] === undefined) return;
    process.stdin.on("end", () => resolve("stdin ended"));
    process.stdin.on("error", () => resolve("stdin ended"));
    process.stdin.resume();
  });
}
