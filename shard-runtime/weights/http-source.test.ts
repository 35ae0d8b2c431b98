import { expect } from "chai";
import { readFile } from "node:fs/promises";
import { type IncomingMessage, type Server, type ServerResponse, createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { RefusalError, valueOrThrow } from "../../core/result.ts";
import { systemClock } from "../../core/wire/clock.ts";
import { aCheckpoint, hurriedClock, removed } from "./checkpoint-builder.ts";
import { HttpSource } from "./http-source.ts";
import { openModel } from "./open-model.ts";
import { makeManifest, writeManifest } from "./pack.ts";
import { SourceUnavailable } from "./patience.ts";

type Answer = (request: IncomingMessage, response: ServerResponse, body: Uint8Array) => void;

const BODY = new Uint8Array(3 << 20).map((_, index) => (index * 31) >> 3);

/** What a good server does with a range. */
const asked = (request: IncomingMessage, body: Uint8Array) => {
  const [, start, end] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "") ?? [];
  return { start: Number(start ?? 0), end: Math.min(Number(end ?? body.length - 1) + 1, body.length) };
};
const good: Answer = (request, response, body) => {
  if (request.headers.range === undefined) {
    response.writeHead(200, { "content-length": body.length }).end(body);
    return;
  }
  const { start, end } = asked(request, body);
  response.writeHead(206, {
    "content-range": `bytes ${start}-${end - 1}/${body.length}`,
    "content-length": end - start,
  });
  response.end(body.subarray(start, end));
};
const status =
  (code: number, headers: Record<string, string> = {}): Answer =>
  (_, response) =>
    void response.writeHead(code, headers).end();
const contentRange =
  (value: string): Answer =>
  (request, response, body) => {
    const { start, end } = asked(request, body);
    response.writeHead(206, { "content-range": value }).end(body.subarray(start, end));
  };
/** Sends `byteCount` bytes of the answer, then cuts the connection. */
const cutAfter =
  (byteCount: number): Answer =>
  (request, response, body) => {
    const { start, end } = asked(request, body);
    response.writeHead(206, {
      "content-range": `bytes ${start}-${end - 1}/${body.length}`,
      "content-length": end - start,
    });
    response.write(body.subarray(start, start + byteCount), () => response.destroy());
  };

describe("models over HTTP", () => {
  let server: Server;
  let url: string;
  let requests: IncomingMessage[];
  let answers: Answer[]; // one per request; afterwards a good one
  let answersFor: readonly (readonly [RegExp, Answer[]])[]; // the same for some paths alone; they go first
  let bodyOf: (path: string) => Promise<Uint8Array>;

  beforeEach(async () => {
    requests = [];
    answers = [];
    answersFor = [];
    bodyOf = async () => BODY;
    server = createServer((request, response) => {
      requests.push(request);
      const own = answersFor.find(([path]) => path.test(request.url ?? ""))?.[1];
      const answer = (own ?? answers).shift() ?? good;
      bodyOf(request.url ?? "").then(
        (body) => answer(request, response, body),
        () => response.writeHead(404).end(),
      );
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/m`;
  });
  afterEach(() => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  });

  const sourceAt = (clock = hurriedClock(), stallMs = 30_000) =>
    new HttpSource({ kind: "http", base: new URL(url), isHub: false, shown: url }, { clock, stallMs });
  async function bytesOf(source: HttpSource, start: number, end: number): Promise<Buffer> {
    const pieces: Uint8Array[] = [];
    for await (const piece of source.stream("w.bin", { start, end }, BODY.length)) pieces.push(piece);
    return Buffer.concat(pieces);
  }
  const failure = (work: Promise<unknown>): Promise<unknown> =>
    work.then(
      () => "no failure",
      (error: unknown) => error,
    );

  it("come by range, asked for plainly", async () => {
    expect((await bytesOf(sourceAt(), 100, 2_000_000)).equals(BODY.subarray(100, 2_000_000))).to.equal(true);
    expect(requests.map(({ headers }) => [headers.range, headers["accept-encoding"]])).to.deep.equal([
      ["bytes=100-1999999", "identity"],
    ]);
    expect(requests[0]?.url).to.equal("/m/w.bin");
  });

  it("are taken up where the connection was cut, without asking for any byte again", async () => {
    answers = [cutAfter(1_000_000), cutAfter(500_000)];
    expect((await bytesOf(sourceAt(), 0, BODY.length)).equals(BODY)).to.equal(true);
    const starts = requests.map(({ headers }) => Number(/^bytes=(\d+)-/.exec(headers.range ?? "")?.[1]));
    expect(starts[0]).to.equal(0);
    expect(starts[1]).to.be.within(1, 1_000_000);
    expect(starts[2]).to.be.within(starts[1] ?? 0, 1_500_000);
  });

  it("may be tagged otherwise after a cut, and say so; another size is refused at once", async () => {
    const tagged =
      (etag: string, then: Answer): Answer =>
      (request, response, body) => {
        response.setHeader("etag", etag);
        then(request, response, body);
      };
    answers = [tagged('"one"', cutAfter(1_000_000)), tagged('"two"', good)];
    const source = sourceAt();
    expect((await bytesOf(source, 0, BODY.length)).equals(BODY)).to.equal(true);
    expect(source.changeOf("w.bin")).to.include('"one"').and.include('"two"');
    const resized: Answer = (request, response, body) => {
      const { start, end } = asked(request, body);
      response.writeHead(206, { "content-range": `bytes ${start}-${end - 1}/${body.length + 1}` }).end();
    };
    answers = [cutAfter(1_000_000), resized];
    const error = await failure(bytesOf(sourceAt(), 0, BODY.length));
    expect(error).to.be.instanceOf(RefusalError).and.include({ code: "WrongLength" });
  });

  it("may come as a shorter range than asked for; the rest is asked for then", async () => {
    answers = [
      (_, response, body) =>
        void response.writeHead(206, { "content-range": `bytes 0-9/${body.length}` }).end(body.subarray(0, 10)),
    ];
    expect((await bytesOf(sourceAt(), 0, 100)).equals(BODY.subarray(0, 100))).to.equal(true);
  });

  for (const code of [429, 500, 502, 503, 504, 408])
    it(`wait out status ${code}`, async () => {
      const clock = hurriedClock();
      answers = [status(code), status(code)];
      expect((await bytesOf(sourceAt(clock), 5, 10)).equals(BODY.subarray(5, 10))).to.equal(true);
      expect(clock.waits).to.have.length(2);
      expect(clock.waits[1]).to.be.greaterThan((clock.waits[0] ?? 0) / 2);
    });

  it("wait as long as Retry-After asks, in seconds or as a date", async () => {
    const clock = hurriedClock();
    const date = "Wed, 01 Jan 2025 00:00:00 GMT";
    answers = [
      status(503, { "retry-after": "17" }),
      status(429, { date, "retry-after": "Wed, 01 Jan 2025 00:01:00 GMT" }),
    ];
    await bytesOf(sourceAt(clock), 5, 10);
    expect(clock.waits).to.deep.equal([17_000, 60_000]);
  });

  it("are given up after a bounded number of failures, naming file and last failure", async () => {
    const clock = hurriedClock();
    answers = Array.from({ length: 50 }, () => status(503));
    const error = await failure(bytesOf(sourceAt(clock), 5, 10));
    expect(error).to.be.instanceOf(SourceUnavailable);
    expect(String(error)).to.include(`${url}/w.bin`).and.include("status 503");
    expect(requests).to.have.length(6);
  });

  it("are given up when a server sends a few bytes per connection", async () => {
    answers = Array.from({ length: 50 }, () => cutAfter(10));
    expect(await failure(bytesOf(sourceAt(), 0, BODY.length))).to.be.instanceOf(SourceUnavailable);
  });

  it("are given up when nothing listens", async () => {
    const source = sourceAt();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    const error = await failure(bytesOf(source, 0, 10));
    expect(String(error)).to.include("ECONNREFUSED");
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve)); // for afterEach
  });

  it("count as stalled when no byte comes", async () => {
    answers = [() => {}];
    expect(
      (await bytesOf(sourceAt({ ...systemClock, waits: [] }, 1_000), 0, 10)).equals(BODY.subarray(0, 10)),
    ).to.equal(true);
    expect(requests).to.have.length(2);
  });

  it("stop when the caller's signal says so, without waiting for weather to pass", async () => {
    const stop = new AbortController();
    answers = [
      (request, response) => {
        stop.abort(new Error("shutting down"));
        status(503)(request, response, BODY);
      },
    ];
    const place = { kind: "http", base: new URL(url), isHub: false, shown: url } as const;
    const error = await failure(bytesOf(new HttpSource(place, { clock: hurriedClock(), signal: stop.signal }), 0, 10));
    expect(String(error)).to.include("shutting down");
    expect(requests).to.have.length(1);
  });

  const refused: readonly {
    readonly name: string;
    readonly answer: Answer;
    readonly code: string;
    readonly says: string;
  }[] = [
    {
      name: "no range support",
      answer: (_, response, body) => void response.writeHead(200).end(body),
      code: "RangeIgnored",
      says: "206",
    },
    {
      name: "another start",
      answer: contentRange(`bytes 0-9/${BODY.length}`),
      code: "WrongContentRange",
      says: "bytes 10-19 were asked for",
    },
    {
      name: "a longer range",
      answer: contentRange(`bytes 10-99/${BODY.length}`),
      code: "WrongContentRange",
      says: "10-99",
    },
    {
      name: "an empty range",
      answer: contentRange(`bytes 10-9/${BODY.length}`),
      code: "WrongContentRange",
      says: "10-9",
    },
    {
      name: "a nonsense range",
      answer: contentRange("lines 10-19/20"),
      code: "WrongContentRange",
      says: "lines 10-19",
    },
    { name: "no Content-Range", answer: status(206), code: "WrongContentRange", says: "none" },
    { name: "a file of another size", answer: contentRange("bytes 10-19/77"), code: "WrongLength", says: "77" },
    {
      name: "more bytes than Content-Range says",
      answer: (_, response, body) =>
        void response.writeHead(206, { "content-range": `bytes 10-19/${body.length}` }).end(body.subarray(10, 25)),
      code: "WrongContentRange",
      says: "more than the 10 bytes",
    },
    {
      name: "compressed bytes",
      answer: (_, response) =>
        void response.writeHead(206, { "content-range": `bytes 10-19/${BODY.length}`, "content-encoding": "br" }).end(),
      code: "WrongContentRange",
      says: "br",
    },
    { name: "status 404", answer: status(404), code: "MissingFile", says: "404" },
    { name: "status 401", answer: status(401), code: "AccessDenied", says: "token" },
    { name: "status 403", answer: status(403), code: "AccessDenied", says: "token" },
    { name: "status 416", answer: status(416), code: "WrongLength", says: "10" },
    { name: "status 418", answer: status(418), code: "UnexpectedStatus", says: "418" },
  ];
  for (const { name, answer, code, says } of refused)
    it(`are refused at once: ${name}`, async () => {
      answers = [answer];
      const error = await failure(bytesOf(sourceAt(), 10, 20));
      expect(error).to.be.instanceOf(RefusalError).and.include({ code });
      expect(String(error)).to.include(says).and.include(`${url}/w.bin`);
      expect(requests).to.have.length(1);
    });

  describe("a whole one", () => {
    let directory: string;
    const clock = hurriedClock();
    beforeEach(async () => {
      directory = await aCheckpoint({ config: { vocab_size: 40_000 }, files: 2 });
      await writeManifest(directory, valueOrThrow(await makeManifest(directory, { clock })));
      bodyOf = (path) => readFile(join(directory, path.replace(/\?.*/, "").split("/").at(-1) ?? ""));
    });
    afterEach(() => removed(directory));

    it("is opened from a hub: its layout, its token, and not a token more after a redirect", async () => {
      const store = createServer((request, response) => {
        redirected.push(request);
        void bodyOf(request.url ?? "").then((body) => good(request, response, body));
      });
      const redirected: IncomingMessage[] = [];
      await new Promise<void>((resolve) => store.listen(0, "127.0.0.1", resolve));
      try {
        const { port } = store.address() as AddressInfo;
        const elsewhere: Answer = (request, response) =>
          void response.writeHead(302, { location: `http://127.0.0.1:${port}${request.url}` }).end();
        answersFor = [[/\.safetensors$/, [elsewhere]]];
        const huggingFace = { repo: "owner/name", revision: "v1", endpoint: new URL(url).origin };
        const model = valueOrThrow(await openModel({ huggingFace }, { clock, hubToken: "hf_secret" }));
        await model.tensors.read("norm");
        expect(requests.map((request) => request.url)).to.include("/owner/name/resolve/v1/tessellate-manifest.json");
        expect(requests.every(({ headers }) => headers.authorization === "Bearer hf_secret")).to.equal(true);
        expect(redirected).to.have.length(1);
        expect(redirected[0]?.headers).to.not.have.property("authorization");
        expect(redirected[0]?.headers).to.have.property("range");
      } finally {
        store.closeAllConnections();
        store.close();
      }
    });

    it("is fetched again once where a chunk came garbled, and refused where it stays so", async () => {
      const garbled: Answer = (request, response, body) =>
        good(
          request,
          response,
          body.map((byte, at) => (at === 1_500_000 ? byte ^ 1 : byte)),
        );
      answersFor = [[/model-00001.*\.safetensors$/, [good, garbled]]];
      const model = valueOrThrow(await openModel({ url }, { clock }));
      const weightsBytes = model.manifest.files.find(({ path }) => path.startsWith("model-00001"))?.sizeBytes ?? 0;
      const first = await model.tensors.read("embedding.weight");
      expect(first).to.have.length(40_000 * 16);
      expect(requests.map(({ headers }) => headers.range).slice(-2)).to.deep.equal([
        `bytes=1048576-${weightsBytes - 1}`,
        "bytes=1048576-2097151",
      ]);

      const again = valueOrThrow(await openModel({ url }, { clock }));
      answersFor = [[/model-00001.*\.safetensors$/, [good, garbled, garbled]]];
      const error = await failure(again.tensors.read("embedding.weight"));
      expect(error).to.be.instanceOf(RefusalError).and.include({ code: "CorruptChunk" });
      expect(String(error)).to.include("chunk 1 (bytes 1048576 to 2097152)");
    });

    it("may have its manifest elsewhere", async () => {
      const manifestUrl = `${new URL(url).origin}/elsewhere/tessellate-manifest.json?version=1`;
      valueOrThrow(await openModel({ url }, { clock, manifestUrl }));
      expect(requests[0]?.url).to.equal("/elsewhere/tessellate-manifest.json?version=1");
      valueOrThrow(await openModel({ url }, { clock, manifestUrl: join(directory, "tessellate-manifest.json") }));
    });

    it("says how to make a manifest that is missing", async () => {
      answers = [status(404)];
      const result = await openModel({ url }, { clock });
      expect(result).to.include({ ok: false, code: "MissingManifest" });
      expect(result.ok ? "" : result.detail).to.include("tessellate pack DIR");
    });
  });
});
