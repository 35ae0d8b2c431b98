/** What `helm test` runs, against a gateway that answers as it should, and against some that do not. */
import { execFile } from "node:child_process";
import { createServer } from "node:http";
import { expect } from "chai";
import { only, render } from "./helm.ts";

type Reply = { readonly status?: number; readonly body: object };
type Case = {
  readonly name: string;
  readonly environment?: Readonly<Record<string, string>>;
  readonly models?: readonly string[];
  readonly answer?: Reply;
  readonly says: RegExp;
  readonly code: number;
};

const completion = (content: string): Reply => ({
  body: { choices: [{ message: { content } }], usage: { completion_tokens: 3 } },
});

const CASES: readonly Case[] = [
  {
    name: "the first model, and prints its answer",
    models: ["a/demo", "a/other"],
    says: /^a\/demo, asked "What is a shard\?", answered with 3 tokens:\nA part\.\n$/,
    code: 0,
  },
  {
    name: "the model that it is told to",
    environment: { MODEL: "a/other" },
    models: ["a/demo", "a/other"],
    says: /^a\/other,/,
    code: 0,
  },
  { name: "nobody where there is no model", says: /no model is served; it serves: nothing/, code: 1 },
  {
    name: "nobody where its model is not served",
    environment: { MODEL: "b" },
    models: ["a"],
    says: /the gateway does not serve b; it serves: a/,
    code: 1,
  },
  {
    name: "and says what a refusal says",
    models: ["a"],
    answer: { status: 503, body: { error: { message: "no chain is ready" } } },
    says: /answered with 503: .*no chain is ready/,
    code: 1,
  },
  {
    name: "and takes no empty answer",
    models: ["a"],
    answer: completion(" "),
    says: /a answered with nothing/,
    code: 1,
  },
];

describe("helm test asks", function () {
  this.timeout(60_000);
  let container: {
    readonly command: readonly string[];
    readonly args: readonly string[];
    readonly env: readonly Variable[];
  };
  before(async () => {
    [container] = only(await render({ "gateway.apiKeysSecret": "keys" }), "Pod", "tessellate-test").spec.containers;
  });

  for (const { name, environment = {}, models = [], answer = completion("A part."), says, code } of CASES) {
    it(name, async () => {
      const keys: (string | undefined)[] = [];
      const server = createServer((request, response) => {
        keys.push(request.headers.authorization);
        const reply = request.url === "/v1/models" ? { body: { data: models.map((id) => ({ id })) } } : answer;
        response.writeHead("status" in reply ? (reply.status ?? 200) : 200).end(JSON.stringify(reply.body));
      });
      const port = await new Promise<number>((resolve) =>
        server.listen(0, "127.0.0.1", () => {
          const address = server.address();
          resolve(typeof address === "object" && address !== null ? address.port : 0);
        }),
      );
      const set = Object.fromEntries(container.env.map(({ name: key, value = "" }) => [key, value]));
      const env = { ...set, GATEWAY: `http://127.0.0.1:${port}`, API_KEYS: "\nfirst\nsecond\n", ...environment };
      const ended = await started([...container.command, ...container.args], env);
      server.close();
      expect(ended.said).to.match(says);
      expect(ended.code).to.equal(code);
      expect(new Set(keys)).to.deep.equal(new Set(["Bearer first"]));
    });
  }
});

type Variable = { readonly name: string; readonly value?: string };

const started = (command: readonly string[], env: NodeJS.ProcessEnv): Promise<{ said: string; code: number }> =>
  new Promise((resolve) => {
    execFile(process.execPath, command.slice(1), { env }, (error, stdout, stderr) =>
      resolve({ said: stdout + stderr, code: typeof error?.code === "number" ? error.code : 0 }),
    );
  });
