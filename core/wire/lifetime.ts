/** How long a process of ours lives: until SIGTERM or SIGINT, and no longer than whoever started it to serve them. */

/**
 * Resolves with the reason when this process should end. A second signal ends it at once. With
 * TESSELLATE_EXIT_WITH_STDIN set, the end of stdin is a reason too: a supervisor that dies without a word closes the pipe.
 */
export function lifetime(): Promise<string> {
  return new Promise((resolve) => {
    let asked = false;
    for (const signal of ["SIGTERM", "SIGINT"] as const) {
      process.on(signal, () => {
        if (asked) process.exit(1);
        asked = true;
        resolve(signal);
      });
    }
    if (process.env["TESSELLATE_EXIT_WITH_STDIN"] === undefined) return;
    process.stdin.on("end", () => resolve("stdin ended"));
    process.stdin.on("error", () => resolve("stdin ended"));
    process.stdin.resume();
  });
}
