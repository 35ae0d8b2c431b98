/** `--what-if` options as changes: the inverse of `optionOf`. Every refusal says what is expected. */
import { parseQuantity } from "../../../core/quantity.ts";
import { type Result, ok, refuse } from "../../../core/result.ts";
import { parseCredits } from "../model-spec.ts";
import type { NodeFacts } from "../types.ts";
import type { Change } from "./change.ts";
import { SETTING_NAMES, settingOf } from "./setting.ts";
import type { Known } from "./times.ts";

const NAME = /^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/;
const ADD = "add=NAME:mem=24Gi,bandwidth=300G,provider=X";
const NODE_FIELDS = ["mem", "bandwidth", "provider", "device", "region", "price", "threads"] as const;

/** One change of this world; `BadOption` where the text is none, or speaks of a node or provider that is not there. */
export function parseChange(world: Pick<Known, "model" | "nodes">, text: string): Result<Change, "BadOption"> {
  const at = text.indexOf("=");
  if (at <= 0)
    return refuse(
      "BadOption",
      `--what-if ${text}: expected ${ADD}, remove=NODE, or one of ${SETTING_NAMES.join(", ")}, with =VALUE`,
    );
  const name = text.slice(0, at);
  const value = text.slice(at + 1);
  switch (name) {
    case "add":
      return parseNode(world, value);
    case "grow":
      return parseGrowth(world, value);
    case "remove":
      return onNode(world, value, (node) => ({ do: "remove", node }));
    case "return":
      return onNode(world, value, (node) => ({ do: "return", node }));
    case "admit":
      if (!world.nodes.some(({ provider }) => provider === value))
        return refuse("BadOption", `admit=${value}: no node is of that provider`);
      return ok({ do: "admit", provider: value });
    default:
      return settingOf(world.model, name, value);
  }
}

function onNode(
  { nodes }: Pick<Known, "nodes">,
  name: string,
  change: (node: string) => Change,
): Result<Change, "BadOption"> {
  if (nodes.some((node) => node.name === name)) return ok(change(name));
  const there = nodes.map((node) => node.name).sort();
  const shown = there.length > 20 ? `${there.slice(0, 20).join(", ")} …` : there.join(", ");
  return refuse("BadOption", `there is no node ${name || "without a name"}; there are ${shown || "none"}`);
}

function parseGrowth(world: Pick<Known, "nodes">, value: string): Result<Change, "BadOption"> {
  const [name = "", size = ""] = value.split(":");
  const bytes = parseQuantity(size);
  if (!bytes.ok) return refuse("BadOption", `grow=${value}: expected grow=NODE:4Gi`);
  return onNode(world, name, (node) => ({ do: "grow", node, bytes: Math.floor(bytes.value) }));
}

function parseNode(world: Pick<Known, "nodes">, value: string): Result<Change, "BadOption"> {
  const no = (what: string) => refuse("BadOption", `add=${value}: ${what}: expected ${ADD}`);
  const at = value.indexOf(":");
  const name = at < 0 ? value : value.slice(0, at);
  if (!NAME.test(name)) return no(`${name || "nothing"} is no name of a node`);
  if (world.nodes.some((node) => node.name === name)) return no(`there is a node ${name} already`);
  const fields = new Map<string, string>();
  for (const part of at < 0 ? [] : value.slice(at + 1).split(",")) {
    const [key = "", text] = part.split("=");
    if (text === undefined || !NODE_FIELDS.some((field) => field === key))
      return no(`${part} is none of ${NODE_FIELDS}`);
    fields.set(key, text);
  }
  const memory = parseQuantity(fields.get("mem") ?? "");
  const bandwidth = parseQuantity(fields.get("bandwidth") ?? "0");
  const provider = fields.get("provider") ?? "";
  const price = fields.get("price");
  if (!memory.ok || memory.value <= 0) return no("mem is missing or no quantity");
  if (!bandwidth.ok || bandwidth.value < 0) return no("bandwidth is no quantity of bytes a second");
  if (!NAME.test(provider)) return no("provider is missing");
  if (price !== undefined && !/^\d{1,9}([.]\d{1,6})?$/.test(price)) return no("price is no number of credits an hour");
  const region = fields.get("region");
  const node: NodeFacts = {
    name,
    provider,
    providerAdmitted: true,
    ready: true,
    labels: {},
    device: fields.get("device") ?? "cpu",
    freeBytes: Math.floor(memory.value),
    memoryBytesPerSecond: bandwidth.value,
    threadCount: Math.max(1, Number(fields.get("threads") ?? "1") || 1),
    signer: "unix:/run/tessellate/signer.sock",
    ...(region === undefined ? {} : { region }),
    ...(price === undefined ? {} : { pricePerHour: parseCredits(price) }),
  };
  return ok({ do: "add", node });
}
