/** Runs the steps of a check one after the other or side by side, with one line each and the output of what failed. */
import { spawn } from "node:child_process";

export type Step = {
  readonly name: string;
  readonly command: readonly [string, ...string[]];
  readonly env?: Readonly<Record<string, string>>;
};
export type Outcome = { readonly step: Step; readonly code: number; readonly output: string; readonly seconds: number };

/** Runs one step. With `live` its output goes straight to the terminal as well. Never throws. */
export function runStep(step: Step, live = false): Promise<Outcome> {
  const startedAt = performance.now();
  const [command, ...parameters] = step.command;
  return new Promise((resolve) => {
    let output = "";
    const child = spawn(command, parameters, {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, ...step.env },
    });
    const take = (stream: NodeJS.WriteStream) => (chunk: Buffer) => {
      output += chunk.toString("utf8");
      if (live) stream.write(chunk);
    };
    child.stdout.on("data", take(process.stdout));
    child.stderr.on("data", take(process.stderr));
    const end = (code: number) => resolve({ step, code, output, seconds: (performance.now() - startedAt) / 1000 });
    child.on("error", (error) => {
      output += `${error.message}\n`;
      end(127);
    });
    child.on("close", (code) => end(code ?? 1));
  });
}

/** One line for an outcome, and for a failure all that it printed. */
export function report({ step, code, output, seconds }: Outcome, live = false): void {
  console.log(`${code === 0 ? "✔" : "✘"} ${step.name} (${seconds.toFixed(1)} s)`);
  if (code !== 0 && !live) console.log(output);
}
