import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import { type Outcome, tessellate } from "../../test/tessellate.ts";

const MODEL = "examples/demo/model.yaml";
const ESCAPE = String.fromCharCode(27);
const NODES = "examples/demo/nodes.yaml";

describe("tessellate plan", function () {
  this.timeout(60_000); // each call is a process
  const directory = mkdtempSync(join(tmpdir(), "tessellate-plan-"));
  after(() => rmSync(directory, { recursive: true, force: true }));

  const run = (environment: Readonly<Record<string, string>>, ...args: readonly string[]): Promise<Outcome> =>
    tessellate(["plan", ...args], { PATH: process.env["PATH"], LANG: "C.UTF-8", ...environment });
  const demo = (...args: readonly string[]) => run({}, "-f", MODEL, "--nodes", NODES, ...args);
  /** A file of examples/ with some of its text replaced. */
  const variant = (file: string, name: string, ...replaced: readonly (readonly [RegExp, string])[]): string => {
    const path = join(directory, name);
    const text = replaced.reduce((each, [pattern, by]) => each.replaceAll(pattern, by), readFileSync(file, "utf8"));
    writeFileSync(path, text.replaceAll("{path: models/demo}", `{path: ${join(process.cwd(), "models/demo")}}`));
    return path;
  };
  const SMALL = [/freeBytes: \w+/g, "freeBytes: 152Mi"] as const;

  const cases: readonly (readonly [string, () => Promise<Outcome>, number, RegExp, RegExp])[] = [
    [
      "draws a picture without colours where nobody looks",
      () => demo(),
      0,
      /^demo · f32 · 8 layers · 1 chain · .*\n\nchain 0 {3}\|[\s\S]*key {7}▓▓ campus {2}░░ garage {2}▒▒ studio/,
      /^$/,
    ],
    ["is as narrow as asked", () => demo("--width", "60"), 0, /^(?!.*[^\n]{61})[^\n]{1,60}\n/, /^$/],
    [
      "has colours where they are forced",
      () => run({ FORCE_COLOR: "1" }, "-f", MODEL, "--nodes", NODES),
      0,
      new RegExp(`${ESCAPE}\\[36m`),
      /.*/,
    ],
    [
      "has only ASCII where the locale has no more",
      () => run({ LC_ALL: "en_GB.ISO-8859-1" }, "-f", MODEL, "--nodes", NODES),
      0,
      /## campus {2}== garage/,
      /^$/,
    ],
    ["shows a table", () => demo("-o", "wide"), 0, /^chain {2}provider {2}node .* weights .* bytes$/m, /^$/],
    ["draws an SVG", () => demo("-o", "svg"), 0, /^<svg xmlns="[^"]+" viewBox[\s\S]*<\/svg>\n$/, /^$/],
    [
      "says how a Manual plan is approved",
      () => run({}, "-f", variant(MODEL, "manual.yaml", [/^spec:/gm, "spec:\n  planPolicy: Manual"]), "--nodes", NODES),
      0,
      /^kubectl -n default annotate shardplan demo\.proposed tessellate\.dev\/approved="\$\(kubectl -n default get /m,
      /^$/,
    ],
    [
      "compares two plans",
      () => demo("--what-if", "add=attic-1:mem=2Gi,bandwidth=40G,provider=attic", "--what-if", "quantization=int8"),
      0,
      /^what if {3}add a node .* · quantization int8\n[\s\S]* now +then +change\n[\s\S]*\nmoves [\s\S]*\nnow\n[\s\S]*\nthen\n/,
      /^$/,
    ],
    [
      "says what would make it fit, and how to try",
      () => run({}, "-f", MODEL, "--nodes", variant(NODES, "small.yaml", SMALL)),
      1,
      /^$/,
      /^error: .* short[: ][\s\S]*\ntry {7}--what-if [^\n]+ \(NotEnoughRoom\)\n$/,
    ],
    [
      "refuses unknown forms",
      () => demo("-o", "png"),
      1,
      /^$/,
      /-o png: choose picture, wide, table, json or svg \(BadOption\)/,
    ],
    ["refuses widths that are none", () => demo("--width", "wide"), 1, /^$/, /--width wide: expected a whole number/],
    [
      "refuses changes that are none",
      () => demo("--what-if", "remove=z"),
      1,
      /^$/,
      /there is no node z; there are campus-a1/,
    ],
    [
      "draws one plan in an SVG, not two",
      () => demo("-o", "svg", "--what-if", "replicas=2"),
      1,
      /^$/,
      /-o svg shows one plan: with --what-if choose picture or json/,
    ],
  ];
  for (const [name, outcome, code, stdout, stderr] of cases)
    it(name, async () => {
      const ran = await outcome();
      expect(ran.stderr).to.match(stderr);
      expect(ran.stdout).to.match(stdout);
      expect(ran.code).to.equal(code);
    });

  it("gives the same as data", async () => {
    const { stdout } = await demo("-o", "json");
    const plan = JSON.parse(stdout);
    expect(plan).to.include.all.keys("model", "root", "estimate", "chains", "ranks", "measured", "leftOut");
    expect(plan.chains[0].segments[0].layers[0]).to.equal(0);
    const compared = JSON.parse((await demo("-o", "json", "--what-if", "remove=studio-x1")).stdout);
    expect(compared).to.have.all.keys("whatIf", "before", "after", "moves", "loadBytes", "freedNodes");
    const small = variant(NODES, "small.yaml", SMALL);
    const refused = await run({}, "-f", MODEL, "--nodes", small, "-o", "json");
    expect(refused.code).to.equal(1);
    const { fits, code, remedies } = JSON.parse(refused.stdout);
    expect({ fits, code }).to.deep.equal({ fits: false, code: "NotEnoughRoom" });
    const [first] = remedies;
    const again = await run({}, "-f", MODEL, "--nodes", small, "-o", "json", "--what-if", ...first.whatIf);
    expect(JSON.parse(again.stdout)).to.deep.include({ whatIf: [first.words.replace(/ of any provider$/, "")] });
    expect(JSON.parse(again.stdout).after.fits).to.equal(true);
  });
});
