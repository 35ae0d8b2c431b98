/** The reflector against a server that behaves as badly as servers, balancers and networks do. */
import { type IncomingMessage, type Server, type ServerResponse, createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { expect } from "chai";
import { systemClock } from "../clock.ts";
import { plainAccess } from "./access.ts";
import { KubeClient } from "./client.ts";
import type { KubeObject } from "./objects.ts";
import { type Change, Reflector, type ReflectorOptions } from "./reflector.ts";

type Answer = (response: ServerResponse, query: URLSearchParams) => void;

/** Serves pods from a map; each watch is answered by the next of `watches`, the last one again and again. */
class FakeServer {
  readonly objects = new Map<string, KubeObject>();
  readonly queries: URLSearchParams[] = [];
  lists: Answer[] = []; // answers of the next lists; then the map's
  watches: Answer[] = [];
  version = 100;
  #server: Server | undefined;

  async start(): Promise<string> {
    this.#server = createServer((request, response) => this.#answer(request, response));
    await new Promise<void>((resolve) => this.#server?.listen(0, "127.0.0.1", resolve));
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  stop(): void {
    this.#server?.closeAllConnections();
    this.#server?.close();
  }

  put(name: string, set: Readonly<Record<string, unknown>> = {}): KubeObject {
    this.version += 1;
    const uid = this.objects.get(name)?.metadata.uid ?? `uid-${this.version}`;
    const object = {
      kind: "Pod",
      apiVersion: "v1",
      metadata: { name, namespace: "n", uid, resourceVersion: String(this.version) },
      ...set,
    };
    this.objects.set(name, object);
    return object;
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const { searchParams } = new URL(request.url ?? "", "http://fake");
    this.queries.push(searchParams);
    if (searchParams.get("watch") === "true") {
      const next = this.watches.length > 1 ? this.watches.shift() : this.watches[0];
      next?.(response, searchParams);
      return;
    }
    const scripted = this.lists.shift() ?? this.list;
    scripted(response, searchParams);
  }

  readonly list: Answer = (response, query) => {
    const all = [...this.objects.values()];
    const start = Number(query.get("continue") ?? 0);
    const end = start + Number(query.get("limit") ?? Number.POSITIVE_INFINITY);
    const metadata = { resourceVersion: String(this.version), ...(end < all.length ? { continue: String(end) } : {}) };
    // As a real one does where only names are asked for.
    response.end(JSON.stringify({ metadata, items: all.length === 0 ? null : all.slice(start, end) }));
  };
}

const status =
  (code: number, reason: string): Answer =>
  (response) => {
    response.statusCode = code;
    response.end(JSON.stringify({ kind: "Status", code, reason, message: reason }));
  };
const event = (type: string, object: unknown) => `${JSON.stringify({ type, object })}\n`;
const quiet: Answer = (response) => response.flushHeaders();
const closed: Answer = (response) => response.end();
const reset: Answer = (response) => response.socket?.resetAndDestroy();
const send =
  (...lines: string[]): Answer =>
  (response) =>
    void response.write(lines.join(""));

describe("Reflector", () => {
  let server: FakeServer;
  let client: KubeClient;
  let stop: AbortController;
  let changes: Change[];
  let troubles: string[];
  let ended: Promise<void>;
  let onEach: (() => void)[];

  beforeEach(async () => {
    server = new FakeServer();
    client = new KubeClient(plainAccess(await server.start()));
    stop = new AbortController();
    changes = [];
    troubles = [];
    onEach = [];
    server.watches = [quiet];
  });

  afterEach(async () => {
    stop.abort();
    server.stop();
    await ended;
    client.close();
  });

  const start = (set: Partial<ReflectorOptions> = {}): Reflector => {
    const reflector = new Reflector({
      client,
      clock: systemClock(),
      resource: { group: "", version: "v1", kind: "Pod", plural: "pods", namespaced: true },
      onChange: (change) => {
        changes.push(change);
        for (const look of onEach) look();
      },
      onTrouble: (detail) => void troubles.push(detail),
      backOff: { leastMs: 5, mostMs: 20 },
      ...set,
    });
    ended = reflector.run(stop.signal);
    return reflector;
  };
  const shown = () => changes.map(({ type, object }) => `${type} ${object.metadata.name}`);
  const until = (condition: () => boolean): Promise<void> =>
    new Promise((resolve) => {
      if (condition()) return resolve();
      onEach.push(() => condition() && resolve());
    });

  it("lists in pages, then watches from where the list ended, with bookmarks and a time limit", async () => {
    for (const name of ["a", "b", "c", "d", "e"]) server.put(name);
    server.watches = [(response) => void response.write(event("ADDED", server.put("f")))];
    const reflector = start({ pageCount: 2, labelSelector: "x=y" });
    await until(() => changes.length === 6);
    expect(shown()).to.deep.equal(["added a", "added b", "added c", "added d", "added e", "added f"]);
    expect(server.queries.map((query) => query.get("continue"))).to.deep.equal([null, "2", "4", null]);
    const watch = server.queries.at(-1);
    expect(watch?.get("resourceVersion")).to.equal("105");
    expect(watch?.get("allowWatchBookmarks")).to.equal("true");
    expect(watch?.get("labelSelector")).to.equal("x=y");
    expect(Number(watch?.get("timeoutSeconds"))).to.be.within(300, 600);
    expect(reflector.all()).to.have.lengthOf(6);
  });

  it("goes on from the last event after a reset, a clean close and a refused watch", async () => {
    server.watches = [
      (response) => {
        response.write(event("ADDED", server.put("a")));
        setImmediate(() => response.socket?.resetAndDestroy());
      },
      closed,
      reset,
      status(500, "InternalError"),
      (response) => void response.write(event("MODIFIED", server.put("a"))),
    ];
    start();
    await until(() => changes.length === 2);
    expect(shown()).to.deep.equal(["added a", "changed a"]);
    expect(
      server.queries.filter((query) => query.get("watch")).map((query) => query.get("resourceVersion")),
    ).to.deep.equal(["100", "101", "101", "101", "101"]);
  });

  for (const [name, answer] of [
    ["a 410 to the watch", status(410, "Expired")],
    ["a 410 within the watch", send(event("ERROR", { kind: "Status", code: 410, reason: "Expired" }))],
    ["garbage", send("{not json\n")],
    ["an object without a name", send(event("ADDED", { metadata: {} }))],
    ["an event of no known type", send(event("RENAMED", { metadata: { name: "a" } }))],
  ] as const) {
    it(`lists anew after ${name}, and reports what vanished meanwhile`, async () => {
      server.put("stays");
      server.put("goes");
      server.watches = [
        (response, query) => {
          server.objects.delete("goes");
          server.put("comes");
          answer(response, query);
        },
        quiet,
      ];
      start();
      await until(() => changes.length === 4);
      expect(shown()).to.deep.equal(["added stays", "added goes", "deleted goes", "added comes"]);
      expect(troubles).to.have.lengthOf(1);
    });
  }

  it("remembers bookmarks, so that a quiet watch does not grow old", async () => {
    server.version = 777;
    server.watches = [
      (response) => response.end(event("BOOKMARK", { kind: "Pod", metadata: { resourceVersion: "777" } })),
      (response) => void response.write(event("ADDED", server.put("a"))),
    ];
    start();
    await until(() => changes.length === 1);
    expect(server.queries.at(-1)?.get("resourceVersion")).to.equal("777");
  });

  it("gives up a connection that has gone silent", async () => {
    server.watches = [quiet, quiet, (response) => void response.write(event("ADDED", server.put("a")))];
    start({ silenceMs: 30 });
    await until(() => changes.length === 1);
    expect(troubles.join()).to.contain("not a byte for 30 ms");
  });

  it("takes events that come in pieces, and drops half an event at the end of a watch", async () => {
    const text = event("ADDED", server.put("ä"));
    const bytes = Buffer.from(text);
    const cut = bytes.indexOf(0xc3) + 1; // within the letter
    server.objects.clear();
    server.version = 100; // what comes is news to whoever lists
    server.watches = [
      (response) => {
        server.version = 101;
        response.write(bytes.subarray(0, cut));
        setImmediate(() => response.write(bytes.subarray(cut)));
        setTimeout(() => response.end('{"type":"ADDED","obj'), 10);
      },
      (response) => void response.write(event("ADDED", server.put("b"))),
    ];
    start();
    await until(() => changes.length === 2);
    expect(shown()).to.deep.equal(["added ä", "added b"]);
    expect(troubles).to.deep.equal([]);
  });

  it("begins a list again whose next page has expired", async () => {
    for (const name of ["a", "b", "c"]) server.put(name);
    server.lists = [server.list, status(410, "Expired")];
    start({ pageCount: 2 });
    await until(() => changes.length === 3);
    expect(shown()).to.deep.equal(["added a", "added b", "added c"]);
  });

  it("lists in one where a server forgets a list before its last page is asked for, and in pages after that", async () => {
    for (const name of ["a", "b", "c"]) server.put(name);
    const expires: Answer = (response, query) =>
      (query.has("continue") ? status(410, "Expired") : server.list)(response, query);
    server.lists = Array.from({ length: 10 }, () => expires);
    server.watches = [
      (response, query) => {
        server.lists = [];
        server.put("d");
        status(410, "Expired")(response, query);
      },
      quiet,
    ];
    start({ pageCount: 2 });
    await until(() => changes.length === 4);
    const lists = server.queries.filter((query) => !query.has("watch"));
    expect(lists.map((query) => [query.get("limit"), query.get("continue")])).to.deep.equal([
      ["2", null],
      ["2", "2"],
      [null, null],
      ["2", null],
      ["2", "2"],
    ]);
  });

  it("tells of an object that was deleted and made anew unseen as two objects", async () => {
    server.put("a");
    server.watches = [
      (response, query) => {
        server.objects.delete("a");
        server.put("a");
        status(410, "Expired")(response, query);
      },
      quiet,
    ];
    start();
    await until(() => changes.length === 3);
    expect(shown()).to.deep.equal(["added a", "deleted a", "added a"]);
  });

  it("does not tell of what did not change", async () => {
    server.put("a");
    server.watches = [status(410, "Expired"), (response) => void response.write(event("ADDED", server.put("b")))];
    start();
    await until(() => changes.length === 2);
    expect(shown()).to.deep.equal(["added a", "added b"]);
  });

  it("is not moved by an event told twice, nor by the ghost of an object that is gone", async () => {
    const ghost = server.put("ghost");
    const old = server.put("a");
    server.watches = [
      (response) => {
        const now = server.put("a");
        const gone = { ...ghost, metadata: { ...ghost.metadata, resourceVersion: "104" } };
        server.version = 104;
        server.objects.delete("ghost");
        const told = [event("MODIFIED", now), event("DELETED", gone)];
        response.write([...told, event("ADDED", ghost), event("MODIFIED", old), ...told].join(""));
        response.write(event("ADDED", server.put("b")));
      },
    ];
    const reflector = start();
    await until(() => changes.length === 5);
    expect(shown()).to.deep.equal(["added ghost", "added a", "changed a", "deleted ghost", "added b"]);
    expect(reflector.get("n/a")?.metadata.resourceVersion).to.equal("103");
  });

  for (const [name, meanwhile, told] of [
    ["an addition", () => server.put("b"), "added b"],
    ["a change", () => server.put("a"), "changed a"],
    ["a deletion", () => void server.objects.delete("a"), "deleted a"],
  ] as const) {
    it(`finds ${name} that the watch left out`, async () => {
      server.put("a");
      server.watches = [
        (response) => {
          meanwhile();
          response.write(event("ADDED", server.put("c")));
        },
        quiet,
      ];
      const reflector = start({ checkMs: 30, graceMs: 5 });
      await until(() => changes.length === 3);
      expect(shown().slice(0, 2)).to.deep.equal(["added a", "added c"]);
      expect(shown()[2]).to.equal(told);
      expect(reflector.counts).to.include({ lists: 2, missed: 1 });
    });
  }

  it("finds nothing amiss where a watch tells late what a check has seen", async () => {
    server.put("a");
    server.watches = [
      (response) => void setTimeout(() => response.write(event("MODIFIED", server.put("a"))), 50),
      quiet,
    ];
    const reflector = start({ checkMs: 20, graceMs: 20 });
    await until(() => changes.length === 2);
    expect(reflector.counts).to.include({ lists: 1, missed: 0 });
  });

  it("finds nothing amiss where there is nothing at all", async () => {
    const checked = Promise.withResolvers<void>();
    server.watches = [(response) => void checked.promise.then(() => response.write(event("ADDED", server.put("a"))))];
    server.lists = [
      server.list,
      (response, query) => {
        server.list(response, query);
        checked.resolve();
      },
    ];
    const reflector = start({ checkMs: 30, graceMs: 5 });
    await until(() => changes.length === 1);
    expect(reflector.counts).to.include({ lists: 1, missed: 0 });
    expect(troubles).to.deep.equal([]);
  });

  it("does not go back to a list from a server that lags, unless that goes on and on", async () => {
    server.put("a");
    const old = JSON.stringify({ metadata: { resourceVersion: "50" }, items: [] });
    const lagging: Answer = (response) => response.end(old);
    server.watches = [
      (response, query) => {
        server.lists = [lagging, lagging];
        server.put("b");
        status(410, "Expired")(response, query);
      },
      (response, query) => {
        server.lists = Array.from({ length: 5 }, () => lagging);
        status(410, "Expired")(response, query);
      },
      quiet,
    ];
    start();
    await until(() => changes.length === 4);
    expect(shown()).to.deep.equal(["added a", "added b", "deleted a", "deleted b"]);
  });

  it("keeps an index up to date", async () => {
    server.put("a", { spec: { node: "x" } });
    server.watches = [(response) => void response.write(event("MODIFIED", server.put("a", { spec: { node: "y" } })))];
    const reflector = start({ indexBy: (object) => (object["spec"] as { node: string }).node });
    await until(() => changes.length === 2);
    expect(reflector.indexed("x")).to.deep.equal([]);
    expect(reflector.indexed("y").map(({ metadata }) => metadata.name)).to.deep.equal(["a"]);
  });

  it("ends where a handler throws, since that is a bug of ours", async () => {
    server.put("a");
    start({
      onChange: () => {
        throw new Error("a bug");
      },
    });
    const thrown = await ended.then(
      () => "nothing",
      (error: Error) => error.message,
    );
    ended = Promise.resolve();
    expect(thrown).to.equal("a bug");
  });

  it("waits as long as a busy server asks", async () => {
    const pauses: number[] = [];
    server.lists = [
      (response) => {
        response.statusCode = 429;
        response.setHeader("retry-after", "7");
        response.end("{}");
      },
    ];
    const real = systemClock();
    const sleep = async (milliseconds: number, signal?: AbortSignal) => {
      pauses.push(milliseconds);
      if (milliseconds !== 7000) await real.sleep(milliseconds, signal);
    };
    await start({ clock: { ...real, sleep } }).firstList;
    expect(pauses).to.include(7000);
  });
});
