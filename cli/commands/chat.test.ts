/** `tessellate chat` as a process of its own, against a gateway whose ranks are stopped. */
import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect } from "chai";
import { verifyAnswer } from "../../core/answer-verification.ts";
import { type TestGateway, startTestGateway } from "../../test/gateway/start.ts";
import { END_OF_TURN } from "../../test/gateway/tiny-model.ts";

const MAIN = fileURLToPath(new URL("./chat.ts", import.meta.url));
/** The command alone, as cli/main.ts would load it. */
const PROGRAM = `
  import { Command } from "commander";
  import { register } from ${JSON.stringify(MAIN)};
  const program = new Command("tessellate");
  register(program);
  await program.parseAsync().catch((error) => { console.error("error: " + error.message + " (" + error.code + ")"); process.exitCode = 1; });
`;

describe("tessellate chat", () => {
  let gateway: TestGateway;
  const answer = [...new TextEncoder().encode("A shard, naïvely.")];

  before(async () => {
    gateway = await startTestGateway();
  });
  after(async () => gateway.close());
  beforeEach(() => gateway.wire.say(answer, END_OF_TURN));

  const chat = async (args: readonly string[], input = "", url = gateway.url) => {
    const child = spawn(process.execPath, ["--input-type=module", "-e", PROGRAM, "chat", "--url", url, ...args], {
      cwd: fileURLToPath(new URL("../../", import.meta.url)),
    });
    const [out, error]: string[] = ["", ""];
    const said = { out: out ?? "", error: error ?? "" };
    child.stdout.on("data", (data) => (said.out += String(data)));
    child.stderr.on("data", (data) => (said.error += String(data)));
    child.stdin.end(input);
    const code = await new Promise<number | null>((resolve) => child.once("close", resolve));
    return { ...said, code };
  };

  it("asks one question of the first model and prints nothing but the answer", async () => {
    expect(await chat(["What", "is", "a", "shard?", "--max-tokens", "40", "--seed", "3"])).to.deep.equal({
      out: "A shard, naïvely.\n",
      error: "",
      code: 0,
    });
    expect(gateway.wire.opened.at(-1)?.sampler.seed[0]).to.equal(3);
  });

  it("takes its question from stdin, and the URL with or without /v1", async () => {
    expect(
      await chat(["--model", "tiny", "--system", "Be short."], "What is a shard?\n", `${gateway.url}/v1/`),
    ).to.include({ out: "A shard, naïvely.\n", code: 0 });
  });

  it("keeps the answer with its receipts", async () => {
    const directory = await mkdtemp(join(tmpdir(), "tessellate-chat-"));
    const file = join(directory, "answer.json");
    const { error, code } = await chat(["hello", "--save", file]);
    expect([code, error]).to.deep.equal([0, `saved; check it with: tessellate verify ${file}\n`]);
    expect(verifyAnswer(await readFile(file)).problems).to.deep.equal([]);
    await rm(directory, { recursive: true });
  });

  it("says in one line what is wrong", async () => {
    const cases = [
      [["hello", "--model", "nope"], /^error: the model "nope" does not exist; .* \(model_not_found\)\n$/],
      [["hello", "--temperature", "hot"], /^error: --temperature "hot" is no number \(BadOption\)\n$/],
      [
        ["hello", "--temperature", "7"],
        /^error: temperature: must be a number within 0\.\.2, not 7 \(invalid_value\)\n$/,
      ],
      [[], /nothing came on stdin/],
    ] as const;
    for (const [args, says] of cases) {
      const { out, error, code } = await chat(args);
      expect([out, code]).to.deep.equal(["", 1]);
      expect(error).to.match(says);
    }
    expect((await chat(["hello"], "", "http://127.0.0.1:1")).error).to.match(/127\.0\.0\.1:1 does not answer/);
  });
});
