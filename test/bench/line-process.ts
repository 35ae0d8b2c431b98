/** A process that answers each line of JSON with one line of JSON: how both sides of a bench are asked in turns. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

export type Answer = Readonly<Record<string, unknown>>;

export type LineProcess = {
  readonly pid: number;
  ask(request: object): Promise<Answer>;
  stop(): Promise<void>;
};

const REPLY_TIMEOUT_MS = 900_000;
const KEPT_WORDS = 4000;

/** Starts `command`; what it writes to stderr is shown only where it ends before it has answered. */
export function startLineProcess(
  command: string,
  args: readonly string[],
  environment: Readonly<Record<string, string>> = {},
): LineProcess {
  const env = { ...process.env, ...environment };
  const child: ChildProcess = spawn(command, args, { stdio: ["pipe", "pipe", "pipe"], env });
  const { stdin, stdout, stderr } = child;
  if (stdin === null || stdout === null || stderr === null) throw new Error(`${command} has no pipes`);
  let words = "";
  stderr.on("data", (data: Buffer) => {
    words = (words + data.toString()).slice(-KEPT_WORDS);
  });
  const replies = createInterface({ input: stdout })[Symbol.asyncIterator]();
  return {
    pid: child.pid ?? 0,
    ask: async (request) => {
      stdin.write(`${JSON.stringify(request)}\n`);
      const timer = setTimeout(() => child.kill(), REPLY_TIMEOUT_MS);
      const reply = await replies.next();
      clearTimeout(timer);
      if (reply.done === true)
        throw new Error(`${command} ${args.join(" ")} ended: ${words.split("\n").slice(-12).join("\n")}`);
      const answer: Answer = JSON.parse(reply.value);
      return answer;
    },
    stop: async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      stdin.end();
      await once(child, "exit");
    },
  };
}
