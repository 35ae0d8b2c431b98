/** Alerts and dashboards: that they ask for what is exported, fire when they should and not before, and have a runbook. */
import { execFile } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect } from "chai";
import { stringify } from "yaml";
import { requireOrSkip } from "../requirement.ts";
import { CHART, type Rendered, only, render } from "./helm.ts";
import { exportedSeries } from "./exported-metrics.ts";

const run = promisify(execFile);
const PROMTOOL = "/usr/bin/promtool";
const CASES = "test/chart/alerts.test.yaml";
const RUNBOOKS = "docs/runbooks";

/** Series of Prometheus' own making. */
const OTHERS = new Set(["up"]);

const seriesIn = (promql: string): readonly string[] =>
  [...promql.matchAll(/\b(tessellate_\w+|process_\w+|nodejs_\w+|up)\b/g)].map(([name]) => name);

describe("alerts and dashboards", function () {
  this.timeout(120_000);
  let groups: readonly Rendered[];
  let rules: readonly Rendered[];
  let exported: ReadonlySet<string>;
  before(async () => {
    const objects = await render();
    groups = only(objects, "PrometheusRule", "tessellate").spec.groups;
    rules = groups.flatMap((group) => group.rules);
    exported = await exportedSeries();
  });

  it("ask for series that our processes export", () => {
    const panels = readdirSync(join(CHART, "dashboards")).flatMap((file): readonly Rendered[] => {
      const dashboard = JSON.parse(readFileSync(join(CHART, "dashboards", file), "utf8"));
      return dashboard.panels;
    });
    const asked = [
      ...rules.map(({ alert, expr }) => ({ where: alert, expr })),
      ...panels.flatMap(({ title, targets }) => targets.map(({ expr }: Rendered) => ({ where: title, expr }))),
    ];
    expect(asked.length).to.be.greaterThan(40);
    for (const { where, expr } of asked) {
      const series = seriesIn(expr);
      expect(series.length, `${where}: ${expr}`).to.be.greaterThan(0);
      for (const name of series)
        expect(exported.has(name) || OTHERS.has(name), `${where} asks for ${name}, which nobody exports`).to.equal(
          true,
        );
    }
  });

  it("leave no series of ours out of sight", () => {
    const everything = readdirSync(join(CHART, "dashboards"))
      .map((file) => readFileSync(join(CHART, "dashboards", file), "utf8"))
      .join(rules.map(({ expr }) => expr).join("\n"));
    const unseen = [...exported]
      .filter((name) => name.startsWith("tessellate_"))
      .map((name) => name.replace(/_(bucket|sum|count)$/, ""))
      .filter((name) => !everything.includes(name));
    expect([...new Set(unseen)]).to.deep.equal([]);
  });

  it("have one runbook for each alert, and none for others", () => {
    const pages = rules.map(({ alert, annotations }) => {
      expect(annotations.runbook, alert).to.equal(`${RUNBOOKS}/${alert}.md`);
      const page = readFileSync(annotations.runbook, "utf8");
      expect(page).to.match(new RegExp(`^# ${alert}: .+\\n\\n.+\\n\\n## Look\\n\\n- .+\\n\\n## Do\\n\\n- `, "s"));
      return `${alert}.md`;
    });
    expect(readdirSync(RUNBOOKS).sort()).to.deep.equal(["README.md", ...pages].sort());
  });

  it("link the runbooks where they are published", async () => {
    const objects = await render({ "prometheusRules.runbookUrl": "https://runbooks.example/" });
    const [rule] = only(objects, "PrometheusRule", "tessellate").spec.groups[0].rules;
    expect(rule.annotations.runbook_url).to.equal(`https://runbooks.example/${rule.alert}.md`);
  });

  it("fire when they should, and not before (promtool)", async function () {
    if (!existsSync(PROMTOOL)) requireOrSkip(this, `${PROMTOOL} is not there (on Debian: apt-get install prometheus)`);
    const folder = mkdtempSync(join(tmpdir(), "tessellate-alerts-"));
    try {
      writeFileSync(join(folder, "alerts.yaml"), stringify({ groups }));
      const cases = readFileSync(CASES, "utf8");
      writeFileSync(join(folder, "cases.yaml"), cases);
      for (const { alert } of rules)
        expect(cases.match(new RegExp(`alertname: ${alert}\\b`, "g")) ?? [], alert).to.have.length.of.at.least(2);
      const ended = await run(PROMTOOL, ["test", "rules", join(folder, "cases.yaml")]).catch(
        (error: { readonly stdout: string; readonly stderr: string }) => error,
      );
      expect(`${ended.stdout}${ended.stderr}`).to.contain("SUCCESS").and.not.to.contain("FAILED");
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
