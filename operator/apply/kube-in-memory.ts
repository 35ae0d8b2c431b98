/** For tests: as much of an API server as the operator's copies and writes need, in this process and without a clock. */
import type { IncomingMessage } from "node:http";
import { PassThrough, Readable } from "node:stream";
import { isJsonObject, type JsonObject, parseJson } from "../../core/json.ts";
import { ApiError, KubeClient } from "../kube/client.ts";
import { type KubeObject, keyOf } from "../kube/objects.ts";
import { sameJson } from "../kube/same.ts";

type Call = Parameters<KubeClient["open"]>[0];
type Watch = { readonly plural: string; readonly selector: string | undefined; readonly stream: PassThrough };

export class KubeInMemory extends KubeClient {
  /** By `PLURAL NAMESPACE/NAME`. */
  readonly objects = new Map<string, KubeObject>();
  /** What came in over the wire, as a line each. */
  readonly written: string[] = [];
  #count = 0;
  readonly #watches = new Set<Watch>();

  constructor() {
    super({ close: () => undefined } as unknown as ConstructorParameters<typeof KubeClient>[0]);
  }

  all(plural: string): readonly KubeObject[] {
    return [...this.objects].flatMap(([place, object]) => (place.startsWith(`${plural} `) ? [object] : []));
  }

  /** As if somebody else had written it; what is not in the store yet is made. */
  put(plural: string, object: KubeObject): KubeObject {
    const place = `${plural} ${keyOf(object)}`;
    const before = this.objects.get(place);
    if (before !== undefined && sameJson(bare(before), bare(object))) return before;
    this.#count += 1;
    const isEdited = before !== undefined && !sameJson(before["spec"], object["spec"]);
    const stored = {
      ...object,
      metadata: {
        ...object.metadata,
        uid: before?.metadata.uid ?? `uid-${this.#count}`,
        generation: (before?.metadata.generation ?? 1) + (isEdited ? 1 : 0),
        resourceVersion: String(this.#count),
      },
    };
    this.objects.set(place, stored);
    this.#tell(plural, before === undefined ? "ADDED" : "MODIFIED", stored);
    return stored;
  }

  remove(plural: string, key: string): void {
    const before = this.objects.get(`${plural} ${key}`);
    if (before === undefined) return;
    this.#count += 1;
    this.objects.delete(`${plural} ${key}`);
    const metadata = { ...before.metadata, resourceVersion: String(this.#count) };
    this.#tell(plural, "DELETED", { ...before, metadata });
  }

  override async open(call: Call): Promise<IncomingMessage> {
    const path = call.path.split("/").slice(call.path.startsWith("/apis/") ? 4 : 3); // after the group and the version
    const namespace = path[0] === "namespaces" ? path[1] : undefined;
    const [plural = "", name, subresource] = namespace === undefined ? path : path.slice(2);
    const selector = call.query?.["labelSelector"] as string | undefined;
    if (call.query?.["watch"] === true) return this.#watch({ plural, selector }, call.signal ?? undefined);
    if (call.method === "GET" && name === undefined) {
      const items = this.all(plural).filter((object) => isSelected(object, selector));
      return answer({ metadata: { resourceVersion: String(this.#count) }, items });
    }
    if (call.method !== "GET") this.written.push(`${call.method} ${call.path} ${writtenBody(plural, call.body)}`);
    const key = namespace === undefined ? (name ?? "") : `${namespace}/${name ?? ""}`;
    return answer(this.#one({ ...call, plural, key, subresource }));
  }

  #one(
    call: Call & { readonly plural: string; readonly key: string; readonly subresource: string | undefined },
  ): object {
    const { method, plural, key, subresource } = call;
    const body = (parseJson(JSON.stringify(call.body ?? {})) ?? {}) as KubeObject;
    const known = this.objects.get(`${plural} ${method === "POST" ? keyOf(body) : key}`);
    if (method === "POST") {
      if (known !== undefined) throw new ApiError(409, "AlreadyExists", `there is ${plural} ${keyOf(body)}`);
      return this.put(plural, body);
    }
    const isApply = call.contentType?.includes("apply") === true;
    if (known === undefined && isApply && subresource === undefined) return this.put(plural, body);
    if (known === undefined) throw new ApiError(404, "NotFound", `there is no ${plural} ${key}`);
    if (method === "DELETE") this.remove(plural, key);
    if (method !== "PATCH") return known;
    if (subresource !== undefined) return this.put(plural, { ...known, [subresource]: body[subresource] });
    if (!isApply) return this.put(plural, merged(known, body) as KubeObject);
    return this.put(plural, { ...known, ...body, metadata: { ...known.metadata, ...body.metadata } });
  }

  #watch(what: Omit<Watch, "stream">, signal: AbortSignal | undefined): IncomingMessage {
    const watch = { ...what, stream: new PassThrough() };
    this.#watches.add(watch);
    signal?.addEventListener("abort", () => {
      this.#watches.delete(watch);
      watch.stream.destroy(signal.reason instanceof Error ? signal.reason : new Error("no longer wanted"));
    });
    return watch.stream as unknown as IncomingMessage;
  }

  #tell(plural: string, type: string, object: KubeObject): void {
    for (const watch of this.#watches)
      if (watch.plural === plural && isSelected(object, watch.selector))
        watch.stream.write(`${JSON.stringify({ type, object })}\n`);
  }
}

const answer = (value: object): IncomingMessage =>
  Readable.from([Buffer.from(JSON.stringify(value))]) as unknown as IncomingMessage;

function bare(object: KubeObject): unknown {
  const { uid: _, generation: __, resourceVersion: ___, ...metadata } = object.metadata;
  const { apiVersion: _____, kind: ______, ...rest } = object;
  return { ...rest, metadata };
}

/** Keys and certificates are others each time. */
const writtenBody = (plural: string, body: unknown): string => (plural === "secrets" ? "" : JSON.stringify(body ?? ""));

function merged(known: unknown, patch: unknown): unknown {
  if (!isJsonObject(patch)) return patch;
  const before: JsonObject = isJsonObject(known) ? known : {};
  const names = [...new Set([...Object.keys(before), ...Object.keys(patch)])];
  return Object.fromEntries(
    names.flatMap((name) => {
      if (!(name in patch)) return [[name, before[name]]];
      return patch[name] === null ? [] : [[name, merged(before[name], patch[name])]];
    }),
  );
}

/** `a=b,c in (d,e)`, which are all that the operator asks by. */
function isSelected({ metadata: { labels = {} } }: KubeObject, selector = ""): boolean {
  return [...selector.matchAll(/([^,\s=]+)(?:=([^,]*)| in \(([^)]*)\))/g)].every(([, name = "", value, values]) =>
    (value === undefined ? (values ?? "").split(",") : [value]).includes(labels[name] ?? "\0"),
  );
}
