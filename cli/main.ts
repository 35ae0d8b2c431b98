/**
 * The `tessellate` command. Each subcommand is a file of its own in commands/, loaded only when it is asked for, so that
 * `verify` need not wait for what `up` needs.
 */
import { Command } from "commander";
import { RefusalError } from "../core/result.ts";

type Module = { readonly register: (program: Command) => void };

const COMMANDS: Readonly<Record<string, () => Promise<Module>>> = {
  up: () => import("./commands/up.ts"),
  plan: () => import("./commands/plan.ts"),
  chat: () => import("./commands/chat.ts"),
  verify: () => import("./commands/verify.ts"),
  balance: () => import("./commands/balance.ts"),
  settle: () => import("./commands/settle.ts"),
  pack: () => import("./commands/pack.ts"),
  eval: () => import("./commands/eval.ts"),
  provider: () => import("./commands/provider.ts"),
  node: () => import("./commands/node.ts"),
};

const program = new Command("tessellate")
  .description("Serve one large language model from the GPUs of many independent owners.")
  .version("0.1.0")
  .showHelpAfterError("(run with --help to see what is possible)")
  .configureHelp({ sortSubcommands: false });

const asked = process.argv[2];
const wanted = asked !== undefined && asked in COMMANDS ? [asked] : Object.keys(COMMANDS);
for (const name of wanted) (await COMMANDS[name]?.())?.register(program);

// A reader that has seen enough (`| head`) is no error.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(0);
  throw error;
});
try {
  await program.parseAsync();
} catch (error) {
  if (!(error instanceof RefusalError)) throw error;
  console.error(`error: ${error.message} (${error.code})`);
  process.exitCode = 1;
}
