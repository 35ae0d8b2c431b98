/** The command line of the gateway process. */
import { parseArgs } from "node:util";
import { NAME_FORM } from "../core/fields.ts";
import { type Result, ok, refuse } from "../core/result.ts";

export type Listen = { readonly host: string; readonly port: number };

export type Options = {
  readonly listen: Listen; // the OpenAI API
  readonly control: Listen; // the operator's door
  readonly metrics: Listen;
  readonly name: string; // in usage statements
  readonly tls: string; // directory of ca.crt, tls.crt and tls.key
  readonly key: string; // Ed25519, PKCS #8 PEM
  readonly state: string; // directory
  readonly answers: string | undefined; // directory
  readonly apiKeys: string | undefined; // file
  readonly lingerMs: number; // after it was told to end, before its doors close
};

export const USAGE = `usage: node gateway/main.ts --listen HOST:PORT --control HOST:PORT --metrics HOST:PORT --name NAME --tls DIR --key FILE
  --listen    the OpenAI API, HTTP
  --control   where the operator tells what there is, gRPC with mTLS
  --metrics   /metrics, /healthz, /readyz, HTTP
  --name      in usage statements; default: gateway
  --tls       directory with ca.crt, tls.crt and tls.key
  --key       Ed25519 key in PKCS #8 PEM; made if absent
  --state     directory for what must outlive a restart; default: .tessellate/NAME
  --answers   directory in which every saved answer is kept; default: none
  --api-keys  file of API keys, one a line; default: anybody may ask
  --linger    seconds for which a gateway that was told to end still takes requests, not ready any more: for as long as
              whoever sends them may take to notice; default: 0
TESSELLATE_LISTEN_HOST, where set, replaces the host of all three addresses.`;

const FLAGS = {
  listen: { type: "string", default: "127.0.0.1:8080" },
  control: { type: "string", default: "127.0.0.1:0" },
  metrics: { type: "string", default: "127.0.0.1:0" },
  name: { type: "string", default: "gateway" },
  tls: { type: "string" },
  key: { type: "string" },
  state: { type: "string" },
  answers: { type: "string" },
  "api-keys": { type: "string" },
  linger: { type: "string", default: "0" },
} as const;

/** `BadOption` names the flag. `listenHost`: of the environment. */
export function parseOptions(args: readonly string[], listenHost: string | undefined): Result<Options, "BadOption"> {
  let values: ReturnType<typeof read>;
  try {
    values = read(args);
  } catch (error) {
    return refuse("BadOption", error instanceof Error ? error.message : String(error));
  }
  const { name, tls, key } = values;
  if (tls === undefined)
    return refuse("BadOption", "--tls DIR is missing: the directory with ca.crt, tls.crt and tls.key");
  if (key === undefined)
    return refuse("BadOption", "--key FILE is missing: where this gateway's signing key lies, or is to be made");
  if (!NAME_FORM.pattern.test(name))
    return refuse("BadOption", `--name ${JSON.stringify(name)} must be ${NAME_FORM.is}`);
  const listen = parseListen(values.listen, listenHost);
  const control = parseListen(values.control, listenHost);
  const metrics = parseListen(values.metrics, listenHost);
  if (listen === undefined || control === undefined || metrics === undefined) {
    const flag = listen === undefined ? "listen" : control === undefined ? "control" : "metrics";
    return refuse("BadOption", `--${flag} ${JSON.stringify(values[flag])} must be HOST:PORT`);
  }
  if (!/^\d{1,3}$/.test(values.linger))
    return refuse("BadOption", `--linger ${JSON.stringify(values.linger)} must be whole seconds, at most 999`);
  const lingerMs = 1000 * Number(values.linger);
  const state = values.state ?? `.tessellate/${name}`;
  const { answers, "api-keys": apiKeys } = values;
  return ok({ listen, control, metrics, name, tls, key, state, answers, apiKeys, lingerMs });
}

const read = (args: readonly string[]) => parseArgs({ args: [...args], options: FLAGS, strict: true }).values;

/** `host:port`, `[::1]:port` or `:port` (every address). */
function parseListen(text: string, listenHost: string | undefined): Listen | undefined {
  const found = /^(?:\[([0-9a-fA-F:]+)\]|([^:[\]]*)):(\d{1,5})$/.exec(text);
  const port = Number(found?.[3]);
  if (found === null || port > 65_535) return undefined;
  const host = listenHost ?? found[1] ?? found[2] ?? "";
  return { host: host === "" ? "0.0.0.0" : host, port };
}
