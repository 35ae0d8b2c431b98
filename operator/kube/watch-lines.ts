/** The wire of a watch: one JSON object a line, in a body without an end. */
import { StringDecoder } from "node:string_decoder";
import { isJsonObject, parseJson, shown } from "../../core/json.ts";
import { ApiError } from "./client.ts";
import { type KubeObject, asKubeObject } from "./objects.ts";

/** What came over the watch makes no sense, so what came before may have been incomplete. */
export class Garbled extends Error {}

export type WatchEvent =
  | { readonly type: "ADDED" | "MODIFIED" | "DELETED"; readonly object: KubeObject; readonly version: string }
  | { readonly type: "BOOKMARK"; readonly version: string };

const LINE_LENGTH_MAX = 32 << 20;

/** Throws {@link Garbled} for what is no event, {@link ApiError} where the server ends the watch with an error. */
export function parseEvent(line: string): WatchEvent {
  const event = parseJson(line);
  if (!isJsonObject(event) || !isJsonObject(event["object"])) throw new Garbled(`a watch sent ${shown(line)}`);
  const { type, object } = event;
  if (type === "ERROR") {
    const status = isJsonObject(object) ? Number(object["code"] ?? 0) : 0;
    throw new ApiError(status, "Watch", `the watch ended with ${shown(object)}`);
  }
  if (type === "BOOKMARK") return { type, version: versionOf(object) };
  if (type === "ADDED" || type === "MODIFIED" || type === "DELETED")
    return { type, object: objectIn(object), version: versionOf(object) };
  throw new Garbled(`a watch sent an event of the unknown type ${shown(type)}`);
}

function objectIn(value: unknown): KubeObject {
  try {
    return asKubeObject(value);
  } catch (cause) {
    throw new Garbled(`a watch sent ${shown(value)}`, { cause });
  }
}

function versionOf(object: unknown): string {
  const metadata = isJsonObject(object) ? object["metadata"] : undefined;
  const version = isJsonObject(metadata) ? metadata["resourceVersion"] : undefined;
  if (typeof version !== "string") throw new Garbled("a watch sent an object without a resource version");
  return version;
}

/** Complete lines of a stream; a last line without an end is half an event, and dropped. */
export async function* linesOf(stream: AsyncIterable<Buffer>, onBytes: () => void): AsyncGenerator<string> {
  const decoder = new StringDecoder("utf8");
  let rest = "";
  for await (const chunk of stream) {
    onBytes();
    rest += decoder.write(chunk);
    let end = rest.indexOf("\n");
    let start = 0;
    for (; end >= 0; end = rest.indexOf("\n", start)) {
      const line = rest.slice(start, end);
      start = end + 1;
      if (line.trim() !== "") yield line;
    }
    rest = rest.slice(start);
    if (rest.length > LINE_LENGTH_MAX)
      throw new Garbled(`a watch sent a line longer than ${LINE_LENGTH_MAX} characters`);
  }
}
