import { type Server, type ServerResponse, createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "chai";
import { SOCKET_COUNT_MAX, type Access, plainAccess } from "./access.ts";
import { ApiError, KubeClient } from "./client.ts";
import { LEASES, PODS } from "./objects.ts";

describe("KubeClient", () => {
  let server: Server;
  let answer: (path: string, response: ServerResponse) => void;
  let access: Access;
  let client: KubeClient;
  let connectionCount: number;
  beforeEach(async () => {
    connectionCount = 0;
    server = createServer((request, response) => answer(request.url ?? "", response));
    server.on("connection", () => (connectionCount += 1));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    begin();
  });
  afterEach(async () => {
    client.close();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });

  const begin = (idleMs?: number) => {
    access = plainAccess(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, idleMs);
    client = new KubeClient(access, { timeoutMs: 5_000 });
  };
  const object = JSON.stringify({ metadata: { name: "x" } });

  it("asks for a lease at once, however much else waits for an answer", async () => {
    let waitingCount = 0;
    const full = Promise.withResolvers<void>();
    answer = (path, response) => {
      if (path.includes("/leases/")) return void response.end(object);
      waitingCount += 1;
      if (waitingCount === SOCKET_COUNT_MAX) full.resolve();
    };
    const pods = Array.from({ length: 100 }, () =>
      client.create(PODS, { metadata: { name: "x", namespace: "n" } }).catch(() => undefined),
    );
    await full.promise;
    expect((await client.get(LEASES, { namespace: "n", name: "x" })).metadata.name).to.equal("x");
    expect(waitingCount, "the rest waits for a connection").to.equal(SOCKET_COUNT_MAX);
    client.close();
    server.closeAllConnections();
    server.close();
    await Promise.all(pods);
  });

  for (const [said, waitMs] of [
    ["7", 7_000],
    ["0", undefined],
    ["1e12", 60_000], // a pause of more than 2^31 ms would be none at all
    ["Fri, 01 Jan 2027 00:00:00 GMT", undefined],
    [undefined, undefined],
  ] as const) {
    it(`reads Retry-After: ${said}`, async () => {
      answer = (_, response) => {
        response.writeHead(429, said === undefined ? {} : { "retry-after": said }).end("{}");
      };
      const thrown = await client.get(PODS, { namespace: "n", name: "x" }).catch((error: unknown) => error);
      expect(thrown).to.be.instanceOf(ApiError);
      expect(thrown).to.include({ status: 429, retryAfterMs: waitMs });
    });
  }

  it("closes connections that are idle, before somebody between forgets them, and none that waits", async () => {
    client.close();
    begin(40);
    answer = (_, response) => void response.end(object);
    await client.get(PODS, { namespace: "n", name: "x" });
    await client.get(PODS, { namespace: "n", name: "x" });
    expect(connectionCount, "kept").to.equal(1);
    const closed = new Promise((resolve) => server.once("connection", (socket) => socket.once("close", resolve)));
    answer = (_, response) => void setTimeout(() => response.end(object), 150);
    await sleep(100); // longer than any is kept
    await client.get(PODS, { namespace: "n", name: "x" });
    expect(connectionCount, "made anew, and left alone while it waited").to.equal(2);
    await closed;
  });
});
